"""Track faces through a video: each face gets one number, from its first frame to its last.

All boxes of a frame are assigned together to the tracks whose last boxes they overlap most
(`matching.assign`). Equal detections always give equal numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from facenet_common.errors import UsageError
from facenet_models.video.detections import Detections, Tracked
from facenet_models.video.matching import assign, match
from facenet_models.video.reader import Frame


class VideoDetector(Protocol):
    """A detector for the frames of a video, such as `FastMTCNN`."""

    def detect(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Yield the faces in each image, in order."""
        ...


Embedder = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(eq=False)  # two tracks are never equal
class _Track:
    """A face that is followed.

    `hits` counts the frames in which it was found; `misses` those since it was last found.
    """

    box: np.ndarray
    vector: np.ndarray | None  # mean of its unit embeddings
    hits: int = 1
    misses: int = 0
    number: int = 0  # 0 until it is confirmed

    def update(self, box: np.ndarray, vector: np.ndarray | None) -> None:
        """Add the face of the next frame in which it was found."""
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
    """Number the faces in a video.

    Args:
        detections: One item for each frame.
        min_iou: Minimum overlap of a face's boxes in consecutive frames, above 0.
        min_hits: Consecutive frames in which a face must be found to be confirmed. It is then
            numbered from its first frame on. A face found in fewer frames is left out.
        max_misses: Consecutive frames in which a face may be missing and keep its number, if it
            returns to the same place. It is not listed in these frames.
        min_similarity: Used with embeddings. A face that continues no track gets the number of an
            earlier face if their cosine similarity is at least this, whatever the time and place.
            The earlier face's embedding is the mean over its frames.

    Yields:
        For each frame its faces, in the order of its detections. Numbers count from 1 in the
        order in which faces are confirmed. Frames are delayed by `min_hits` - 1.

    Raises:
        UsageError: A parameter is out of range, or the numbers of embeddings and faces differ.

    Examples:
        >>> box = np.array([[0, 0, 10, 10]], np.float32)
        >>> found = Detections(box, np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32))
        >>> [faces.ids.tolist() for faces in track([found] * 3)]
        [[1], [1], [1]]
    """
    if not 0 < min_iou <= 1 or not 0 < min_similarity <= 1:
        raise UsageError("min_iou and min_similarity must be above 0 and at most 1")
    if min_hits < 1 or max_misses < 0:
        raise UsageError("min_hits must be at least 1, max_misses at least 0")
    return _number_frames(detections, _Tracker(min_iou, min_hits, max_misses, min_similarity))


def _number_frames(detections: Iterable[Detections], tracker: _Tracker) -> Iterator[Tracked]:
    waiting: deque[tuple[Detections, list[_Track]]] = deque()
    for found in detections:
        waiting.append((found, tracker.advance(found)))
        if len(waiting) == tracker.min_hits:
            yield _numbered(*waiting.popleft())
    while waiting:
        yield _numbered(*waiting.popleft())


def _numbered(found: Detections, owners: list[_Track]) -> Tracked:
    numbers = np.array([owner.number for owner in owners], dtype=np.int64)
    confirmed = found.select(numbers > 0)
    return Tracked(numbers[numbers > 0], confirmed.boxes, confirmed.probs, confirmed.points)


@dataclass
class _Tracker:
    """The tracks after the frames so far; parameters as those of `track`."""

    min_iou: float
    min_hits: int
    max_misses: int
    min_similarity: float
    live: list[_Track] = field(default_factory=list)
    lost: list[_Track] = field(default_factory=list)
    confirmed: int = 0

    def advance(self, found: Detections) -> list[_Track]:
        """Assign the next frame's faces to tracks; return the track of each face."""
        vectors = None
        if found.embeddings is not None and len(found.boxes):
            if np.shape(found.embeddings)[:-1] != found.probs.shape:
                raise UsageError(
                    "expected one embedding for each face",
                    expected=f"({len(found.boxes)}, D)",
                    found=np.shape(found.embeddings),
                )
            vectors = _to_unit_length(found.embeddings)
        owner: dict[int, _Track] = {}
        boxes = np.array([known.box for known in self.live]).reshape(-1, 4)
        for row, column in match(boxes, found.boxes, self.min_iou):
            owner[column] = self.live[row]
        if vectors is not None:
            self._recognise(vectors, owner)
        for column, face in owner.items():
            face.update(found.boxes[column], None if vectors is None else vectors[column])
        self._count_misses({id(face) for face in owner.values()})
        for column in range(len(found.boxes)):
            if column not in owner:
                vector = None if vectors is None else vectors[column]
                owner[column] = _Track(found.boxes[column], vector)
                self.live.append(owner[column])
        ordered = [owner[column] for column in range(len(found.boxes))]
        for face in ordered:
            if not face.number and face.hits >= self.min_hits:
                self.confirmed += 1
                face.number = self.confirmed
        return ordered

    def _recognise(self, vectors: np.ndarray, owner: dict[int, _Track]) -> None:
        """Assign faces without a track to confirmed tracks with a similar embedding."""
        taken = {id(face) for face in owner.values()}
        known = [
            face
            for face in self.live + self.lost
            if face.number and face.vector is not None and id(face) not in taken
        ]
        new = [column for column in range(len(vectors)) if column not in owner]
        if not known or not new:
            return
        means = _to_unit_length(np.array([face.vector for face in known]))
        for row, column in assign(means @ vectors[new].T, self.min_similarity):
            face = known[row]
            owner[new[column]] = face
            if face in self.lost:
                self.lost.remove(face)
                self.live.append(face)

    def _count_misses(self, found: set[int]) -> None:
        """Count a miss for each live track that is not `found`, and end tracks with too many."""
        live = []
        for face in self.live:
            if id(face) in found:
                live.append(face)
                continue
            face.misses += 1
            if face.number and face.misses <= self.max_misses:
                live.append(face)
            elif face.number and face.vector is not None:
                self.lost.append(face)
        self.live = live


def _to_unit_length(vectors: np.ndarray) -> np.ndarray:
    """Scale `vectors` ``(N, D)`` to length 1."""
    exact = np.asarray(vectors, np.float64)
    units: np.ndarray = exact / np.linalg.norm(exact, axis=1, keepdims=True).clip(1e-12)
    return units


def follow(
    frames: Iterable[Frame],
    detector: VideoDetector,
    embed: Embedder | None = None,
    **options: float,
) -> Iterator[tuple[Frame, Tracked]]:
    """Detect and track the faces in `frames`, and yield each frame with its numbered faces.

    As many frames are held in memory as `detector` and `track` look ahead.

    Args:
        frames: Of one video, in order.
        detector: Such as `FastMTCNN`.
        embed: A function that returns the embeddings ``(N, D)`` of the faces in an image at boxes
            ``(N, 4)``. With it, faces that come back are recognised; see `embedder`.
        options: Those of `track`.

    Examples:
        >>> for frame, faces in follow(frames("street.mp4"), detector):  # doctest: +SKIP
        ...     print(frame.time, faces.ids)
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
