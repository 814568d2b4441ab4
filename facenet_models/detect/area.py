"""facenet-pytorch's resampling: torch's "area" interpolation, the mean of a box of whole pixels.

Row i of h rows made of H is the mean of rows floor(i * H / h) up to ceil((i + 1) * H / h); columns
likewise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def resample(planes: Tensor, height: int, width: int) -> Tensor:
    """``(3, H, W)`` to ``(3, height, width)``."""
    return F.adaptive_avg_pool2d(planes, (height, width))


def crops(planes: Tensor, boxes: np.ndarray, size: int) -> Tensor:
    """The parts of ``(3, H, W)`` in `boxes` ``(N, 4)``: left, top, right, bottom, right and bottom
    outside; resampled to ``(N, 3, size, size)``."""
    parts = [resample(planes[:, y1:y2, x1:x2], size, size) for x1, y1, x2, y2 in boxes.tolist()]
    return torch.stack(parts)
