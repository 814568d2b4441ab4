"""The faces of one frame: before they have numbers, and after."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Detections(NamedTuple):
    """Faces found in one frame. Empty arrays if there are none.

    Attributes:
        boxes: ``(N, 4)`` float32: left, top, right, bottom in pixels.
        probs: ``(N,)`` float32.
        points: ``(N, 5, 2)`` float32: the landmarks, as `facenet_models.MTCNN.detect` gives them.
        embeddings: ``(N, D)`` of any length greater than 0, or None.
    """

    boxes: np.ndarray
    probs: np.ndarray
    points: np.ndarray
    embeddings: np.ndarray | None = None

    @classmethod
    def of(cls, boxes: Any, probs: Any, points: Any) -> Detections:
        """What `MTCNN.detect(image, landmarks=True)` answers for one image."""
        if boxes is None:
            boxes = probs = points = ()
        return cls(
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.asarray(probs, np.float32).reshape(-1),
            np.asarray(points, np.float32).reshape(-1, 5, 2),
        )

    def take(self, rows: Any) -> Detections:
        """Only `rows`, an index of any kind."""
        vectors = None if self.embeddings is None else self.embeddings[rows]
        return Detections(self.boxes[rows], self.probs[rows], self.points[rows], vectors)


class Tracked(NamedTuple):
    """Faces of one frame with their numbers: `Detections`, and ``ids (N,)`` int64 from 1."""

    ids: np.ndarray
    boxes: np.ndarray
    probs: np.ndarray
    points: np.ndarray
