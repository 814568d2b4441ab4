"""FastMTCNN: the detector's own answers on searched frames, and near them in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch")

from facenet_common.errors import UsageError
from facenet_models import MTCNN
from facenet_models.video import Detections, FastMTCNN, frames, track
from facenet_models.video.matching import match, overlaps

if TYPE_CHECKING:
    from facenet_models.detect.types import Backend

STRIDE = 4


class Counting(MTCNN):
    """Counts the images that it searches."""

    searched = 0

    def detect(self, img: Any, landmarks: bool = False) -> tuple[Any, ...]:
        self.searched += 1
        return super().detect(img, landmarks)


@pytest.fixture(scope="module")
def images(reference_dir: Path) -> list[np.ndarray]:
    """Ten frames of the reference video, at half its size."""
    pytest.importorskip("av")
    path = reference_dir / "video" / "video.mp4"
    return [frame.image for frame in frames(path, stop=10, max_side=960)]


@pytest.fixture
def detector(reference_dir: Path) -> Counting:
    return Counting(weights=reference_dir / "published")


@pytest.fixture(scope="module")
def searched(reference_dir: Path, images: list[np.ndarray]) -> list[Detections]:
    """The detector's answers on every frame."""
    detector = MTCNN(weights=reference_dir / "published")
    return [Detections.from_mtcnn(*detector.detect(image, landmarks=True)) for image in images]


def assert_same(got: Detections, expected: Detections) -> None:
    for mine, theirs in zip(got[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == np.float32


def test_searched_frames_have_the_detectors_answers_and_the_others_are_near(
    detector: Counting, images: list[np.ndarray], searched: list[Detections]
) -> None:
    got = list(FastMTCNN(detector, STRIDE).detect(images))
    assert detector.searched == 4  # frames 0, 4, 8, and 9, the last
    assert len(got) == len(images)
    for number in (0, 4, 8, 9):
        assert_same(got[number], searched[number])
    found = missed = 0
    shared = []
    for number in (1, 2, 3, 5, 6, 7):
        table = overlaps(got[number].boxes, searched[number].boxes)
        pairs = match(got[number].boxes, searched[number].boxes, 0.3)
        shared += [table[pair] for pair in pairs]
        found += len(pairs)
        missed += len(searched[number].boxes) - len(pairs)
        sizes = np.prod(got[number].boxes[:, 2:] - got[number].boxes[:, :2], axis=1)
        assert (np.diff(sizes) <= 0).all()  # largest first, as the detector lists them
    assert np.mean(shared) > 0.87
    assert found >= 5 * missed
    # To look again is worth it: the boxes of the frame searched before are farther off.
    held = [
        overlaps(searched[number // 4 * 4].boxes, searched[number].boxes)[pair]
        for number in (1, 2, 3, 5, 6, 7)
        for pair in match(searched[number // 4 * 4].boxes, searched[number].boxes, 0.3)
    ]
    assert np.mean(shared) > np.mean(held) + 0.05


def test_stride_one_is_the_detector(
    detector: Counting, images: list[np.ndarray], searched: list[Detections]
) -> None:
    got = list(FastMTCNN(detector, 1).detect(images[:3]))
    assert detector.searched == 3
    for mine, theirs in zip(got, searched, strict=False):
        assert_same(mine, theirs)


def test_what_both_searched_frames_show_is_never_dropped(
    detector: Counting, images: list[np.ndarray], searched: list[Detections]
) -> None:
    black = np.zeros_like(images[0])
    got = list(FastMTCNN(detector, STRIDE).detect([images[0], black, black, black, images[4]]))
    pairs = match(searched[0].boxes, searched[4].boxes, 0.3)
    assert len(pairs) >= 4
    for step, found in enumerate(got[1:4], start=1):
        assert len(found.boxes) == len(pairs)
        for name in ("boxes", "probs", "points"):
            first, last = getattr(searched[0], name), getattr(searched[4], name)
            line = [(1 - step / 4) * first[row] + step / 4 * last[column] for row, column in pairs]
            order = np.argsort([part.sum() for part in line])
            mine = getattr(found, name)
            got_order = np.argsort([part.sum() for part in mine])
            np.testing.assert_allclose(mine[got_order], np.array(line)[order], rtol=1e-5)


def test_what_one_searched_frame_shows_must_be_seen(
    detector: Counting, images: list[np.ndarray], searched: list[Detections]
) -> None:
    black = np.zeros_like(images[0])
    for ends in ((images[0], black), (black, images[0])):
        video = [ends[0], black, images[0], black, ends[1]]
        got = list(FastMTCNN(detector, STRIDE).detect(video))
        assert [len(found.boxes) for found in got[1::2]] == [0, 0]
        seen = match(got[2].boxes, searched[0].boxes, 0.7)
        assert len(seen) == len(got[2].boxes) >= 4


def test_no_face_no_frame_and_other_sizes(detector: Counting) -> None:
    fast = FastMTCNN(detector, STRIDE)
    assert list(fast.detect([])) == []
    black = [np.zeros((40, 50, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)] * 3
    got = list(fast.detect(black))
    assert [len(found.boxes) for found in got] == [0] * 6
    assert all(found.points.shape == (0, 5, 2) for found in got)


def test_reads_no_farther_than_the_next_searched_frame(detector: Counting) -> None:
    taken = 0

    def video() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(20):
            taken += 1
            yield np.zeros((30, 30, 3), np.uint8)

    found = FastMTCNN(detector, STRIDE).detect(video())
    for expected in (1, 5, 5, 5, 5, 9):
        next(found)
        assert taken == expected


def test_faces_of_a_real_video_keep_their_numbers(
    detector: Counting, images: list[np.ndarray]
) -> None:
    got = list(track(FastMTCNN(detector, STRIDE).detect(images)))
    # The order of the people from left to right is the same in all these frames.
    rows = [[int(each.ids[at]) for at in np.argsort(each.boxes[:, 0])] for each in got]
    staying = set(rows[0]).intersection(*rows)
    assert len(staying) >= 4
    for row in rows:
        assert [number for number in row if number in staying] == [
            number for number in rows[0] if number in staying
        ]


@pytest.mark.parametrize(
    ("stride", "backend", "message"),
    [(0, "facenet-pytorch", "stride"), (2, "reference", "needs the backend facenet-pytorch")],
)
def test_wrong_arguments_are_refused(
    reference_dir: Path, stride: int, backend: Backend, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        FastMTCNN(MTCNN(weights=reference_dir / "published", backend=backend), stride)


def test_stride_one_takes_any_backend(reference_dir: Path) -> None:
    reference = MTCNN(weights=reference_dir / "published", backend="reference")
    (found,) = FastMTCNN(reference, 1).detect([np.zeros((30, 30, 3), np.uint8)])
    assert len(found.boxes) == 0
