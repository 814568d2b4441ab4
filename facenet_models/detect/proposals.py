"""The first stage of facenet-pytorch's detector: P-Net over the image pyramid.

This stage does two thirds of the detector's arithmetic. To make it fast, P-Net runs over strips
of the image, so that the output of one layer is still in the processor's cache when the next
layer reads it (this bounds the memory, too); tensors are channels last; and the regression is
computed only for windows with a face.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facenet_models.detect import boxes as box_ops
from facenet_models.detect.area import Resampler
from facenet_models.detect.settings import Nets, Settings, compute_dtype, normalise_, scales

FIRST_CHANNELS = 16  # output channels of P-Net's first layer, see Kernels
STRIP_VALUES = {"cpu": 3 << 20, "cuda": 1 << 28}  # in that layer's output: 12 MB, 1 GB


class Kernels(NamedTuple):
    """P-Net's parameters for transposed images, channels last, with pooling before the PReLU.

    Pooling first reduces the work of the first PReLU to a quarter. Where its slope a is at least
    0, PReLU is monotonic, and the order of the two makes no difference. Where a is negative,
    PReLU(x) = max(x, a x), so the maximum of PReLU is the greater of the maxima of x and of a x.
    For each such channel the first layer gets a second output, a x. The published weights have 6
    of 10, which gives 16 channels, and 16 is the number that the CPU's kernels compute at a time
    anyway.

    Attributes:
        conv1: Kernel and bias. Output channels come in three groups: those of slopes at least 0,
            those of negative slopes, and the latter times their slopes.
        prelu1: Slopes after pooling; 1 for the second and the third group.
        negative: First and last + 1 of the channels of the second group.
        conv2: Kernel and bias; the kernel is 0 for the third group.
        score: Weight and bias of the logit of "face" minus that of "no face".
        regression: Weight and bias.
    """

    conv1: tuple[Tensor, Tensor]
    prelu1: Tensor
    negative: tuple[int, int]
    conv2: tuple[Tensor, Tensor]
    prelu2: Tensor
    conv3: tuple[Tensor, Tensor]
    prelu3: Tensor
    score: tuple[Tensor, Tensor]
    regression: tuple[Tensor, Tensor]

    @classmethod
    def from_net(cls, net: nn.Module) -> Kernels:
        """Return the parameters of a P-Net in this form."""
        p: dict[str, Tensor] = dict(net.named_parameters())
        slopes = p["prelu1.weight"]
        positive, negative = torch.nonzero(slopes >= 0)[:, 0], torch.nonzero(slopes < 0)[:, 0]
        order, below_zero = torch.cat([positive, negative]), slopes[negative]
        first, bias = p["conv1.weight"], p["conv1.bias"]
        first = torch.cat([first[order], first[negative] * below_zero[:, None, None, None]])
        second = F.pad(p["conv2.weight"][:, order], (0, 0, 0, 0, 0, len(negative)))
        face = p["conv4_1.weight"].flatten(1)
        return cls(
            (_transpose_kernel(first), torch.cat([bias[order], bias[negative] * below_zero])),
            torch.cat([slopes[positive], torch.ones_like(below_zero).repeat(2)]),
            (len(positive), len(order)),
            (_transpose_kernel(second), p["conv2.bias"]),
            p["prelu2.weight"],
            (_transpose_kernel(p["conv3.weight"]), p["conv3.bias"]),
            p["prelu3.weight"],
            ((face[1:] - face[:1]), p["conv4_1.bias"][1:] - p["conv4_1.bias"][:1]),
            (p["conv4_2.weight"].flatten(1), p["conv4_2.bias"]),
        )


def _transpose_kernel(kernel: Tensor) -> Tensor:
    return kernel.transpose(2, 3).contiguous(memory_format=torch.channels_last)


def propose(
    image: Tensor, nets: Nets, settings: Settings, kernels: Kernels | None = None
) -> np.ndarray:
    """Run the first stage: find squares that may contain a face.

    Args:
        image: ``(H, W, 3)``, values 0 to 255.
        nets: P-Net is called if there are no `kernels`.
        settings: Of the detector.
        kernels: P-Net's parameters, if it is plain.

    Returns:
        ``(N, 4)``: left, top, right, bottom in pixels.
    """
    height, width = image.shape[:2]
    resampler = Resampler(image, compute_dtype(nets.dtype))
    found = [np.empty((0, 9), dtype=np.float32)]
    for scale in scales(height, width, settings):
        size = (int(height * scale + 1), int(width * scale + 1))
        if kernels is None:
            windows = call_net(resampler, size, nets, settings.thresholds[0])
        else:
            windows = find_windows(resampler, size, kernels, settings.thresholds[0])
        rows, columns, scores, offsets = windows
        boxes = box_ops.windows(rows, columns, scale, scores.dtype)
        kept = box_ops.nms(boxes, scores, 0.5, box_ops.TORCHVISION)
        found.append(np.concatenate([boxes, scores[:, None], offsets], axis=1)[kept])
    candidates = np.concatenate(found)
    kept = box_ops.nms(candidates[:, :4], candidates[:, 4], 0.7, box_ops.TORCHVISION)
    candidates = candidates[kept]
    return box_ops.square(box_ops.regress(candidates[:, :4], candidates[:, 5:], pixel=0))


Windows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Rows, columns and scores ``(N,)``, and regression ``(N, 4)``, of the accepted windows."""


def call_net(resampler: Resampler, size: tuple[int, int], nets: Nets, threshold: float) -> Windows:
    """Call P-Net on the image at one size; arguments and results as `find_windows`."""
    transposed = resampler.resample_transposed(*size, 0, size[0])  # (W, H, 3)
    batch = normalise_(transposed).to(nets.dtype).permute(2, 1, 0)[None]
    regression, probability = nets.pnet(batch.contiguous())
    scores = probability[0, 1].to(resampler.dtype).cpu().numpy()
    rows, columns = np.nonzero(scores >= scores.dtype.type(threshold))
    offsets = regression[0].to(resampler.dtype).cpu().numpy()[:, rows, columns].T
    return rows, columns, scores[rows, columns], offsets


def find_windows(
    resampler: Resampler, size: tuple[int, int], kernels: Kernels, threshold: float
) -> Windows:
    """Run P-Net on the image at one size, and return the windows that it accepts.

    Args:
        resampler: Of the image.
        size: Height and width of the resampled image.
        kernels: P-Net's parameters.
        threshold: Minimum probability.

    Returns:
        Rows, columns and scores ``(N,)``, and regression ``(N, 4)``; sorted by rows, then by
        columns.
    """
    height, width = size
    count = (height - 1) // 2 - 4  # rows of windows, see PNet
    step = max(
        1,
        STRIP_VALUES.get(resampler.image.device.type, STRIP_VALUES["cpu"])
        // (2 * FIRST_CHANNELS * width),
    )
    # Preselect by a logit slightly below that of the threshold; probabilities decide below.
    low, high = max(threshold, 1e-9), max(1 - threshold, 1e-9)
    min_logit = math.log(low / high) - 1e-3 if threshold > 0 else -math.inf
    rows, columns, logits, features = [], [], [], []
    for start in range(0, count, step):
        stop = min(count, start + step)
        strip = resampler.resample_transposed(height, width, 2 * start, min(height, 2 * stop + 10))
        batch = normalise_(strip).to(kernels.prelu1.dtype)[None].permute(0, 3, 1, 2)
        x = _features(batch, kernels).flatten(0, 1)
        logit = F.linear(x, *kernels.score)[:, 0]
        index = np.flatnonzero((logit >= min_logit).cpu().numpy())
        chosen = torch.from_numpy(index).to(x.device)
        rows.append(index % (stop - start) + start)
        columns.append(index // (stop - start))
        logits.append(logit[chosen])
        features.append(x[chosen])
    row, column = np.concatenate(rows), np.concatenate(columns)
    scores = torch.sigmoid(torch.cat(logits).to(resampler.dtype)).cpu().numpy()
    offsets = F.linear(torch.cat(features), *kernels.regression).to(resampler.dtype).cpu().numpy()
    good = np.flatnonzero(scores >= scores.dtype.type(threshold))
    order = good[np.lexsort((column[good], row[good]))]  # suppression takes equal scores in order
    return row[order], column[order], scores[order], offsets[order]


def _features(x: Tensor, kernels: Kernels) -> Tensor:
    """Compute P-Net's last hidden layer: ``(1, 3, W, H)`` to ``(W', H', 32)``."""
    x = F.max_pool2d(F.conv2d(x, *kernels.conv1), 2, stride=2, ceil_mode=True)
    x = F.prelu(x, kernels.prelu1)
    start, end = kernels.negative
    torch.maximum(x[:, start:end], x[:, end:], out=x[:, start:end])
    x = F.prelu(F.conv2d(x, *kernels.conv2), kernels.prelu2)
    x = F.prelu(F.conv2d(x, *kernels.conv3), kernels.prelu3)
    return x[0].permute(1, 2, 0)
