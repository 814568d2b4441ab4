"""The three stages of the original detector, davidsandberg/facenet at 096ed77.

Compare ``src/align/detect_face.py`` in
https://github.com/davidsandberg/facenet/tree/096ed770f163957c1e56efa7feeb194773920f6e.
It has the networks and stages of `cascade`. These differences move boxes by up to 5 pixels:

* the pyramid's sizes are rounded up, and its images resampled by OpenCV's INTER_AREA
  (`inter_area`) to whole values 0 to 255;
* boxes are float64, and truncated to whole pixels before R-Net and O-Net;
* the parts of a crop outside the image are black, not cut off;
* non-maximum suppression always counts both edges in a width;
* a bug of the original is repeated, see `propose`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from facenet_models.detect import boxes as box_ops
from facenet_models.detect.inter_area import inter_area
from facenet_models.detect.settings import (
    Faces,
    Nets,
    Settings,
    compute_dtype,
    normalise_,
    run_net,
    scales,
)


def detect(images: Sequence[Tensor], nets: Nets, settings: Settings) -> list[Faces]:
    """Find the faces in each of `images`, ``(H, W, 3)`` with values 0 to 255, of any sizes."""
    return [_detect(image, nets, settings) for image in images]


def _detect(image: Tensor, nets: Nets, settings: Settings) -> Faces:
    pixels = image.cpu().numpy()
    _, accept_second, accept_third = settings.thresholds
    boxes = np.trunc(propose(pixels, nets, settings))

    boxes, (offsets, probability) = _run_on_crops(pixels, boxes, nets.rnet, 24, nets.dtype)
    good = probability[:, 1] > accept_second
    boxes, offsets, scores = boxes[good], offsets[good], probability[good, 1]
    kept = box_ops.nms(boxes, scores, 0.7, box_ops.UNION)
    boxes = np.trunc(box_ops.square(box_ops.regress(boxes[kept], offsets[kept], pixel=1)))

    boxes, (offsets, marks, probability) = _run_on_crops(pixels, boxes, nets.onet, 48, nets.dtype)
    good = probability[:, 1] > accept_third
    boxes, offsets, marks = boxes[good], offsets[good], marks[good]
    scores = probability[good, 1]
    final = box_ops.regress(boxes, offsets, pixel=1)
    kept = box_ops.nms(final, scores, 0.7, box_ops.SMALLER)
    points = box_ops.landmarks(boxes, marks)[kept]
    dtype = np.float64 if nets.dtype == torch.float64 else np.float32
    return Faces(*(part.astype(dtype) for part in (final[kept], scores[kept], points)))


def propose(pixels: np.ndarray, nets: Nets, settings: Settings) -> np.ndarray:
    """Run the first stage: find squares that may contain a face.

    Where P-Net accepts a single window of an image, the original reads that window's regression
    from the mirrored map: its ``generateBoundingBox`` flips the maps if ``y.shape[0] == 1``. That
    bug is repeated here, because the boxes depend on it.

    Args:
        pixels: ``(H, W, 3)``, values 0 to 255.
        nets: P-Net is used.
        settings: Of the detector.

    Returns:
        ``(N, 4)`` float64: left, top, right, bottom in pixels.
    """
    height, width = pixels.shape[:2]
    found = [np.empty((0, 9))]
    for step in range(len(scales(height, width, settings))):
        # The original computes powers of the factor; repeated multiplication rounds elsewhere.
        scale = box_ops.CELL / settings.min_face_size * settings.factor**step
        level = inter_area(pixels, int(np.ceil(height * scale)), int(np.ceil(width * scale)))
        regression, probability = nets.pnet(_to_net(level[None], nets))
        scores = probability[0, 1].float().cpu().numpy()
        # Column by column, as the original reads its transposed maps. The order matters: it
        # decides between equal scores.
        columns, rows = np.nonzero(np.float32(settings.thresholds[0]) <= scores.T)
        # The original's bug, see above.
        where = scores.shape[1] - 1 - columns if len(columns) == 1 else columns
        offsets = regression[0].float().cpu().numpy()[:, rows, where].T
        boxes = box_ops.windows(rows, columns, scale, np.dtype(np.float64))
        chosen = np.concatenate([boxes, scores[rows, columns, None], offsets], axis=1)
        found.append(chosen[box_ops.nms(boxes, chosen[:, 4], 0.5, box_ops.UNION)])
    candidates = np.concatenate(found)
    candidates = candidates[box_ops.nms(candidates[:, :4], candidates[:, 4], 0.7, box_ops.UNION)]
    return box_ops.square(box_ops.regress(candidates[:, :4], candidates[:, 5:], pixel=0))


def _run_on_crops(
    pixels: np.ndarray, boxes: np.ndarray, net: nn.Module, size: int, dtype: torch.dtype
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Run `net` on the crops at `boxes` (whole numbers); leave out boxes without a pixel.

    Returns:
        The remaining boxes, and each output of `net` for them.
    """
    edges = boxes[:, 2:] - boxes[:, :2]
    boxes = boxes[(edges >= 0).all(axis=1)]
    crops = [inter_area(_cut(pixels, box), size, size) for box in boxes.astype(np.int64)]
    stacked = np.array(crops, dtype=np.float64).reshape(-1, size, size, 3)
    batch = torch.from_numpy(stacked).permute(0, 3, 1, 2)
    device = next(net.parameters()).device
    return boxes, run_net(net, batch.to(device, compute_dtype(dtype)), dtype)


def _cut(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut the 1-based, inclusive `box` out of an image: float64, black outside the image."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = (int(edge) for edge in box)
    part = np.zeros((bottom - top + 1, right - left + 1, 3))
    x1, y1, x2, y2 = max(left, 1), max(top, 1), min(right, width), min(bottom, height)
    if x1 <= x2 and y1 <= y2:
        part[y1 - top : y2 - top + 1, x1 - left : x2 - left + 1] = pixels[y1 - 1 : y2, x1 - 1 : x2]
    return part


def _to_net(images: np.ndarray, nets: Nets) -> Tensor:
    """Convert ``(N, H, W, 3)`` with values 0 to 255 to P-Net's input."""
    parameter = next(nets.pnet.parameters())
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(parameter.device)
    return normalise_(batch.to(compute_dtype(nets.dtype))).to(nets.dtype)
