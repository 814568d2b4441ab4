"""facenet-pytorch's detector: the same boxes as its version 2.6.0, to float rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from facenet_models.detect import boxes as bx
from facenet_models.detect.area import crops
from facenet_models.detect.proposals import propose
from facenet_models.detect.settings import Faces, Nets, Settings, run_net, working_dtype


def detect(images: Sequence[Tensor], nets: Nets, settings: Settings) -> list[Faces]:
    """Faces in each of `images`, ``(H, W, 3)`` with values 0 to 255, of any sizes."""
    dtype = working_dtype(nets.dtype)
    planes = [image.permute(2, 0, 1).to(dtype) for image in images]
    boxes = [propose(plane, nets, settings) for plane in planes]
    boxes = _refine(planes, boxes, nets, settings.thresholds[1])
    return _finish(planes, boxes, nets, settings.thresholds[2])


def _refine(
    planes: list[Tensor], boxes: list[np.ndarray], nets: Nets, threshold: float
) -> list[np.ndarray]:
    """The second stage: R-Net judges and moves every box; squares again."""
    boxes, (offsets, scores) = _judge(planes, boxes, nets.rnet, 24, nets.dtype)
    refined = []
    for own, moves, probability in zip(boxes, offsets, scores, strict=True):
        good = probability[:, 1] > threshold
        own, moves, score = own[good], moves[good], probability[good, 1]
        kept = bx.nms(own, score, 0.7, bx.TORCHVISION)
        refined.append(bx.square(bx.regress(own[kept], moves[kept], pixel=1)))
    return refined


def _finish(
    planes: list[Tensor], boxes: list[np.ndarray], nets: Nets, threshold: float
) -> list[Faces]:
    """The third stage: O-Net gives the final boxes, scores and landmarks."""
    boxes, (offsets, points, scores) = _judge(planes, boxes, nets.onet, 48, nets.dtype)
    found = []
    for own, moves, marks, probability in zip(boxes, offsets, points, scores, strict=True):
        good = probability[:, 1] > threshold
        own, moves, marks, score = own[good], moves[good], marks[good], probability[good, 1]
        final = bx.regress(own, moves, pixel=1)
        kept = bx.nms(final, score, 0.7, bx.SMALLER)
        found.append(Faces(final[kept], score[kept], bx.landmarks(own, marks)[kept]))
    return found


def _judge(
    planes: list[Tensor], boxes: list[np.ndarray], net: nn.Module, size: int, dtype: torch.dtype
) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """What `net` answers on the images' `boxes`: those boxes, and each output, image by image.

    Boxes that have no pixel in their image are left out.
    """
    parts, inside = [], []
    for plane, own in zip(planes, boxes, strict=True):
        pixels = _clip(own, *plane.shape[1:])
        filled = (pixels[:, 2] > pixels[:, 0]) & (pixels[:, 3] > pixels[:, 1])
        inside.append(own[filled])
        if filled.any():
            parts.append(crops(plane, pixels[filled], size))
    if not parts:
        parts = [torch.empty(0, 3, size, size, dtype=planes[0].dtype, device=planes[0].device)]
    outputs = run_net(net, torch.cat(parts), dtype)
    ends = np.cumsum([len(own) for own in inside])[:-1]
    return inside, [np.split(output, ends) for output in outputs]


def _clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Whole pixels of the image in 1-based `boxes`, right and bottom then outside: ``(N, 4)``."""
    whole = np.trunc(boxes).astype(np.int64)
    first = np.maximum(whole[:, :2], 1) - 1
    last = np.minimum(whole[:, 2:], [width, height])
    return np.concatenate([first, last], axis=1)
