"""MTCNN for videos: all three stages on every n-th frame, only R-Net and O-Net in between.

P-Net's search of the whole frame takes most of the time. Faces between two searched frames are
near their places in these frames, so R-Net and O-Net are run there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from facenet_common.errors import UsageError
from facenet_models.video.detections import Detections
from facenet_models.video.matching import Pairs, match

if TYPE_CHECKING:
    from facenet_models.detect.mtcnn import MTCNN

# R-Net gets each guessed box, and the box moved by a tenth of its edge in four directions. On the
# reference video with stride 4, compared with the full search, 1 crop misses 17 % of the faces,
# these 5 crops miss 9 %, and 27 (three sizes, nine places) 5 % at five times the cost. The mean IoU
# is 0.91 with each.
SHIFTS = ((0.0, 0.0), (0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1))
MIN_IOU = 0.3  # of boxes in two frames that count as one face


class FastMTCNN:
    """Detect faces in the frames of a video.

    The detector searches every `stride`-th frame and the last one. In the frames between, the
    place of a face is interpolated from the searched frames before and after, or is its place in
    one of them if the other does not show it. R-Net and O-Net run there, with the detector's
    thresholds. A face in both searched frames is never dropped: if the networks don't find it, its
    box, landmarks and probability are interpolated. A face that appears and disappears between
    two searched frames is missed.

    Args:
        detector: Of the backend "facenet-pytorch", unless `stride` is 1.
        stride: 1 searches every frame, and returns the detector's results.

    Raises:
        UsageError: `stride` is below 1, or above 1 with a detector of another backend, whose
            R-Net and O-Net stages differ from those used here.

    Examples:
        >>> detector = FastMTCNN(MTCNN(), stride=4)  # doctest: +SKIP
        >>> images = (frame.image for frame in frames("street.mp4"))  # doctest: +SKIP
        >>> for faces in detector.detect(images):  # doctest: +SKIP
        ...     print(faces.boxes)
    """

    def __init__(self, detector: MTCNN, stride: int = 4) -> None:
        if stride < 1:
            raise UsageError("stride must be at least 1", found=stride)
        if stride > 1 and detector.backend != "facenet-pytorch":
            raise UsageError(
                "a stride above 1 needs the backend facenet-pytorch",
                found=detector.backend,
                next_step="pass stride=1, or a detector of that backend",
            )
        self.detector = detector
        self.stride = stride

    def detect(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Yield the faces in each of `images`, ``(H, W, 3)`` uint8 RGB, in their order.

        At most `stride` images are read ahead and held in memory. The detector gets images one by
        one, which is as fast as batches.
        """
        before: Detections | None = None
        between: list[np.ndarray] = []
        for number, image in enumerate(images):
            if number % self.stride:
                between.append(image)
                continue
            found = self._search(image)
            if before is not None:
                yield from self._fill(before, between, found)
            yield found
            before, between = found, []
        if before is not None and between:
            last = self._search(between[-1])
            yield from self._fill(before, between[:-1], last)
            yield last

    def _search(self, image: np.ndarray) -> Detections:
        return Detections.from_mtcnn(*self.detector.detect(image, landmarks=True))

    def _fill(
        self, first: Detections, images: list[np.ndarray], last: Detections
    ) -> Iterator[Detections]:
        """Yield the faces in `images` between two frames with the faces `first` and `last`."""
        pairs = match(first.boxes, last.boxes, MIN_IOU)
        for step, image in enumerate(images, start=1):
            expected = interpolate_faces(first, last, pairs, step / (len(images) + 1))
            guesses = np.concatenate([expected.boxes, *_unpaired(first, last, pairs)])
            found = self._refine(image, guesses)
            seen = {row for row, _ in match(expected.boxes, found.boxes, MIN_IOU)}
            unseen = [row for row in range(len(expected.boxes)) if row not in seen]
            yield self._sort(_join(found, expected.select(unseen)))

    def _refine(self, image: np.ndarray, guesses: np.ndarray) -> Detections:
        """Run R-Net and O-Net around `guesses`, ``(N, 4)``."""
        import torch

        from facenet_models.detect import cascade
        from facenet_models.detect.images import to_tensors
        from facenet_models.detect.settings import Nets

        detector = self.detector
        nets = Nets(detector.pnet, detector.rnet, detector.onet)
        boxes = _proposals(guesses)
        _, second, third = detector.thresholds
        with torch.inference_mode():
            if len(boxes):
                pixels = to_tensors([image], detector.device)[0].contiguous()
                boxes = cascade.refine(pixels, boxes, nets, second)
            if not len(boxes):
                return Detections.from_mtcnn(None, None, None)
            return Detections.from_mtcnn(*cascade.finish(pixels, boxes, nets, third))

    def _sort(self, found: Detections) -> Detections:
        """Return faces in the detector's order."""
        from facenet_models.detect import selection

        merit = selection.box_areas(found.boxes) if self.detector.select_largest else found.probs
        return found.select(selection.argsort_descending(merit))


def interpolate_faces(
    first: Detections, last: Detections, pairs: Pairs, weight: float
) -> Detections:
    """Interpolate the faces of `pairs` linearly: weight 0 gives `first`, 1 gives `last`."""
    rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
    ends = zip(first.select(rows)[:3], last.select(columns)[:3], strict=True)
    return Detections.from_mtcnn(*((1 - weight) * a + weight * b for a, b in ends))


def _unpaired(first: Detections, last: Detections, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes in `first` only, and those in `last` only."""
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    return (
        first.boxes[[row for row in range(len(first.boxes)) if row not in rows]],
        last.boxes[[row for row in range(len(last.boxes)) if row not in columns]],
    )


def _proposals(guesses: np.ndarray) -> np.ndarray:
    """Return squares around `guesses` for R-Net, ``(len(SHIFTS) * N, 4)``, in place of P-Net's."""
    from facenet_models.detect.boxes import square

    squares = square(guesses)
    edges = (squares[:, 2] - squares[:, 0])[:, None]
    moved = [squares + edges * np.array([x, y, x, y], np.float32) for x, y in SHIFTS]
    return np.concatenate(moved)


def _join(found: Detections, more: Detections) -> Detections:
    parts = zip(found[:3], more[:3], strict=True)
    return Detections(*(np.concatenate(part) for part in parts))
