"""Settings, networks and results that the detector's stages share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from facenet_common.errors import UsageError
from facenet_models.detect.boxes import CELL
from facenet_models.detect.plain import is_plain

CHUNK = 1 << 17  # pixels of crops in one batch of R-Net or O-Net: 16 MB in a layer


@dataclass(frozen=True)
class Settings:
    """The parameters of `MTCNN` with the same names."""

    min_face_size: float
    thresholds: tuple[float, float, float]
    factor: float

    @classmethod
    def checked(cls, min_face_size: float, thresholds: Sequence[float], factor: float) -> Settings:
        """Return settings after checking them.

        Raises:
            UsageError: A parameter is out of range. With a factor of 1, say, the search would
                never end.
        """
        if not 0 < min_face_size < math.inf:
            raise UsageError("min_face_size must be above 0 (pixels)", found=min_face_size)
        if not 0 < factor < 1:
            raise UsageError("factor must be between 0 and 1, both exclusive", found=factor)
        if len(thresholds) < 3 or any(math.isnan(value) for value in thresholds):
            raise UsageError("thresholds must be three numbers", found=f"{[*thresholds]}")
        first, second, third = map(float, thresholds[:3])  # facenet-pytorch ignores more
        return cls(float(min_face_size), (first, second, third), float(factor))


class Nets(NamedTuple):
    """The three networks of the detector, all of one dtype and on one device."""

    pnet: nn.Module
    rnet: nn.Module
    onet: nn.Module

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters; float32 if there are none, as in frozen networks."""
        parameters = (p for net in self for p in net.parameters() if p.is_floating_point())
        first = next(parameters, None)
        return torch.float32 if first is None else first.dtype


class Faces(NamedTuple):
    """The faces found in an image, best first.

    Attributes:
        boxes: ``(N, 4)``: left, top, right, bottom in pixels.
        scores: ``(N,)``, probabilities.
        points: ``(N, 5, 2)``: x and y of the landmarks in pixels.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray

    @classmethod
    def none(cls, dtype: np.dtype) -> Faces:
        """Return the result for an image without faces."""
        return cls(np.empty((0, 4), dtype), np.empty(0, dtype), np.empty((0, 5, 2), dtype))


def compute_dtype(model: torch.dtype) -> torch.dtype:
    """Return the dtype for boxes and resampling: float64 for float64 networks, else float32.

    float16 is too short: it can't represent odd pixel numbers above 2,048.
    """
    return torch.float64 if model == torch.float64 else torch.float32


def normalise_(pixels: Tensor) -> Tensor:
    """Scale pixels of 0 to 255 in place to the range that the networks take."""
    return pixels.sub_(127.5).mul_(0.0078125)


def run_net(net: nn.Module, crops: Tensor, dtype: torch.dtype) -> list[np.ndarray]:
    """Run R-Net or O-Net on any number of crops, in batches of bounded size.

    Args:
        net: R-Net or O-Net.
        crops: ``(N, 3, size, size)``, values 0 to 255, channels last; overwritten. With kernels in
            the same memory format, a CPU is 3 to 4 times as fast; a network that is not plain is
            called as it is.
        dtype: Of the network.

    Returns:
        Each output as one array, in the dtype of `crops`.
    """
    working = crops.dtype
    call: Callable[[Tensor], Sequence[Tensor]] = net
    if is_plain(net):
        kernels = {
            name: parameter.contiguous(memory_format=torch.channels_last)
            for name, parameter in net.named_parameters()
            if parameter.ndim == 4
        }

        def call(batch: Tensor) -> Sequence[Tensor]:
            outputs: Sequence[Tensor] = torch.func.functional_call(net, kernels, (batch,))
            return outputs

    chunk = max(1, CHUNK // crops.shape[-1] ** 2)
    parts = [call(part.to(dtype)) for part in torch.split(normalise_(crops), chunk)]
    return [torch.cat(out).to(working).cpu().numpy() for out in zip(*parts, strict=True)]


def scales(height: int, width: int, settings: Settings) -> list[float]:
    """Return the scales of the pyramid, largest image first; none if the image is below face size.

    facenet-pytorch fails on such images: https://github.com/timesler/facenet-pytorch/issues/176

    Examples:
        >>> scales(20, 500, Settings(20, (0.6, 0.7, 0.7), 0.709))
        [0.6]
    """
    scale = CELL / settings.min_face_size
    shorter = min(height, width) * scale
    found = []
    while shorter >= CELL:
        found.append(scale)
        scale *= settings.factor
        shorter *= settings.factor
    return found
