"""The faces of one frame, without and with the numbers of their tracks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Detections(NamedTuple):
    """Faces found in one frame. Empty arrays if there are none.

    Attributes:
        boxes: ``(N, 4)`` float32: left, top, right, bottom in pixels.
        probs: ``(N,)`` float32.
        points: ``(N, 5, 2)`` float32: the landmarks, as `facenet_models.MTCNN.detect` returns them.
        embeddings: ``(N, D)``, none of length 0; or None.
    """

    boxes: np.ndarray
    probs: np.ndarray
    points: np.ndarray
    embeddings: np.ndarray | None = None

    @classmethod
    def from_mtcnn(cls, boxes: Any, probs: Any, points: Any) -> Detections:
        """Convert the results of `MTCNN.detect(image, landmarks=True)` for one image.

        Examples:
            >>> len(Detections.from_mtcnn(None, [None], None).boxes)
            0
        """
        if boxes is None:
            boxes = probs = points = ()
        return cls(
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.asarray(probs, np.float32).reshape(-1),
            np.asarray(points, np.float32).reshape(-1, 5, 2),
        )

    def select(self, rows: Any) -> Detections:
        """Return the faces at `rows`, any index of NumPy."""
        vectors = None if self.embeddings is None else self.embeddings[rows]
        return Detections(self.boxes[rows], self.probs[rows], self.points[rows], vectors)


class Tracked(NamedTuple):
    """Faces of one frame with numbers.

    Attributes:
        ids: ``(N,)`` int64: the numbers of the tracks, from 1.
        boxes: As in `Detections`; so are `probs` and `points`.
    """

    ids: np.ndarray
    boxes: np.ndarray
    probs: np.ndarray
    points: np.ndarray
