"""facenet-pytorch's detector: the same boxes as its version 2.6.0, to float rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from facenet_models.detect import boxes as bx
from facenet_models.detect.area import crops
from facenet_models.detect.proposals import Kernels, propose
from facenet_models.detect.settings import Faces, Nets, Settings, run_net, working_dtype


def detect(images: Sequence[Tensor], nets: Nets, settings: Settings) -> list[Faces]:
    """Faces in each of `images`, ``(H, W, 3)`` with values 0 to 255, of any sizes."""
    kernels = Kernels.of(nets.pnet)
    found = []
    for image in images:  # one at a time, which is as fast as together and bounds the memory
        pixels = image.contiguous()
        boxes = propose(pixels, kernels, settings)
        boxes = refine(pixels, boxes, nets, settings.thresholds[1])
        found.append(finish(pixels, boxes, nets, settings.thresholds[2]))
    return found


def refine(image: Tensor, boxes: np.ndarray, nets: Nets, threshold: float) -> np.ndarray:
    """The second stage: R-Net judges and moves every box; squares again."""
    boxes, (offsets, probability) = _judge(image, boxes, nets.rnet, 24, nets.dtype)
    good = probability[:, 1] > threshold
    boxes, offsets, scores = boxes[good], offsets[good], probability[good, 1]
    kept = bx.nms(boxes, scores, 0.7, bx.TORCHVISION)
    return bx.square(bx.regress(boxes[kept], offsets[kept], pixel=1))


def finish(image: Tensor, boxes: np.ndarray, nets: Nets, threshold: float) -> Faces:
    """The third stage: O-Net gives the final boxes, scores and landmarks."""
    boxes, (offsets, marks, probability) = _judge(image, boxes, nets.onet, 48, nets.dtype)
    good = probability[:, 1] > threshold
    boxes, offsets, marks = boxes[good], offsets[good], marks[good]
    scores = probability[good, 1]
    final = bx.regress(boxes, offsets, pixel=1)
    kept = bx.nms(final, scores, 0.7, bx.SMALLER)
    return Faces(final[kept], scores[kept], bx.landmarks(boxes, marks)[kept])


def _judge(
    image: Tensor, boxes: np.ndarray, net: nn.Module, size: int, dtype: torch.dtype
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What `net` answers on `boxes`: those with any pixel in the image, and each output."""
    pixels = _clip(boxes, *image.shape[:2])
    filled = (pixels[:, 2] > pixels[:, 0]) & (pixels[:, 3] > pixels[:, 1])
    parts = crops(image, pixels[filled], size, working_dtype(dtype))
    return boxes[filled], run_net(net, parts, dtype)


def _clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Whole pixels of the image in 1-based `boxes`, right and bottom then outside: ``(N, 4)``."""
    whole = np.trunc(boxes).astype(np.int64)
    first = np.maximum(whole[:, :2], 1) - 1
    last = np.minimum(whole[:, 2:], [width, height])
    return np.concatenate([first, last], axis=1)
