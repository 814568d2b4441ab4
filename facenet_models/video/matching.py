"""Which box of one frame is which box of another: an exact assignment."""

from __future__ import annotations

import numpy as np

Pairs = list[tuple[int, int]]


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each of `boxes` ``(N, 4)`` and `others` ``(M, 4)``: ``(N, M)``.

    Edges are left, top, right, bottom; a box without area overlaps nothing. float64.
    """
    first = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    second = np.asarray(others, np.float64).reshape(1, -1, 4)
    edges = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    shared = edges.clip(0).prod(axis=-1)
    areas = [(part[..., 2:] - part[..., :2]).clip(0).prod(axis=-1) for part in (first, second)]
    union = areas[0] + areas[1] - shared
    table: np.ndarray = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return table


def match(boxes: np.ndarray, others: np.ndarray, min_iou: float) -> Pairs:
    """Pairs of `boxes` and `others` that overlap by `min_iou` or more; see `assign`."""
    return assign(overlaps(boxes, others), min_iou)


def assign(scores: np.ndarray, least: float) -> Pairs:
    """The pairs (row, column) with the greatest sum of `scores`, sorted by row.

    Each row and each column is in one pair at most, no pair has a score below `least` (more than
    0). Equal sums: the same answer for the same table, always.

    Args:
        scores: ``(N, M)``.

    The Hungarian method with potentials and shortest augmenting paths: Kuhn 1955, in the O(n^2 m)
    form of Jonker and Volgenant, Computing 38 (1987).
    """
    table = np.where(scores >= least, scores, 0.0).astype(np.float64)
    turned = table.shape[0] > table.shape[1]
    cost = -(table.T if turned else table)  # at most as many rows as columns
    pairs = [
        (column, row) if turned else (row, column)
        for row, column in enumerate(_columns(cost))
        if cost[row, column] < 0
    ]
    return sorted(pairs)


def _columns(cost: np.ndarray) -> list[int]:
    """For each row of `cost` ``(N, M)``, N at most M, its own column: the least sum."""
    count, width = cost.shape
    row_potential, potential = np.zeros(count), np.zeros(width + 1)
    owner = np.full(width + 1, -1)  # the row of each column; the last column is where rows start
    for row in range(count):
        owner[width] = row
        column = width
        distance = np.full(width, np.inf)
        previous = np.full(width, width)
        done = np.zeros(width + 1, dtype=bool)
        while owner[column] >= 0:
            done[column] = True
            here = owner[column]
            reduced = cost[here] - row_potential[here] - potential[:-1]
            closer = ~done[:-1] & (reduced < distance)
            distance[closer], previous[closer] = reduced[closer], column
            open_ = np.where(done[:-1], np.inf, distance)
            step = open_.min()
            row_potential[owner[done]] += step
            potential[done] -= step
            distance[~done[:-1]] -= step
            column = int(open_.argmin())
        while column != width:  # turn the path around
            owner[column] = owner[previous[column]]
            column = int(previous[column])
    found = [0] * count
    for column, row in enumerate(owner[:-1]):
        if row >= 0:
            found[row] = column
    return found
