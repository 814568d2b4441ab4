"""Distances between embeddings, and the nearest identities."""

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
    """An identity near a query.

    Attributes:
        label: The identity.
        name: Name of its image that is nearest to the query.
        distance: Of that image to the query.
    """

    label: str
    name: str
    distance: float


def distance(a: ArrayLike, b: ArrayLike, metric: Metric = "euclidean") -> np.ndarray:
    """Compute distances along the last axis, as the original's ``facenet.distance`` does.

    See ``src/facenet.py`` in
    https://github.com/davidsandberg/facenet/tree/096ed770f163957c1e56efa7feeb194773920f6e.

    Args:
        a: ``(..., D)``.
        b: ``(..., D)``; the axes before the last are broadcast.
        metric: ``"euclidean"`` is the SQUARED Euclidean distance, 0 to 4 for embeddings of unit
            length; ``"cosine"`` is the angle as a fraction of a half turn,
            ``arccos(similarity) / pi``, 0 to 1.

    Returns:
        float64 of the broadcast shape without the last axis. Similarities that are rounded above
        1 count as 1; the original returns NaN for them.

    Raises:
        UsageError: The metric is unknown, the sizes differ, or a vector of length zero has no
            angle.

    Examples:
        >>> float(distance([1, 0], [0, 1])), float(distance([1, 0], [0, 1], "cosine"))
        (2.0, 0.5)
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-1]:
        raise UsageError(
            "the embeddings have different sizes", found=f"shapes {a.shape} and {b.shape}"
        )
    if metric == "euclidean":
        difference = a - b
        squared: np.ndarray = np.einsum("...i,...i->...", difference, difference)
        return squared
    if metric == "cosine":
        lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        if not np.all(lengths):
            raise UsageError("an embedding of length zero has no cosine distance")
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
    """Find the nearest identities for each query.

    The distance of an identity (`Embeddings.labels`) is that of its nearest image.

    Args:
        query: Embeddings, or ``(M, D)``, or one embedding ``(D,)``.
        gallery: Embeddings of known people.
        threshold: Return only identities nearer than this; None returns all. The unit is that of
            `metric`; `facenet_models.lfw.evaluate` finds a good value.
        k: Maximum number of identities.
        metric: See `distance`.

    Returns:
        For each query its matches, nearest first, those at equal distances by label; empty if
        nobody is near enough.

    Raises:
        UsageError: `k` is below 1 or the gallery is empty; and as `distance`.

    Examples:
        >>> gallery = Embeddings(("Ann/1.jpg", "Bob/1.jpg"), np.eye(2, dtype=np.float32))
        >>> identify([0.9, 0.1], gallery)[0][0].label
        'Ann'
    """
    if k < 1:
        raise UsageError("k must be at least 1", found=k)
    if not len(gallery):
        raise UsageError("the gallery has no embeddings")
    vectors = query.vectors if isinstance(query, Embeddings) else np.asarray(query)
    return [
        list(_nearest(distance(vector, gallery.vectors, metric), gallery, threshold, k))
        for vector in np.atleast_2d(vectors)
    ]


def _nearest(
    distances: np.ndarray, gallery: Embeddings, threshold: float | None, k: int
) -> Iterator[Match]:
    """Yield the matches of one query: go through the images by distance, each identity once."""
    labels = gallery.labels
    taken: set[str] = set()
    for i in sorted(range(len(distances)), key=lambda i: (distances[i], labels[i])):
        if len(taken) == k or (threshold is not None and not distances[i] < threshold):
            return
        if labels[i] not in taken:
            taken.add(labels[i])
            yield Match(labels[i], gallery.names[i], float(distances[i]))
