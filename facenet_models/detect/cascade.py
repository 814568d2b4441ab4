"""The three stages of facenet-pytorch's detector: the boxes of its version 2.6.0, to rounding.

Compare ``detect_face`` in
https://github.com/timesler/facenet-pytorch/blob/master/models/utils/detect_face.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from facenet_models.detect import boxes as box_ops
from facenet_models.detect.area import resample_crops
from facenet_models.detect.plain import is_plain
from facenet_models.detect.proposals import Kernels, propose
from facenet_models.detect.settings import Faces, Nets, Settings, compute_dtype, run_net


def detect(images: Sequence[Tensor], nets: Nets, settings: Settings) -> list[Faces]:
    """Find the faces in each of `images`, ``(H, W, 3)`` with values 0 to 255, of any sizes."""
    kernels = Kernels.from_net(nets.pnet) if is_plain(nets.pnet) else None
    found = []
    for image in images:  # one by one: as fast as a batch, and memory stays bounded
        pixels = image.contiguous()
        boxes = propose(pixels, nets, settings, kernels)
        boxes = refine(pixels, boxes, nets, settings.thresholds[1])
        found.append(finish(pixels, boxes, nets, settings.thresholds[2]))
    return found


def refine(image: Tensor, boxes: np.ndarray, nets: Nets, threshold: float) -> np.ndarray:
    """Run the second stage: R-Net scores and moves every box.

    Args:
        image: ``(H, W, 3)``, contiguous, values 0 to 255.
        boxes: ``(N, 4)``: squares that `propose` gave.
        nets: R-Net is used.
        threshold: Boxes with a probability above it are kept.

    Returns:
        ``(M, 4)``: the kept boxes, as squares.
    """
    boxes, (offsets, probability) = _run_on_crops(image, boxes, nets.rnet, 24, nets.dtype)
    good = probability[:, 1] > threshold
    boxes, offsets, scores = boxes[good], offsets[good], probability[good, 1]
    kept = box_ops.nms(boxes, scores, 0.7, box_ops.TORCHVISION)
    return box_ops.square(box_ops.regress(boxes[kept], offsets[kept], pixel=1))


def finish(image: Tensor, boxes: np.ndarray, nets: Nets, threshold: float) -> Faces:
    """Run the third stage: O-Net gives the final boxes, scores and landmarks.

    Arguments as `refine`, whose squares it takes.
    """
    boxes, (offsets, marks, probability) = _run_on_crops(image, boxes, nets.onet, 48, nets.dtype)
    good = probability[:, 1] > threshold
    boxes, offsets, marks = boxes[good], offsets[good], marks[good]
    scores = probability[good, 1]
    final = box_ops.regress(boxes, offsets, pixel=1)
    kept = box_ops.nms(final, scores, 0.7, box_ops.SMALLER)
    return Faces(final[kept], scores[kept], box_ops.landmarks(boxes, marks)[kept])


def _run_on_crops(
    image: Tensor, boxes: np.ndarray, net: nn.Module, size: int, dtype: torch.dtype
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Run `net` on the crops at `boxes`; leave out boxes without a pixel in the image.

    facenet-pytorch drops such crops but keeps their boxes, so that scores move to other boxes:
    ``detect_face`` in the file that is named above, ``if ey[k] > (y[k] - 1)``.

    Returns:
        The remaining boxes, and each output of `net` for them.
    """
    pixels = _clip(boxes, *image.shape[:2])
    filled = (pixels[:, 2] > pixels[:, 0]) & (pixels[:, 3] > pixels[:, 1])
    parts = resample_crops(image, pixels[filled], size, compute_dtype(dtype))
    return boxes[filled], run_net(net, parts, dtype)


def _clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Convert 1-based `boxes` to whole pixels of the image, with right and bottom exclusive."""
    whole = np.trunc(boxes).astype(np.int64)
    first = np.maximum(whole[:, :2], 1) - 1
    last = np.minimum(whole[:, 2:], [width, height])
    return np.concatenate([first, last], axis=1)
