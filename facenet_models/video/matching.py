"""Assign the boxes of one frame to those of another, with the greatest total overlap."""

from __future__ import annotations

import numpy as np

Pairs = list[tuple[int, int]]


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the intersection over union (IoU) of each of `boxes` with each of `others`.

    Args:
        boxes: ``(N, 4)``: left, top, right, bottom.
        others: ``(M, 4)``.

    Returns:
        ``(N, M)`` float64; 0 for a box without area.

    Examples:
        >>> overlaps(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 1]])).tolist()
        [[0.5]]
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
    """Assign `boxes` to `others` with an IoU of at least `min_iou`; see `assign`."""
    return assign(overlaps(boxes, others), min_iou)


def assign(scores: np.ndarray, min_score: float) -> Pairs:
    """Find the pairs (row, column) with the greatest sum of scores.

    The Hungarian method with potentials and shortest augmenting paths: Kuhn 1955, in the O(n^2 m)
    form of Jonker and Volgenant, Computing 38 (1987). It is deterministic: of equal sums, the same
    scores always give the same pairs.

    Args:
        scores: ``(N, M)``.
        min_score: Minimum score of a pair, above 0.

    Returns:
        The pairs, sorted by row. Each row and each column is in one pair at most.

    Examples:
        >>> assign(np.array([[0.9, 0.8], [0.8, 0.1]]), 0.3)
        [(0, 1), (1, 0)]
    """
    table = np.where(scores >= min_score, scores, 0.0).astype(np.float64)
    is_transposed = table.shape[0] > table.shape[1]
    cost = -(table.T if is_transposed else table)  # at most as many rows as columns
    pairs = [
        (column, row) if is_transposed else (row, column)
        for row, column in enumerate(_assign_columns(cost))
        if cost[row, column] < 0
    ]
    return sorted(pairs)


def _assign_columns(cost: np.ndarray) -> list[int]:
    """Return a different column for each row of `cost`, with the smallest sum.

    `cost` is ``(N, M)``, N at most M.
    """
    count, width = cost.shape
    row_potential, potential = np.zeros(count), np.zeros(width + 1)
    owner = np.full(width + 1, -1)  # the row of each column; paths start at an extra last column
    for row in range(count):
        owner[width] = row
        column = width
        distance = np.full(width, np.inf)
        previous = np.full(width, width)
        done = np.zeros(width + 1, dtype=bool)
        while owner[column] >= 0:
            done[column] = True
            current = owner[column]
            reduced = cost[current] - row_potential[current] - potential[:-1]
            closer = ~done[:-1] & (reduced < distance)
            distance[closer], previous[closer] = reduced[closer], column
            remaining = np.where(done[:-1], np.inf, distance)
            step = remaining.min()
            row_potential[owner[done]] += step
            potential[done] -= step
            distance[~done[:-1]] -= step
            column = int(remaining.argmin())
        while column != width:  # move each row on the path to its next column
            owner[column] = owner[previous[column]]
            column = int(previous[column])
    found = [0] * count
    for column, row in enumerate(owner[:-1]):
        if row >= 0:
            found[row] = column
    return found
