"""Distances between embeddings, and the nearest identities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_common.errors import UsageError
from facenet_models.recognition import Embeddings, Match, distance, identify


def test_euclidean_distance_is_squared() -> None:
    assert distance([0, 0, 0], [1, 2, 2]) == 9
    assert distance([[1, 0], [0, 3]], [[0, 1], [0, 1]]).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("b", "turn"), [([2, 0], 0), ([1, 1], 0.25), ([0, 5], 0.5), ([-3, 0], 1), ([1, -1], 0.25)]
)
def test_cosine_distance_is_the_angle_in_half_turns(b: list[float], turn: float) -> None:
    assert distance([1, 0], b, "cosine") == pytest.approx(turn, abs=1e-12)


def test_distances_broadcast() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 1, 8)), rng.normal(size=(5, 8))
    for metric in ("euclidean", "cosine"):
        got = distance(a, b, metric)
        assert got.shape == (3, 5)
        assert got.dtype == np.float64
        assert got[2, 4] == pytest.approx(float(distance(a[2, 0], b[4], metric)), rel=1e-12)


def test_a_vector_and_itself_have_no_angle_between_them() -> None:
    vectors = np.random.default_rng(0).normal(size=(1000, 16))
    with np.errstate(invalid="ignore"):
        ratios = np.sum(vectors**2, 1) / np.linalg.norm(vectors, axis=1) ** 2
    assert (ratios > 1).any()  # where arccos is NaN
    assert distance(vectors, vectors, "cosine") == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("a", "b", "metric", "message"),
    [
        ([1, 2], [1, 2, 3], "euclidean", "different sizes"),
        (1, 2, "euclidean", "different sizes"),
        ([1, 2], [1, 2], "manhattan", "(?s)unknown metric.*euclidean or cosine.*manhattan"),
        ([0, 0], [1, 2], "cosine", "length zero"),
    ],
)
def test_vectors_without_a_distance_are_refused(
    a: object, b: object, metric: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        distance(a, b, metric)  # type: ignore[arg-type] # that is the test


GALLERY = Embeddings(
    ("Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg", "Cid.jpg"),
    np.array([[0, 0], [4, 0], [1, 0], [9, 0]], np.float32),
)


def test_an_identity_is_as_near_as_its_nearest_image() -> None:
    got = identify([3.5, 0], GALLERY, k=9)
    assert got == [
        [
            Match("Ann", "Ann/2.jpg", 0.25),
            Match("Bob", "Bob/1.jpg", 6.25),
            Match("Cid", "Cid.jpg", 30.25),
        ]
    ]


def test_the_threshold_and_k_cut_the_list() -> None:
    assert [m.label for m in identify([3.5, 0], GALLERY, threshold=6.25, k=3)[0]] == ["Ann"]
    assert [m.label for m in identify([3.5, 0], GALLERY, threshold=6.26, k=3)[0]] == ["Ann", "Bob"]
    assert [m.label for m in identify([3.5, 0], GALLERY, k=2)[0]] == ["Ann", "Bob"]
    assert identify([3.5, 0], GALLERY, threshold=0.1) == [[]]


def test_equal_distances_go_by_label() -> None:
    gallery = Embeddings(("b/1.jpg", "a/1.jpg"), np.ones((2, 2), np.float32))
    assert [match.label for match in identify([0, 0], gallery, k=2)[0]] == ["a", "b"]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 6),
    metric=st.sampled_from(["euclidean", "cosine"]),
)
def test_identities_equal_those_of_a_plain_search(seed: int, k: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, 3)).astype(np.float32)
    gallery = Embeddings(tuple(f"P{rng.integers(4)}/{i}.jpg" for i in range(12)), vectors)
    query = Embeddings(("x", "y"), rng.normal(size=(2, 3)).astype(np.float32))
    threshold = float(rng.uniform(0, 1))
    for row, found in zip(
        query.vectors,
        identify(query, gallery, threshold, k, metric),
        strict=True,  # type: ignore[arg-type] # drawn
    ):
        best: dict[str, float] = {}
        for label, other in zip(gallery.labels, vectors, strict=True):
            far = float(distance(row, other, metric))  # type: ignore[arg-type] # drawn
            best[label] = min(far, best.get(label, 9e9))
        expected = sorted((far, label) for label, far in best.items() if far < threshold)[:k]
        assert [(match.distance, match.label) for match in found] == expected


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"gallery": Embeddings((), np.empty((0, 2), np.float32))}]
)
def test_an_empty_gallery_or_answer_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        identify([0, 0], **({"gallery": GALLERY} | options))  # type: ignore[arg-type] # that is the test
