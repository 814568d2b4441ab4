"""Numbers of faces: stable, never twice in a frame, born and given up as the rules say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_common.errors import UsageError
from facenet_models.video import Detections, Frame, Tracked, embedder, follow, track

LEFT, RIGHT = (0, 0, 10, 10), (50, 0, 60, 10)
Box = tuple[float, ...]


def faces(boxes: Iterable[Box], vectors: list[list[float]] | None = None) -> Detections:
    """Detections at `boxes`, whose probabilities and landmarks tell whose they are."""
    edges = np.array(list(boxes), np.float32).reshape(-1, 4)
    probs = edges[:, 0] / 1000
    points = np.repeat(edges[:, None, :2], 5, axis=1)
    return Detections(edges, probs, points, None if vectors is None else np.array(vectors))


def numbers(tracked: Iterable[Tracked]) -> list[list[int]]:
    return [each.ids.tolist() for each in tracked]


def moved(box: Box, by: float) -> Box:
    return (box[0] + by, box[1], box[2] + by, box[3])


def test_faces_keep_their_numbers_whatever_their_order() -> None:
    video = [faces([moved(LEFT, step), moved(RIGHT, -step)][:: (-1) ** step]) for step in range(9)]
    got = list(track(video))
    assert numbers(got) == [[1, 2] if step % 2 == 0 else [2, 1] for step in range(9)]
    for found, each in zip(video, got, strict=True):
        np.testing.assert_array_equal(each.boxes, found.boxes)
        np.testing.assert_array_equal(each.probs, found.probs)
        np.testing.assert_array_equal(each.points, found.points)


def test_a_face_counts_after_some_hits_in_a_row_and_then_from_its_first() -> None:
    blip = [[LEFT, RIGHT], [LEFT, RIGHT], [LEFT], [LEFT, RIGHT], [LEFT, RIGHT], [LEFT, RIGHT]]
    video = [faces(boxes) for boxes in blip]
    assert numbers(track(video)) == [[1], [1], [1], [1, 2], [1, 2], [1, 2]]
    assert numbers(track(video, min_hits=2))[:2] == [[1, 2], [1, 2]]
    assert numbers(track(video, min_hits=7)) == [[]] * 6


@pytest.mark.parametrize(("gap", "number"), [(0, 1), (1, 1), (2, 1), (3, 2)])
def test_a_face_keeps_its_number_over_a_short_gap(gap: int, number: int) -> None:
    video = [faces([LEFT])] * 3 + [faces([])] * gap + [faces([LEFT])] * 3
    assert numbers(track(video, max_misses=2)) == [[1]] * 3 + [[]] * gap + [[number]] * 3


def test_gaps_do_not_add_up() -> None:
    gap = [faces([])] * 2
    video = [faces([LEFT])] * 3 + [*gap, faces([LEFT])] * 3
    assert numbers(track(video, max_misses=2)) == [[1]] * 3 + [[], [], [1]] * 3


def test_the_number_of_hits_is_all_that_track_looks_ahead() -> None:
    taken = []

    def video() -> Iterator[Detections]:
        for step in range(5):
            taken.append(step)
            yield faces([LEFT])

    tracked = track(video(), min_hits=2)
    assert next(tracked).ids.tolist() == [1]
    assert taken == [0, 1]


def test_embeddings_give_a_number_back() -> None:
    ann, bob = [1.0, 0.1], [0.0, 1.0]
    away = [faces([], [])] * 5
    video = [
        *[faces([LEFT], [ann])] * 3,
        *away,
        *[faces([LEFT, RIGHT], [bob, [5.0, 0.0]])] * 3,  # Bob stands where Ann was
    ]
    got = numbers(track(video, max_misses=1))
    assert got == [[1]] * 3 + [[]] * 5 + [[2, 1]] * 3
    plain = [each._replace(embeddings=None) for each in video]
    assert numbers(track(plain, max_misses=1))[-1] == [2, 3]
    assert numbers(track(video, max_misses=1, min_similarity=0.999))[-1] == [2, 3]


def test_a_number_is_never_given_back_twice() -> None:
    twins = [[1.0, 0.0], [1.0, 0.01]]
    video = [
        *[faces([LEFT], twins[:1])] * 3,
        *[faces([], [])] * 20,
        *[faces([LEFT, RIGHT], twins)] * 3,
    ]
    assert numbers(track(video))[-1] == [1, 2]


EDGE = st.integers(0, 30)
BOXES = st.lists(st.tuples(EDGE, EDGE), max_size=5, unique=True)


@given(st.lists(BOXES, max_size=8), st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_every_frame_has_its_faces_once(
    places: list[list[tuple[int, int]]], min_hits: int, max_misses: int, embedded: bool
) -> None:
    video = [
        faces(
            [(x, y, x + 9, y + 9) for x, y in frame],
            [[x % 3 - 1.0, y % 3 + 0.5] for x, y in frame] if embedded else None,
        )
        for frame in places
    ]
    got = list(track(video, min_hits=min_hits, max_misses=max_misses))
    assert len(got) == len(video)
    for found, each in zip(video, got, strict=True):
        assert len(set(each.ids.tolist())) == len(each.ids) == len(each.boxes)
        listed = found.boxes.tolist()
        assert [box for box in listed if box in each.boxes.tolist()] == each.boxes.tolist()
        if min_hits == 1:
            assert each.boxes.tolist() == listed
    used = sorted({number for each in got for number in each.ids.tolist()})
    assert used == list(range(1, len(used) + 1))
    again = list(track(video, min_hits=min_hits, max_misses=max_misses))
    assert numbers(again) == numbers(got)


@given(BOXES, st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_unmoved_faces_keep_their_numbers_in_any_order(
    places: list[tuple[int, int]], length: int, seed: int
) -> None:
    boxes = [(x, y, x + 9, y + 9) for x, y in places]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(boxes)) for _ in range(length)]
    video = [faces([boxes[place] for place in order]) for order in orders]
    named: dict[tuple[float, ...], int] = {}
    for each in track(video, min_hits=1):
        for number, box in zip(each.ids.tolist(), each.boxes.tolist(), strict=True):
            assert named.setdefault(tuple(box), number) == number
    assert sorted(named.values()) == list(range(1, len(boxes) + 1))


def test_follow_gives_each_frame_its_own_faces() -> None:
    class Late:
        """Finds a face as far right as the image is bright; looks three images ahead."""

        def detect(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
            waiting: list[np.ndarray] = []
            for image in images:
                waiting.append(image)
                if len(waiting) > 3:
                    yield self.look(waiting.pop(0))
            yield from map(self.look, waiting)

        def look(self, image: np.ndarray) -> Detections:
            return faces([moved(LEFT, int(image[0, 0, 0]))])

    video = [Frame(i, i / 25, np.full((2, 2, 3), i, np.uint8)) for i in range(9)]
    got = list(follow(video, Late(), min_hits=2))
    assert [frame for frame, _ in got] == video
    assert [each.boxes[0, 0] for _, each in got] == list(range(9))
    assert numbers(each for _, each in got) == [[1]] * 9


class Moved:
    """A face on the left in bright images, none in black ones."""

    def detect(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        waiting: list[np.ndarray] = []
        for image in images:
            waiting.append(image)
            if len(waiting) > 2:
                yield faces([moved(LEFT, int(waiting[0].max()))] * bool(waiting.pop(0).max()))
        yield from (faces([moved(LEFT, int(image.max()))] * bool(image.max())) for image in waiting)


def test_follow_recognises_by_the_embeddings_of_the_frame_itself() -> None:
    shades = [9, 9, 9, 0, 0, 0, 200, 200, 200, 0, 0, 0, 90, 90, 90]
    video = [
        Frame(i, i / 25, np.full((2, 2, 3), shade, np.uint8)) for i, shade in enumerate(shades)
    ]
    asked = []

    def embed(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        asked.append((int(image.max()), boxes[:, 0].tolist()))
        return np.array([[1.0, 0.0] if image.max() < 100 else [0.0, 1.0]])

    got = numbers(each for _, each in follow(video, Moved(), embed, max_misses=1))
    assert got == [[1]] * 3 + [[]] * 3 + [[2]] * 3 + [[]] * 3 + [[1]] * 3
    assert asked == [(shade, [shade]) for shade in shades if shade]
    assert numbers(each for _, each in follow(video, Moved(), max_misses=1))[-1] == [3]


def test_embedder_cuts_out_faces(model: Any) -> None:
    torch = pytest.importorskip("torch")
    from facenet_models import extract_face, fixed_image_standardization

    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    boxes = np.array([[10, 20, 60, 80], [200, 200, 220, 220], [-5, -5, 40, 50]], np.float32)
    got = embedder(model)(image, boxes)
    faces_ = [fixed_image_standardization(extract_face(image, boxes[row])) for row in (0, 2)]
    with torch.inference_mode():
        expected = model(torch.stack(faces_)).numpy()
    assert got.shape == (3, 512)
    np.testing.assert_allclose(got[[0, 2]], expected, atol=1e-6)
    assert not got[1].any()


def test_each_face_needs_an_embedding() -> None:
    with pytest.raises(UsageError, match="one embedding for each face"):
        list(track([faces([LEFT, RIGHT], [[1.0, 0.0]])]))


@pytest.mark.parametrize(
    "options",
    [{"min_iou": 0}, {"min_iou": 1.1}, {"min_similarity": 0}, {"min_hits": 0}, {"max_misses": -1}],
)
def test_wrong_arguments_are_refused_at_once(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        track([], **options)  # type: ignore[arg-type] # on purpose
