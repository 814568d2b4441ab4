"""Box arithmetic and suppression against plain implementations."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the detector needs torch")
pytest.importorskip("hypothesis", reason="the properties are searched with hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_models.detect import boxes

RULES = {"torchvision": boxes.TORCHVISION, "union": boxes.UNION, "smaller": boxes.SMALLER}


def plain_nms(found, scores, threshold, pixel, smaller, last_first):
    """One box after the other, each compared with each kept one, in Python."""
    order = sorted(range(len(found)), key=lambda i: (-scores[i], -i if last_first else i))
    kept: list[int] = []
    for i in order:
        for j in kept:
            a, b = found[i], found[j]
            width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + pixel)
            height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + pixel)
            areas = [(c[2] - c[0] + pixel) * (c[3] - c[1] + pixel) for c in (a, b)]
            shared = width * height
            whole = min(areas) if smaller else sum(areas) - shared
            if whole > 0 and shared / whole > threshold:
                break
        else:
            kept.append(i)
    return kept


corner = st.integers(0, 30)
box = st.tuples(corner, corner, st.integers(1, 30), st.integers(1, 30)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
scored = st.lists(st.tuples(box, st.sampled_from([0.125, 0.25, 0.5, 0.75, 0.875])), max_size=40)


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None)
@given(scored, st.sampled_from([0.25, 0.5, 0.7]), st.sampled_from([1, 3, 64]))
def test_nms_keeps_what_a_plain_loop_keeps(rule, found, threshold, block):
    coordinates = np.array([b for b, _ in found], np.float64).reshape(-1, 4)
    scores = np.array([s for _, s in found])
    chosen = RULES[rule]
    before, boxes.BLOCK = boxes.BLOCK, block
    try:
        kept = boxes.nms(coordinates, scores, threshold, chosen)
    finally:
        boxes.BLOCK = before
    expected = plain_nms(
        [b for b, _ in found],
        scores,
        threshold,
        pixel={"torchvision": 0, "union": 1, "smaller": 1}[rule],
        smaller=rule == "smaller",
        last_first=rule != "torchvision",
    )
    assert kept.tolist() == expected


def test_nms_compares_with_the_threshold_as_given() -> None:
    # Overlap 7/10 in float32 is a little less than 0.7: not suppressed, as in torchvision.
    pair = np.array([[0, 0, 10, 1], [0, 0, 7, 1]], np.float32)
    assert boxes.nms(pair, np.array([0.9, 0.8], np.float32), 0.7, boxes.TORCHVISION).size == 2
    assert boxes.nms(pair, np.array([0.9, 0.8], np.float32), 0.69, boxes.TORCHVISION).size == 1
    # 6/10 in float32 is a little more than 0.6: suppressed, as in torchvision.
    pair = np.array([[0, 0, 10, 1], [0, 0, 6, 1]], np.float32)
    assert boxes.nms(pair, np.array([0.9, 0.8], np.float32), 0.6, boxes.TORCHVISION).size == 1


coordinate = st.floats(-500, 500, width=32)
any_box = st.tuples(coordinate, coordinate, st.floats(1, 300), st.floats(1, 300)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(deadline=None)
@given(st.lists(any_box, max_size=20))
def test_squares_keep_the_centre_and_the_longer_edge(found):
    before = np.array(found, np.float64).reshape(-1, 4)
    after = boxes.square(before)
    edges, longer = after[:, 2:] - after[:, :2], (before[:, 2:] - before[:, :2]).max(axis=1)
    np.testing.assert_allclose(edges, np.stack([longer, longer], axis=1), atol=1e-9)
    middles = [(b[:, :2] + b[:, 2:]) / 2 for b in (before, after)]
    np.testing.assert_allclose(*middles, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(any_box, st.tuples(*[st.floats(-1, 1)] * 4)), max_size=20))
def test_regression_moves_each_edge_by_its_own_share(pairs):
    found = np.array([b for b, _ in pairs], np.float64).reshape(-1, 4)
    offsets = np.array([o for _, o in pairs], np.float64).reshape(-1, 4)
    for pixel in (0, 1):
        moved = boxes.regress(found, offsets, pixel)
        for (x1, y1, x2, y2), (a, b, c, d), row in zip(found, offsets, moved, strict=True):
            w, h = x2 - x1 + pixel, y2 - y1 + pixel
            np.testing.assert_allclose(row, [x1 + a * w, y1 + b * h, x2 + c * w, y2 + d * h])


def test_windows_are_those_of_the_image_in_float32() -> None:
    # (2 * 4 + 1) / 0.6 is 15, but 14.999999 in float32, where it counts.
    row, column = np.array([0, 4]), np.array([2, 4])
    found = boxes.windows(row, column, 0.6, np.dtype(np.float32))
    assert found.tolist() == [[8, 1, 26, 20], [14, 14, 33, 33]]
    exact = boxes.windows(row, column, 0.6, np.dtype(np.float64))
    assert exact.tolist() == [[8, 1, 26, 20], [15, 15, 33, 33]]


def test_landmarks_are_shares_of_the_box() -> None:
    points = boxes.landmarks(
        np.array([[11.0, 21.0, 30.0, 60.0]]), np.array([[0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0.25]])
    )
    assert points.shape == (1, 5, 2)
    assert points[0, 0].tolist() == [20.0, 20.0]  # 11 + 0.5 * 20 - 1; 21 - 1
    assert points[0, 4].tolist() == [10.0, 30.0]  # 21 + 0.25 * 40 - 1
