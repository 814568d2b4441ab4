"""Box arithmetic and non-maximum suppression, in NumPy and in the dtype of the given boxes.

Boxes are ``(N, 4)``: left, top, right, bottom in pixels, counted from 1, with both corners inside
the box, as in the MATLAB program that the original was translated from
(https://github.com/kpzhang93/MTCNN_face_detection_alignment). Results depend on the dtype:
facenet-pytorch computes in float32 and the original in float64, and both round to whole pixels in
between.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Indices = NDArray[np.intp]

BLOCK = 64  # boxes that `nms` compares at a time; affects its speed alone
STRIDE = 2  # pixels of the resampled image between two windows of P-Net
CELL = 12  # pixels that one window of P-Net covers


class NmsRule(NamedTuple):
    """How non-maximum suppression measures an overlap and orders boxes.

    Attributes:
        pixel: Added to right - left to give a width: 1 if both edges are inside the box, else 0.
        denominator: Divide the intersection by the "union", or by the "smaller" of both boxes.
        last_first: Of boxes with equal scores, take the one listed last first.
    """

    pixel: int
    denominator: str
    last_first: bool


TORCHVISION = NmsRule(pixel=0, denominator="union", last_first=False)
UNION = NmsRule(pixel=1, denominator="union", last_first=True)  # the original's "Union"
SMALLER = NmsRule(pixel=1, denominator="smaller", last_first=True)  # the original's "Min"


def nms(boxes: Array, scores: Array, threshold: float, rule: NmsRule) -> Indices:
    """Keep the boxes that no better kept box overlaps by more than `threshold`.

    Args:
        boxes: ``(N, 4)``.
        scores: ``(N,)``.
        threshold: Largest overlap of two kept boxes, 0 to 1.
        rule: How an overlap is measured.

    Returns:
        Indices of the kept boxes, best first.

    Examples:
        >>> pair = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10]])
        >>> nms(pair, np.array([0.8, 0.9]), 0.7, TORCHVISION).tolist()
        [1]
    """
    if rule.last_first:
        order = np.argsort(scores, kind="stable")[::-1]
    else:
        order = np.argsort(-scores, kind="stable")
    ranked = boxes[order]
    areas = _areas(ranked, rule)
    kept: list[Indices] = []
    waiting = np.arange(len(order))
    while waiting.size:
        # Compare the best BLOCK boxes with each other, one after the other. Then compare those of
        # them that are kept with all the rest at once.
        best, waiting = waiting[:BLOCK], waiting[BLOCK:]
        overlaps = _overlap(ranked, areas, best, best, threshold, rule)
        alive = np.ones(len(best), dtype=bool)
        for row in np.flatnonzero(np.triu(overlaps, 1).any(axis=1)):
            if alive[row]:
                alive[row + 1 :] &= ~overlaps[row, row + 1 :]
        best = best[alive]
        kept.append(best)
        if waiting.size:
            covered = _overlap(ranked, areas, best, waiting, threshold, rule).any(axis=0)
            waiting = waiting[~covered]
    return order[np.concatenate(kept)] if kept else order


def _areas(boxes: Array, rule: NmsRule) -> Array:
    left, top, right, bottom = boxes.T
    areas: Array = (right - left + rule.pixel) * (bottom - top + rule.pixel)
    return areas


def _overlap(
    boxes: Array, areas: Array, rows: Indices, columns: Indices, threshold: float, rule: NmsRule
) -> NDArray[np.bool_]:
    """Return which of `rows` overlaps which of `columns` by more than `threshold`, as a table."""
    left, top, right, bottom = boxes[rows].T[:, :, None]
    left2, top2, right2, bottom2 = boxes[columns].T[:, None]
    widths = np.minimum(right, right2) - np.maximum(left, left2)
    heights = np.minimum(bottom, bottom2) - np.maximum(top, top2)
    if rule.pixel:
        widths += rule.pixel
        heights += rule.pixel
    shared = widths.clip(0, out=widths) * heights.clip(0, out=heights)
    area, area2 = areas[rows, None], areas[None, columns]
    whole = area + area2 - shared if rule.denominator == "union" else np.minimum(area, area2)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN, which overlaps nothing
        shared /= whole
    table: NDArray[np.bool_] = shared > _round_down(threshold, shared.dtype)
    return table


def _round_down(value: float, dtype: np.dtype) -> np.floating:
    """Return the largest number of `dtype` that is at most `value`.

    A number of `dtype` is greater than the result if and only if it is greater than `value`.
    NumPy would round `value` to the nearest number, and so compare with another threshold.
    """
    rounded: np.floating = dtype.type(value)
    return rounded if float(rounded) <= value else np.nextafter(rounded, dtype.type(-np.inf))


def windows(rows: Indices, columns: Indices, scale: float, dtype: np.dtype) -> Array:
    """Return the boxes in the image that P-Net's windows cover: ``(N, 4)``.

    Args:
        rows: ``(N,)``, the windows' places in P-Net's map.
        columns: ``(N,)``.
        scale: Of the pyramid's image; 0.5 is half the size.
        dtype: Of the result, and of the arithmetic.
    """
    corners = (STRIDE * np.stack([columns, rows], axis=1)).astype(dtype)
    factor = dtype.type(scale)
    first = np.floor((corners + dtype.type(1)) / factor)
    last = np.floor((corners + dtype.type(CELL)) / factor)
    return np.concatenate([first, last], axis=1)


def regress(boxes: Array, offsets: Array, pixel: int) -> Array:
    """Move every edge of `boxes` by `offsets` ``(N, 4)``, in units of width and height.

    `pixel` is that of `NmsRule`.
    """
    widths = boxes[:, 2] - boxes[:, 0] + pixel
    heights = boxes[:, 3] - boxes[:, 1] + pixel
    return boxes + offsets * np.stack([widths, heights, widths, heights], axis=1)


def square(boxes: Array) -> Array:
    """Return squares with the centres of `boxes`, as wide as their longer edges.

    Examples:
        >>> square(np.array([[0.0, 0, 10, 20]])).tolist()
        [[-5.0, 0.0, 15.0, 20.0]]
    """
    widths = boxes[:, 2] - boxes[:, 0]
    heights = boxes[:, 3] - boxes[:, 1]
    edges = np.maximum(widths, heights)
    half = boxes.dtype.type(0.5)
    left = boxes[:, 0] + widths * half - edges * half
    top = boxes[:, 1] + heights * half - edges * half
    return np.stack([left, top, left + edges, top + edges], axis=1)


def landmarks(boxes: Array, points: Array) -> Array:
    """Convert O-Net's `points` ``(N, 10)`` from units of the box to pixels ``(N, 5, 2)``."""
    widths = (boxes[:, 2] - boxes[:, 0] + 1)[:, None]
    heights = (boxes[:, 3] - boxes[:, 1] + 1)[:, None]
    x = widths * points[:, :5] + boxes[:, :1] - 1
    y = heights * points[:, 5:] + boxes[:, 1:2] - 1
    return np.stack([x, y], axis=2)
