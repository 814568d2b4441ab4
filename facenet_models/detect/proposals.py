"""The first stage of facenet-pytorch: P-Net over the pyramid of an image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facenet_models.detect import boxes as bx
from facenet_models.detect.area import resample
from facenet_models.detect.settings import Nets, Settings, normalise, scales, working_dtype


def propose(planes: Tensor, nets: Nets, settings: Settings) -> np.ndarray:
    """Squares that may hold a face: ``(N, 4)``."""
    height, width = planes.shape[1:]
    found = []
    for scale in scales(height, width, settings):
        level = resample(planes, int(height * scale + 1), int(width * scale + 1))
        candidates = _candidates(level, scale, nets, settings.thresholds[0])
        kept = bx.nms(candidates[:, :4], candidates[:, 4], 0.5, bx.TORCHVISION)
        found.append(candidates[kept])
    if not found:
        return np.empty((0, 4), np.float32)
    candidates = np.concatenate(found)
    kept = bx.nms(candidates[:, :4], candidates[:, 4], 0.7, bx.TORCHVISION)
    candidates = candidates[kept]
    return bx.square(bx.regress(candidates[:, :4], candidates[:, 5:], pixel=0))


def _candidates(level: Tensor, scale: float, nets: Nets, threshold: float) -> np.ndarray:
    """Windows of one pyramid level that P-Net takes for a face: box, score, regression."""
    regression, probability = nets.pnet(normalise(level[None]).to(nets.dtype))
    dtype = working_dtype(nets.dtype)
    scores = probability[0, 1].to(dtype)
    rows, columns = torch.nonzero(scores >= threshold, as_tuple=True)
    chosen = torch.cat([scores[None], regression[0].to(dtype)])[:, rows, columns].T.cpu().numpy()
    boxes = bx.windows(rows.cpu().numpy(), columns.cpu().numpy(), scale, chosen.dtype)
    return np.concatenate([boxes, chosen], axis=1)
