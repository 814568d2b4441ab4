"""Box arithmetic and non-maximum suppression, in NumPy and in the dtype of the boxes given.

Boxes are ``(N, 4)``: left, top, right, bottom in pixels, both corners inside (1-based, as in the
MATLAB program that the original was translated from). Results depend on the dtype: facenet-pytorch
computes in float32 and the original in float64, and both round to whole pixels in between.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Indices = NDArray[np.intp]

BLOCK = 64  # boxes that non-maximum suppression compares at a time; any number gives the same
STRIDE = 2  # pixels of the resampled image between two windows of P-Net
CELL = 12  # pixels that one window of P-Net covers


class NmsRule(NamedTuple):
    """How non-maximum suppression measures an overlap.

    `pixel`: what right - left lacks to be a width: 1 if both edges are inside, else 0.
    `of`: the intersection is divided by the "union", or by the "smaller" of both boxes.
    `last_first`: of boxes with equal scores, the one listed last is taken first.
    """

    pixel: int
    of: str
    last_first: bool


TORCHVISION = NmsRule(pixel=0, of="union", last_first=False)
UNION = NmsRule(pixel=1, of="union", last_first=True)  # the original's "Union"
SMALLER = NmsRule(pixel=1, of="smaller", last_first=True)  # the original's "Min"


def nms(boxes: Array, scores: Array, threshold: float, rule: NmsRule) -> Indices:
    """Indices of the boxes that no better kept box overlaps by more than `threshold`, best first.

    Args:
        boxes: ``(N, 4)``.
        scores: ``(N,)``.
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
        # The best of them against each other, one after the other; then those kept of these
        # against all the rest at once.
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
    """Which of `rows` overlaps which of `columns` by more than `threshold`: a table."""
    left, top, right, bottom = boxes[rows].T[:, :, None]
    left2, top2, right2, bottom2 = boxes[columns].T[:, None]
    widths = np.minimum(right, right2) - np.maximum(left, left2)
    heights = np.minimum(bottom, bottom2) - np.maximum(top, top2)
    if rule.pixel:
        widths += rule.pixel
        heights += rule.pixel
    shared = widths.clip(0, out=widths) * heights.clip(0, out=heights)
    mine, theirs = areas[rows, None], areas[None, columns]
    whole = mine + theirs - shared if rule.of == "union" else np.minimum(mine, theirs)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 overlaps nothing, as in both
        shared /= whole
    table: NDArray[np.bool_] = shared > _rounded_down(threshold, shared.dtype)
    return table


def _rounded_down(value: float, dtype: np.dtype) -> np.floating:
    """The number of `dtype` that the same numbers of `dtype` are greater than as than `value`."""
    rounded: np.floating = dtype.type(value)
    return rounded if float(rounded) <= value else np.nextafter(rounded, dtype.type(-np.inf))


def windows(rows: Indices, columns: Indices, scale: float, dtype: np.dtype) -> Array:
    """Boxes in the image of P-Net's windows `rows` and `columns` at `scale`: ``(N, 4)``."""
    corners = (STRIDE * np.stack([columns, rows], axis=1)).astype(dtype)
    factor = dtype.type(scale)
    first = np.floor((corners + dtype.type(1)) / factor)
    last = np.floor((corners + dtype.type(CELL)) / factor)
    return np.concatenate([first, last], axis=1)


def regress(boxes: Array, offsets: Array, pixel: int) -> Array:
    """`boxes` with every edge moved by `offsets` ``(N, 4)``, in units of width and height."""
    widths = boxes[:, 2] - boxes[:, 0] + pixel
    heights = boxes[:, 3] - boxes[:, 1] + pixel
    return boxes + offsets * np.stack([widths, heights, widths, heights], axis=1)


def square(boxes: Array) -> Array:
    """Squares about the centres of `boxes`, as wide as their longer edge."""
    widths = boxes[:, 2] - boxes[:, 0]
    heights = boxes[:, 3] - boxes[:, 1]
    edges = np.maximum(widths, heights)
    half = boxes.dtype.type(0.5)
    left = boxes[:, 0] + widths * half - edges * half
    top = boxes[:, 1] + heights * half - edges * half
    return np.stack([left, top, left + edges, top + edges], axis=1)


def landmarks(boxes: Array, points: Array) -> Array:
    """O-Net's `points` ``(N, 10)`` in pixels: ``(N, 5, 2)``, x and y."""
    widths = (boxes[:, 2] - boxes[:, 0] + 1)[:, None]
    heights = (boxes[:, 3] - boxes[:, 1] + 1)[:, None]
    x = widths * points[:, :5] + boxes[:, :1] - 1
    y = heights * points[:, 5:] + boxes[:, 1:2] - 1
    return np.stack([x, y], axis=2)
