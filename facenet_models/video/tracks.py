"""Faces followed through a video: one number for one face, from its first frame to its last.

A box goes to the track whose last box it overlaps most, all boxes of a frame together
(`matching.assign`). The same detections always give the same numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from facenet_common.errors import UsageError
from facenet_models.video.detections import Detections, Tracked
from facenet_models.video.files import Frame
from facenet_models.video.matching import assign, match


class VideoDetector(Protocol):
    """What gives `Detections` for each image, in order: a `FastMTCNN`."""

    def detect(self, images: Iterable[np.ndarray]) -> Iterator[Detections]: ...


Embedder = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(eq=False)  # each is itself only
class _Track:
    box: np.ndarray
    vector: np.ndarray | None  # mean of its unit embeddings
    hits: int = 1
    misses: int = 0
    number: int = 0  # 0 until it is confirmed

    def take(self, box: np.ndarray, vector: np.ndarray | None) -> None:
        self.box, self.misses = box, 0
        if vector is not None and self.vector is not None:
            self.vector = self.vector + (vector - self.vector) / (self.hits + 1)
        elif vector is not None:
            self.vector = vector
        self.hits += 1


def track(
    detections: Iterable[Detections],
    *,
    min_iou: float = 0.3,
    min_hits: int = 3,
    max_misses: int = 12,
    min_similarity: float = 0.6,
) -> Iterator[Tracked]:
    """Number the faces in a video's `detections`, one item for each frame.

    Args:
        min_iou: Least overlap of a face's boxes in consecutive frames, more than 0.
        min_hits: Frames in a row in which a face must be found before it counts. Then it is
            numbered from its first frame on; one that is found in fewer is left out.
        max_misses: Frames in a row in which a face may be missing and keep its number, if it
            comes back where it was. It isn't listed while it is missing.
        min_similarity: With embeddings: a face that no track continues, and whose embedding has
            this cosine similarity or more to an earlier one's mean, takes that one's number,
            however long ago and wherever that was.

    Yields:
        For each frame its faces, in the order of its detections. Numbers count from 1 in the
        order in which faces are confirmed. An item comes `min_hits` - 1 frames late.

    Raises:
        UsageError: a parameter makes no sense, or there are not as many embeddings as faces.
    """
    if not 0 < min_iou <= 1 or not 0 < min_similarity <= 1:
        raise UsageError("min_iou and min_similarity", expected="more than 0, at most 1")
    if min_hits < 1 or max_misses < 0:
        raise UsageError("min_hits must be at least 1, max_misses at least 0")
    return _track(detections, _Tracker(min_iou, min_hits, max_misses, min_similarity))


def _track(detections: Iterable[Detections], tracker: _Tracker) -> Iterator[Tracked]:
    waiting: deque[tuple[Detections, list[_Track]]] = deque()
    for found in detections:
        waiting.append((found, tracker.advance(found)))
        if len(waiting) == tracker.min_hits:
            yield _numbered(*waiting.popleft())
    while waiting:
        yield _numbered(*waiting.popleft())


def _numbered(found: Detections, owners: list[_Track]) -> Tracked:
    numbers = np.array([owner.number for owner in owners], dtype=np.int64)
    sure = found.take(numbers > 0)
    return Tracked(numbers[numbers > 0], sure.boxes, sure.probs, sure.points)


@dataclass
class _Tracker:
    """The tracks as they are after the last frame; parameters as `track`'s."""

    min_iou: float
    min_hits: int
    max_misses: int
    min_similarity: float
    live: list[_Track] = field(default_factory=list)
    lost: list[_Track] = field(default_factory=list)
    confirmed: int = 0

    def advance(self, found: Detections) -> list[_Track]:
        """Take the next frame's faces; each one's track."""
        vectors = None
        if found.embeddings is not None and len(found.boxes):
            if np.shape(found.embeddings)[:-1] != found.probs.shape:
                raise UsageError(
                    "an embedding for each face",
                    expected=f"({len(found.boxes)}, D)",
                    found=np.shape(found.embeddings),
                )
            vectors = _units(found.embeddings)
        owner: dict[int, _Track] = {}
        boxes = np.array([each.box for each in self.live]).reshape(-1, 4)
        for row, column in match(boxes, found.boxes, self.min_iou):
            owner[column] = self.live[row]
        if vectors is not None:
            self._recognise(vectors, owner)
        for column, one in owner.items():
            one.take(found.boxes[column], None if vectors is None else vectors[column])
        self._miss({id(one) for one in owner.values()})
        for column in range(len(found.boxes)):
            if column not in owner:
                vector = None if vectors is None else vectors[column]
                owner[column] = _Track(found.boxes[column], vector)
                self.live.append(owner[column])
        ordered = [owner[column] for column in range(len(found.boxes))]
        for one in ordered:
            if not one.number and one.hits >= self.min_hits:
                self.confirmed += 1
                one.number = self.confirmed
        return ordered

    def _recognise(self, vectors: np.ndarray, owner: dict[int, _Track]) -> None:
        """Give faces that no track continues to confirmed tracks that they resemble."""
        taken = {id(one) for one in owner.values()}
        known = [
            one
            for one in self.live + self.lost
            if one.number and one.vector is not None and id(one) not in taken
        ]
        new = [column for column in range(len(vectors)) if column not in owner]
        if not known or not new:
            return
        means = _units(np.array([one.vector for one in known]))
        for row, column in assign(means @ vectors[new].T, self.min_similarity):
            one = known[row]
            owner[new[column]] = one
            if one in self.lost:
                self.lost.remove(one)
                self.live.append(one)

    def _miss(self, found: set[int]) -> None:
        """Count a miss for every live track that is not `found`, and let go of what is over."""
        live = []
        for one in self.live:
            if id(one) in found:
                live.append(one)
                continue
            one.misses += 1
            if one.number and one.misses <= self.max_misses:
                live.append(one)
            elif one.number and one.vector is not None:
                self.lost.append(one)
        self.live = live


def _units(vectors: np.ndarray) -> np.ndarray:
    """`vectors` ``(N, D)`` with length 1."""
    wide = np.asarray(vectors, np.float64)
    units: np.ndarray = wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-12)
    return units


def follow(
    frames: Iterable[Frame],
    detector: VideoDetector,
    embed: Embedder | None = None,
    **options: float,
) -> Iterator[tuple[Frame, Tracked]]:
    """Each of `frames` with its numbered faces.

    Args:
        embed: Embeddings ``(N, D)`` of the faces in an image at boxes ``(N, 4)``, by which faces
            that come back are recognised; `embedder` makes one of an InceptionResnetV1.
        options: As `track`'s.

    Holds back as many frames as `detector` and `track` look ahead.
    """
    held: deque[Frame] = deque()
    undetected: deque[np.ndarray] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in frames:
            held.append(frame)
            undetected.append(frame.image)
            yield frame.image

    def detections() -> Iterator[Detections]:
        for found in detector.detect(images()):
            image = undetected.popleft()
            if embed is not None and len(found.boxes):
                found = found._replace(embeddings=embed(image, found.boxes))
            yield found

    for faces in track(detections(), **options):  # type: ignore[arg-type] # ints too
        yield held.popleft(), faces
