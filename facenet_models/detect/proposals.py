"""The first stage of facenet-pytorch: P-Net over the pyramid of an image.

Two thirds of the detector's arithmetic are here. P-Net is run over strips of the image, so that
what one layer writes is still in the processor's cache when the next one reads it (and memory
stays bounded); channels last; and its regression is computed only where there is a face.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facenet_models.detect import boxes as bx
from facenet_models.detect.area import Resampler
from facenet_models.detect.settings import Settings, normalise_, scales, working_dtype

CHANNELS = 16  # of P-Net's first layer, see Kernels
STRIP = {"cpu": 3 << 20, "cuda": 1 << 28}  # values in the first layer's output: 12 MB, 1 GB


class Kernels(NamedTuple):
    """P-Net's parameters for transposed images, channels last.

    Pooling before the first PReLU leaves it a quarter of the work. With a slope a that is not
    negative it grows with its input, and the order makes no difference. Else PReLU(x) is the
    greater of x and a x, so that its maximum is that of both's maxima: a second output, a x, is
    added to the first layer for each such channel (6 of the published 10, so that there are 16,
    as many as the kernels compute at a time anyway).
    """

    conv1: tuple[Tensor, Tensor]  # channels of slopes >= 0, channels of slopes < 0, a times these
    prelu1: Tensor  # 1 for all but the first of these three
    falling: tuple[int, int]  # how many channels the first two of these have
    conv2: tuple[Tensor, Tensor]  # 0 for the last
    prelu2: Tensor
    conv3: tuple[Tensor, Tensor]
    prelu3: Tensor
    score: tuple[Tensor, Tensor]  # logit of "face" less that of "no face"
    regression: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, net: nn.Module) -> Kernels:
        p: dict[str, Tensor] = dict(net.named_parameters())
        slopes = p["prelu1.weight"]
        rising, falling = torch.nonzero(slopes >= 0)[:, 0], torch.nonzero(slopes < 0)[:, 0]
        order, less = torch.cat([rising, falling]), slopes[falling]
        first, bias = p["conv1.weight"], p["conv1.bias"]
        first = torch.cat([first[order], first[falling] * less[:, None, None, None]])
        second = F.pad(p["conv2.weight"][:, order], (0, 0, 0, 0, 0, len(falling)))
        face = p["conv4_1.weight"].flatten(1)
        return cls(
            (_turned(first), torch.cat([bias[order], bias[falling] * less])),
            torch.cat([slopes[rising], torch.ones_like(slopes[falling]).repeat(2)]),
            (len(rising), len(order)),
            (_turned(second), p["conv2.bias"]),
            p["prelu2.weight"],
            (_turned(p["conv3.weight"]), p["conv3.bias"]),
            p["prelu3.weight"],
            ((face[1:] - face[:1]), p["conv4_1.bias"][1:] - p["conv4_1.bias"][:1]),
            (p["conv4_2.weight"].flatten(1), p["conv4_2.bias"]),
        )


def _turned(kernel: Tensor) -> Tensor:
    return kernel.transpose(2, 3).contiguous(memory_format=torch.channels_last)


def propose(image: Tensor, kernels: Kernels, settings: Settings) -> np.ndarray:
    """Squares ``(N, 4)`` that may hold a face in ``(H, W, 3)``."""
    height, width = image.shape[:2]
    resampler = Resampler(image, working_dtype(kernels.prelu1.dtype))
    found = [np.empty((0, 9), dtype=np.float32)]
    for scale in scales(height, width, settings):
        size = (int(height * scale + 1), int(width * scale + 1))
        rows, columns, scores, offsets = _windows(resampler, size, kernels, settings.thresholds[0])
        boxes = bx.windows(rows, columns, scale, scores.dtype)
        kept = bx.nms(boxes, scores, 0.5, bx.TORCHVISION)
        found.append(np.concatenate([boxes, scores[:, None], offsets], axis=1)[kept])
    candidates = np.concatenate(found)
    kept = bx.nms(candidates[:, :4], candidates[:, 4], 0.7, bx.TORCHVISION)
    candidates = candidates[kept]
    return bx.square(bx.regress(candidates[:, :4], candidates[:, 5:], pixel=0))


def _windows(
    resampler: Resampler, size: tuple[int, int], kernels: Kernels, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The windows that P-Net takes for a face in the image resampled to `size`, row by row.

    Returns their rows, columns, scores ``(N,)`` and regression ``(N, 4)``.
    """
    height, width = size
    count = (height - 1) // 2 - 4  # rows of windows, see PNet
    step = max(1, STRIP.get(resampler.image.device.type, STRIP["cpu"]) // (2 * CHANNELS * width))
    # A logit a little below the threshold's: whether it counts is told by its probability.
    least = math.log(max(threshold, 1e-9) / max(1 - threshold, 1e-9)) - 1e-3
    rows, columns, logits, features = [], [], [], []
    for start in range(0, count, step):
        stop = min(count, start + step)
        strip = resampler.transposed(height, width, 2 * start, min(height, 2 * stop + 10))
        batch = normalise_(strip).to(kernels.prelu1.dtype)[None].permute(0, 3, 1, 2)
        x = _features(batch, kernels).flatten(0, 1)
        logit = F.linear(x, *kernels.score)[:, 0]
        index = np.flatnonzero((logit >= least).cpu().numpy())
        chosen = torch.from_numpy(index).to(x.device)
        rows.append(index % (stop - start) + start)
        columns.append(index // (stop - start))
        logits.append(logit[chosen])
        features.append(x[chosen])
    row, column = np.concatenate(rows), np.concatenate(columns)
    scores = torch.sigmoid(torch.cat(logits).to(resampler.dtype)).cpu().numpy()
    offsets = F.linear(torch.cat(features), *kernels.regression).to(resampler.dtype).cpu().numpy()
    good = np.flatnonzero(scores >= scores.dtype.type(threshold))
    order = good[np.lexsort((column[good], row[good]))]  # in which equal scores are taken
    return row[order], column[order], scores[order], offsets[order]


def _features(x: Tensor, kernels: Kernels) -> Tensor:
    """P-Net's last hidden layer: ``(1, 3, W, H)`` to ``(W', H', 32)``."""
    x = F.max_pool2d(F.conv2d(x, *kernels.conv1), 2, stride=2, ceil_mode=True)
    x = F.prelu(x, kernels.prelu1)
    start, end = kernels.falling
    torch.maximum(x[:, start:end], x[:, end:], out=x[:, start:end])
    x = F.prelu(F.conv2d(x, *kernels.conv2), kernels.prelu2)
    x = F.prelu(F.conv2d(x, *kernels.conv3), kernels.prelu3)
    return x[0].permute(1, 2, 0)
