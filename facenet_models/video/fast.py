"""MTCNN on a video: the whole of it on every n-th frame, R-Net and O-Net alone in between.

P-Net's search through the whole frame is what takes the time. Between two frames that were
searched, faces are near where these show them: there R-Net and O-Net look again.
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

# What R-Net is shown of a guess: the box, and the box moved by a tenth of its edge. On the
# reference video, stride 4, against the full search: 1 crop misses 17 % of the faces, these 5 miss
# 9 %, 27 (three sizes, nine places) 5 % at five times the cost. Mean IoU is 0.91 with each.
SHIFTS = ((0.0, 0.0), (0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1))
SAME = 0.3  # IoU from which boxes in two frames are taken for one face


class FastMTCNN:
    """Detects faces in the frames of a video.

    Args:
        detector: Searches every `stride`-th frame, and the last.
        stride: 1 searches all, with the detector's own answers.

    In the frames between, a face is looked for on the line from its place in the searched frame
    before to that in the one after, or, if only one of them shows it, where that does. R-Net and
    O-Net judge it with the detector's thresholds. What both searched frames show is never
    dropped: where the nets don't see it, box, landmarks and probability are interpolated.
    A face that comes and goes between two searched frames is missed.

    Raises:
        UsageError: `stride` is less than 1, or more than 1 with a detector of another backend
            than "facenet-pytorch", whose R-Net and O-Net stages are the ones that are run here.
    """

    def __init__(self, detector: MTCNN, stride: int = 4) -> None:
        if stride < 1:
            raise UsageError("stride", expected="1 or more", found=stride)
        if stride > 1 and detector.backend != "facenet-pytorch":
            raise UsageError(
                "only the backend facenet-pytorch can look again between searched frames",
                found=detector.backend,
                next_step="pass stride=1, or a detector of that backend",
            )
        self.detector = detector
        self.stride = stride

    def detect(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """The faces in each of `images`, ``(H, W, 3)`` uint8 RGB, in their order.

        Reads ahead `stride` images, and holds no more. Searched images are handed to the detector
        one by one: it is as fast so as with a batch.
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
        return Detections.of(*self.detector.detect(image, landmarks=True))

    def _fill(
        self, first: Detections, images: list[np.ndarray], last: Detections
    ) -> Iterator[Detections]:
        """The faces in `images`, which lie between two frames with the faces `first` and `last`."""
        pairs = match(first.boxes, last.boxes, SAME)
        for step, image in enumerate(images, start=1):
            sure = interpolated(first, last, pairs, step / (len(images) + 1))
            guesses = np.concatenate([sure.boxes, *_unpaired(first, last, pairs)])
            found = self._look(image, guesses)
            seen = {row for row, _ in match(sure.boxes, found.boxes, SAME)}
            unseen = [row for row in range(len(sure.boxes)) if row not in seen]
            yield self._ordered(_joined(found, sure.take(unseen)))

    def _look(self, image: np.ndarray, guesses: np.ndarray) -> Detections:
        """What R-Net and O-Net find around `guesses`, ``(N, 4)``."""
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
                return Detections.of(None, None, None)
            return Detections.of(*cascade.finish(pixels, boxes, nets, third))

    def _ordered(self, found: Detections) -> Detections:
        """As the detector lists faces."""
        from facenet_models.detect import selection

        merit = selection.box_areas(found.boxes) if self.detector.select_largest else found.probs
        return found.take(selection.argsort_descending(merit))


def interpolated(first: Detections, last: Detections, pairs: Pairs, weight: float) -> Detections:
    """The faces of `pairs` at the time `weight`, 0 being `first`'s and 1 `last`'s."""
    rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
    ends = zip(first.take(rows)[:3], last.take(columns)[:3], strict=True)
    return Detections.of(*((1 - weight) * a + weight * b for a, b in ends))


def _unpaired(first: Detections, last: Detections, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """The boxes that only `first`, and those that only `last` shows."""
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    return (
        first.boxes[[row for row in range(len(first.boxes)) if row not in rows]],
        last.boxes[[row for row in range(len(last.boxes)) if row not in columns]],
    )


def _proposals(guesses: np.ndarray) -> np.ndarray:
    """Squares for R-Net, ``(len(SHIFTS) * N, 4)``, as P-Net would have proposed them."""
    from facenet_models.detect.boxes import square

    squares = square(guesses)
    edges = (squares[:, 2] - squares[:, 0])[:, None]
    moved = [squares + edges * np.array([x, y, x, y], np.float32) for x, y in SHIFTS]
    return np.concatenate(moved)


def _joined(found: Detections, more: Detections) -> Detections:
    parts = zip(found[:3], more[:3], strict=True)
    return Detections(*(np.concatenate(part) for part in parts))
