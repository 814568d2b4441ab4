"""Drawing on a copy of a frame: places and colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from facenet_common.errors import UsageError
from facenet_models.draw import UNNUMBERED, annotate

image_module = pytest.importorskip("PIL.Image")

GREY = 90
BOX = (60, 80, 100, 130)


def frame(height: int = 200, width: int = 300) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def painted(image: np.ndarray) -> np.ndarray:
    """Which pixels are not the ground."""
    marks: np.ndarray = (image != GREY).any(axis=2)
    return marks


def test_a_box_is_an_outline_on_a_copy() -> None:
    original = frame()
    got = annotate(original, [BOX])
    assert (original == GREY).all()
    marks = painted(got)
    rows, columns = np.nonzero(marks)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == BOX
    assert not marks[85:125, 65:95].any()
    assert (got[marks] == UNNUMBERED).all()


def test_a_pil_image_is_not_changed_either() -> None:
    picture = image_module.fromarray(frame())
    got = annotate(picture, [BOX])
    assert (np.asarray(picture) == GREY).all()
    np.testing.assert_array_equal(got, annotate(frame(), [BOX]))


@pytest.mark.parametrize("boxes", [None, [], np.empty((0, 4))])
def test_no_face_is_the_frame(boxes: Any) -> None:
    none = None if boxes is None else []
    np.testing.assert_array_equal(annotate(frame(), boxes, none, none, none), frame())


def test_a_number_has_its_own_colour_everywhere() -> None:
    colours = set()
    for number in range(1, 13):
        got = annotate(frame(), [BOX], [number])
        colour = tuple(got[BOX[3], BOX[0]].tolist())
        again = annotate(frame(), [(5, 90, 45, 160), (150, 20, 290, 180)], [99, number])
        assert tuple(again[180, 150].tolist()) == colour
        colours.add(colour)
    assert len(colours) == 12


def test_landmarks_are_where_they_are() -> None:
    points = np.array([[[70, 90], [90, 90], [80, 105], [72, 118], [88, 118]]], float)
    more = painted(annotate(frame(), [BOX], landmarks=points)) & ~painted(annotate(frame(), [BOX]))
    for x, y in points[0].astype(int):
        assert more[y, x]
        more[y - 3 : y + 4, x - 3 : x + 4] = False
    assert not more.any()


@pytest.mark.parametrize(
    "box", [BOX, (-20, -20, 30, 30), (250, 150, 400, 400), (0, 0, 299, 199), (60, 60, 60, 60)]
)
def test_tags_are_in_the_picture_and_tell_probabilities_apart(box: tuple[int, ...]) -> None:
    plain = painted(annotate(frame(), [box]))
    one, other = (annotate(frame(), [box], probs=[prob]) for prob in (0.99, 0.12))
    assert (painted(one) & ~plain).sum() > 100 or (one != annotate(frame(), [box])).sum() > 100
    assert (one != other).any()
    np.testing.assert_array_equal(one, annotate(frame(), [box], probs=[0.9949]))


def test_tags_do_not_cover_each_other() -> None:
    tag = painted(annotate(frame(), [BOX], [7])) & ~painted(annotate(frame(), [BOX]))
    boxes = [BOX] * 3
    got = annotate(frame(), boxes, [7, 7, 7])
    ground = painted(got) & ~painted(annotate(frame(), boxes))
    assert ground.sum() > 2.7 * tag.sum()  # outlines hide a little


@pytest.mark.parametrize("part", ["ids", "probs", "landmarks"])
def test_each_box_needs_its_own(part: str) -> None:
    values = {"ids": [1, 2], "probs": [0.5, 0.5], "landmarks": np.zeros((2, 5, 2))}
    with pytest.raises(UsageError, match=part):
        annotate(frame(), [BOX], **{part: values[part]})


@pytest.mark.parametrize(
    ("probability", "text"), [(0.9999, "1.00"), (0.994, "0.99"), (0.996, "1.00"), (1.0, "1.00")]
)
def test_a_probability_is_rounded(probability: float, text: str) -> None:
    got = annotate(frame(), [BOX], probs=[probability])
    rounded = annotate(frame(), [BOX], probs=[float(text)])
    np.testing.assert_array_equal(got, rounded)
