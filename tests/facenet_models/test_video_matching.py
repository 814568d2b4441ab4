"""Assignment of boxes to boxes, against trying every assignment."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_models.video.matching import assign, match, overlaps

EDGE = st.integers(0, 12)
BOX = st.tuples(EDGE, EDGE, st.integers(1, 6), st.integers(1, 6)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
BOXES = st.lists(BOX, max_size=6, unique=True)


def plain_iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """By counting unit squares."""

    def squares(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return set(itertools.product(range(box[0], box[2]), range(box[1], box[3])))

    return len(squares(a) & squares(b)) / len(squares(a) | squares(b))


def best_sum(scores: np.ndarray, least: float) -> float:
    """The greatest sum that any assignment reaches."""
    table = np.where(scores >= least, scores, 0)
    if table.shape[0] > table.shape[1]:
        table = table.T
    rows = range(table.shape[0])
    ways = itertools.permutations(range(table.shape[1]), table.shape[0])
    return max((sum(table[row, way[row]] for row in rows) for way in ways), default=0.0)


def as_array(boxes: list[tuple[int, ...]]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


@given(BOXES, BOXES)
def test_overlaps_are_shared_squares_over_all_squares(
    first: list[tuple[int, ...]], second: list[tuple[int, ...]]
) -> None:
    expected = [[plain_iou(a, b) for b in second] for a in first]
    got = overlaps(as_array(first), as_array(second))
    assert got.shape == (len(first), len(second))
    np.testing.assert_allclose(got, np.array(expected).reshape(got.shape), atol=1e-12)


def test_boxes_without_area_overlap_nothing() -> None:
    point, turned, box = (3, 3, 3, 3), (5, 5, 1, 1), (0, 0, 6, 6)
    assert not overlaps(as_array([point, turned]), as_array([point, turned, box])).any()


@given(
    st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.3, 1])
)
def test_no_assignment_is_better(rows: int, columns: int, seed: int, least: float) -> None:
    # Tenths: many ties, and sums that a greedy choice misses.
    scores = np.random.default_rng(seed).integers(0, 11, (rows, columns)) / 10
    pairs = assign(scores, least)
    assert pairs == sorted(pairs)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(scores[pair] >= least for pair in pairs)
    assert sum(scores[pair] for pair in pairs) == pytest.approx(best_sum(scores, least))
    assert pairs == assign(scores, least)


def test_a_greedy_choice_would_lose() -> None:
    scores = np.array([[0.9, 0.8], [0.8, 0.1]])
    assert assign(scores, 0.05) == [(0, 1), (1, 0)]


@given(BOXES, st.randoms(use_true_random=False))
def test_unmoved_boxes_match_themselves_in_any_order(
    boxes: list[tuple[int, ...]], random: object
) -> None:
    order = list(range(len(boxes)))
    random.shuffle(order)  # type: ignore[attr-defined] # hypothesis's Random
    pairs = match(as_array(boxes), as_array([boxes[place] for place in order]), 0.3)
    assert [(row, order[column]) for row, column in pairs] == [(i, i) for i in range(len(boxes))]


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_columns_does_not_matter(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, columns))  # one best assignment: no two sums are equal
    row_order, column_order = rng.permutation(rows), rng.permutation(columns)
    turned = assign(scores[np.ix_(row_order, column_order)], 0.3)
    back = sorted((int(row_order[row]), int(column_order[column])) for row, column in turned)
    assert back == assign(scores, 0.3)
