"""The original detector: davidsandberg/facenet's ``src/align/detect_face.py`` at 096ed77.

The same nets and stages as in `cascade`; what differs, and moves boxes by up to 5 pixels:

* sizes of the pyramid are rounded up, and images resampled by OpenCV's INTER_AREA (`inter_area`),
  to whole values 0 to 255 in the pyramid;
* boxes are float64, and cut off to whole pixels before R-Net and O-Net see them;
* what of a crop is outside the image is black, not left out;
* widths count both edges in every non-maximum suppression;
* one slip is kept, see `_propose`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from facenet_models.detect import boxes as bx
from facenet_models.detect.inter_area import inter_area
from facenet_models.detect.settings import Faces, Nets, Settings, normalise_, run_net, scales


def detect(images: Sequence[Tensor], nets: Nets, settings: Settings) -> list[Faces]:
    """Faces in each of `images`, ``(H, W, 3)`` with values 0 to 255, of any sizes."""
    return [_detect(image, nets, settings) for image in images]


def _detect(image: Tensor, nets: Nets, settings: Settings) -> Faces:
    pixels = image.cpu().numpy()
    _, accept_second, accept_third = settings.thresholds
    boxes = np.trunc(_propose(pixels, nets, settings))

    boxes, (offsets, probability) = _judge(pixels, boxes, nets.rnet, 24, nets.dtype)
    good = probability[:, 1] > accept_second
    boxes, offsets, scores = boxes[good], offsets[good], probability[good, 1]
    kept = bx.nms(boxes, scores, 0.7, bx.UNION)
    boxes = np.trunc(bx.square(bx.regress(boxes[kept], offsets[kept], pixel=1)))

    boxes, (offsets, marks, probability) = _judge(pixels, boxes, nets.onet, 48, nets.dtype)
    good = probability[:, 1] > accept_third
    boxes, offsets, marks = boxes[good], offsets[good], marks[good]
    scores = probability[good, 1]
    final = bx.regress(boxes, offsets, pixel=1)
    kept = bx.nms(final, scores, 0.7, bx.SMALLER)
    points = bx.landmarks(boxes, marks)[kept]
    dtype = np.float64 if nets.dtype == torch.float64 else np.float32
    return Faces(*(part.astype(dtype) for part in (final[kept], scores[kept], points)))


def _propose(pixels: np.ndarray, nets: Nets, settings: Settings) -> np.ndarray:
    """The first stage: squares ``(N, 4)`` that may hold a face."""
    height, width = pixels.shape[:2]
    found = [np.empty((0, 9))]
    for step in range(len(scales(height, width, settings))):
        scale = bx.CELL / settings.min_face_size * settings.factor**step  # not step by step
        level = inter_area(pixels, int(np.ceil(height * scale)), int(np.ceil(width * scale)))
        regression, probability = nets.pnet(_to_net(level[None], nets))
        scores = probability[0, 1].float().cpu().numpy()
        # Column by column, as the original's transposed maps are read: it decides between equals.
        columns, rows = np.nonzero(np.float32(settings.thresholds[0]) <= scores.T)
        # One window alone: the original reads its regression off the mirrored map. Its slip.
        where = scores.shape[1] - 1 - columns if len(columns) == 1 else columns
        offsets = regression[0].float().cpu().numpy()[:, rows, where].T
        boxes = bx.windows(rows, columns, scale, np.dtype(np.float64))
        chosen = np.concatenate([boxes, scores[rows, columns, None], offsets], axis=1)
        found.append(chosen[bx.nms(boxes, chosen[:, 4], 0.5, bx.UNION)])
    candidates = np.concatenate(found)
    candidates = candidates[bx.nms(candidates[:, :4], candidates[:, 4], 0.7, bx.UNION)]
    return bx.square(bx.regress(candidates[:, :4], candidates[:, 5:], pixel=0))


def _judge(
    pixels: np.ndarray, boxes: np.ndarray, net: nn.Module, size: int, dtype: torch.dtype
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What `net` answers on `boxes` (whole numbers): those with any pixel, and each output."""
    edges = boxes[:, 2:] - boxes[:, :2]
    boxes = boxes[(edges >= 0).all(axis=1)]
    crops = [inter_area(_cut(pixels, box), size, size) for box in boxes.astype(np.int64)]
    stacked = np.array(crops, dtype=np.float64).reshape(-1, size, size, 3)
    batch = torch.from_numpy(stacked).permute(0, 3, 1, 2)
    device = next(net.parameters()).device
    working = torch.float64 if dtype == torch.float64 else torch.float32
    return boxes, run_net(net, batch.to(device, working), dtype)


def _cut(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The 1-based, inclusive `box` of an image, float64; black where it is outside."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = (int(edge) for edge in box)
    part = np.zeros((bottom - top + 1, right - left + 1, 3))
    x1, y1, x2, y2 = max(left, 1), max(top, 1), min(right, width), min(bottom, height)
    if x1 <= x2 and y1 <= y2:
        part[y1 - top : y2 - top + 1, x1 - left : x2 - left + 1] = pixels[y1 - 1 : y2, x1 - 1 : x2]
    return part


def _to_net(images: np.ndarray, nets: Nets) -> Tensor:
    """``(N, H, W, 3)`` with values 0 to 255 as P-Net takes them."""
    parameter = next(nets.pnet.parameters())
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(parameter.device)
    working = torch.float64 if nets.dtype == torch.float64 else torch.float32
    return normalise_(batch.to(working)).to(nets.dtype)
