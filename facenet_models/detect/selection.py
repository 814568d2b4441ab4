"""Choose which of several faces in an image to keep."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from facenet_common.errors import UsageError
from facenet_models.detect.boxes import Indices
from facenet_models.detect.images import is_pil, to_rgb
from facenet_models.detect.types import SelectionMethod

METHODS: tuple[str, ...] = get_args(SelectionMethod)


def check_method(method: str) -> str:
    """Return `method`; raise UsageError unless it is one of `METHODS`.

    facenet-pytorch's documentation spells one of them wrong; that spelling is taken too:
    https://github.com/timesler/facenet-pytorch/blob/v2.5.3/models/mtcnn.py

    Examples:
        >>> check_method("largest_over_theshold")
        'largest_over_threshold'
    """
    method = {"largest_over_theshold": "largest_over_threshold"}.get(method, method)
    if method not in METHODS:
        raise UsageError(
            f"unknown selection method {method!r}", expected=" or ".join(map(repr, METHODS))
        )
    return method


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes ``(N, 4)``.

    Examples:
        >>> box_areas(np.array([[0, 0, 10, 20]])).tolist()
        [200]
    """
    found: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def argsort_descending(values: np.ndarray) -> Indices:
    """Return the indices that sort `values` in descending order."""
    return np.argsort(values)[::-1]


def best_face(
    boxes: np.ndarray,
    scores: np.ndarray,
    image: Any,
    method: str,
    threshold: float,
    center_weight: float,
) -> int | None:
    """Return the index of the face to keep; None if `method` accepts none.

    Args:
        boxes: ``(N, 4)``, N at least 1.
        scores: ``(N,)``.
        image: The image of the faces; its size gives its centre.
        method: "probability": the highest. "largest": the largest area.
            "largest_over_threshold": the largest of those with a probability over `threshold`.
            "center_weighted_size": the largest after `center_weight` times the squared distance
            of the box's centre from the image's, in pixels, is subtracted from its area.
        threshold: See `method`.
        center_weight: See `method`.
    """
    if method == "probability":
        merit = scores
    elif method == "center_weighted_size":
        height, width = image_size(image)
        middles = np.stack([boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]], axis=1) / 2
        distances = np.sum((middles - (width / 2, height / 2)) ** 2, axis=1)
        merit = box_areas(boxes) - distances * center_weight
    else:
        merit = box_areas(boxes)
    if method == "largest_over_threshold":
        good = np.flatnonzero(scores > threshold)
        return int(good[argsort_descending(merit[good])[0]]) if good.size else None
    return int(argsort_descending(merit)[0])


def image_size(image: Any) -> tuple[int, int]:
    """Return height and width of an image of any accepted kind."""
    if is_pil(image):
        return image.height, image.width
    height, width = to_rgb(image).shape[:2]
    return height, width
