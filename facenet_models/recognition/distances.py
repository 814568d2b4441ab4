"""How far two embeddings are apart, and who is nearest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from facenet_common.errors import UsageError
from facenet_models.recognition.embeddings import Embeddings

Metric = Literal["euclidean", "cosine"]
METRICS: tuple[str, ...] = get_args(Metric)


class Match(NamedTuple):
    """An identity, its image that is nearest to the query, and how far that is."""

    label: str
    name: str
    distance: float


def distance(a: ArrayLike, b: ArrayLike, metric: Metric = "euclidean") -> np.ndarray:
    """Distances along the last axis, as the original's ``facenet.distance`` measures them.

    Args:
        a: ``(..., D)``.
        b: ``(..., D)``; the axes before the last are broadcast.
        metric: ``"euclidean"`` is the SQUARED Euclidean distance, 0 to 4 for embeddings of unit
            length; ``"cosine"`` the angle as a part of a half turn, ``arccos(similarity) / pi``,
            0 to 1.

    Returns:
        float64 of the broadcast shape without the last axis. Similarities that rounding pushed
        past 1 count as 1, where the original gives NaN.

    Raises:
        UsageError: unknown metric, sizes that differ, or the angle of a vector of length zero.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-1]:
        raise UsageError("the embeddings differ in size", found=f"shapes {a.shape} and {b.shape}")
    if metric == "euclidean":
        difference = a - b
        squared: np.ndarray = np.einsum("...i,...i->...", difference, difference)
        return squared
    if metric == "cosine":
        lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        if not np.all(lengths):
            raise UsageError("an embedding of length zero has no direction: no cosine distance")
        similarity = np.einsum("...i,...i->...", a, b) / lengths
        angle: np.ndarray = np.arccos(np.clip(similarity, -1.0, 1.0)) / np.pi
        return angle
    raise UsageError("unknown metric", expected=" or ".join(METRICS), found=metric)


def identify(
    query: Embeddings | ArrayLike,
    gallery: Embeddings,
    threshold: float | None = None,
    k: int = 1,
    metric: Metric = "euclidean",
) -> list[list[Match]]:
    """The nearest identities for each query.

    An identity (`Embeddings.labels`) is as near as the nearest of its images.

    Args:
        query: Embeddings, or ``(M, D)``, or one embedding ``(D,)``.
        gallery: Whom to look among.
        threshold: Leave out identities that are not nearer than this; None keeps all. It is in
            `metric`'s unit: `facenet_models.lfw.protocol` finds a good one.
        k: How many identities at most.

    Returns:
        For each query its matches, nearest first, equal ones by label; empty where nobody is
        near enough.

    Raises:
        UsageError: `k` below 1, an empty gallery, or as `distance`.
    """
    if k < 1:
        raise UsageError("k must be at least 1", found=k)
    if not len(gallery):
        raise UsageError("the gallery is empty: nobody to look among")
    vectors = query.vectors if isinstance(query, Embeddings) else np.asarray(query)
    return [
        list(_nearest(distance(vector, gallery.vectors, metric), gallery, threshold, k))
        for vector in np.atleast_2d(vectors)
    ]


def _nearest(
    distances: np.ndarray, gallery: Embeddings, threshold: float | None, k: int
) -> Iterator[Match]:
    """Matches of one query: walk the images outwards, and take each identity once."""
    labels = gallery.labels
    taken: set[str] = set()
    for i in sorted(range(len(distances)), key=lambda i: (distances[i], labels[i])):
        if len(taken) == k or (threshold is not None and not distances[i] < threshold):
            return
        if labels[i] not in taken:
            taken.add(labels[i])
            yield Match(labels[i], gallery.names[i], float(distances[i]))
