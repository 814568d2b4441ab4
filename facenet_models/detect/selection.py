"""Which of several faces in an image to keep."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from facenet_common.errors import UsageError
from facenet_models.detect.boxes import Indices
from facenet_models.detect.images import is_pil, to_rgb
from facenet_models.detect.types import SelectionMethod

METHODS: tuple[str, ...] = get_args(SelectionMethod)


def check_method(method: str) -> None:
    """UsageError unless `method` is one of `METHODS`."""
    if method not in METHODS:
        raise UsageError(
            f"there is no selection method {method!r}", expected=" or ".join(map(repr, METHODS))
        )


def areas(boxes: np.ndarray) -> np.ndarray:
    """Width x height of boxes ``(N, 4)``."""
    found: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def descending(values: np.ndarray) -> Indices:
    """Indices that sort `values` from the greatest down."""
    return np.argsort(values)[::-1]


def best(
    boxes: np.ndarray,
    scores: np.ndarray,
    image: Any,
    method: str,
    threshold: float,
    center_weight: float,
) -> int | None:
    """Index of the face to keep; None if there is none that `method` accepts.

    Args:
        boxes: ``(N, 4)``, N at least 1.
        scores: ``(N,)``.
        image: Whose size says where the centre is.
        method: "probability": the highest. "largest": the largest area.
            "largest_over_threshold": the largest of those with a probability over `threshold`.
            "center_weighted_size": the largest after `center_weight` times the squared distance
            of the box's centre from the image's, in pixels, is taken off its area.
    """
    if method == "probability":
        merit = scores
    elif method == "center_weighted_size":
        height, width = size_of(image)
        middles = np.stack([boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]], axis=1) / 2
        distances = np.sum((middles - (width / 2, height / 2)) ** 2, axis=1)
        merit = areas(boxes) - distances * center_weight
    else:
        merit = areas(boxes)
    if method == "largest_over_threshold":
        good = np.flatnonzero(scores > threshold)
        return int(good[descending(merit[good])[0]]) if good.size else None
    return int(descending(merit)[0])


def size_of(image: Any) -> tuple[int, int]:
    """Height and width of an image of any accepted kind."""
    if is_pil(image):
        return image.height, image.width
    height, width = to_rgb(image).shape[:2]
    return height, width
