"""What the stages of the detector share: their settings, nets and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from facenet_common.errors import UsageError
from facenet_models.detect.boxes import CELL

CHUNK = 1 << 17  # pixels of crops that R-Net and O-Net are given at a time: 16 MB in a layer


@dataclass(frozen=True)
class Settings:
    """`MTCNN`'s parameters of the same names."""

    min_face_size: float
    thresholds: tuple[float, float, float]
    factor: float

    @classmethod
    def checked(cls, min_face_size: float, thresholds: Sequence[float], factor: float) -> Settings:
        """Raises UsageError where a search with these could not work or would never end."""
        if not min_face_size >= 1:
            raise UsageError("min_face_size", expected="1 pixel or more", found=min_face_size)
        if not 0 < factor < 1:
            raise UsageError("factor", expected="more than 0, less than 1", found=factor)
        if len(thresholds) != 3 or not all(0 <= value <= 1 for value in thresholds):
            raise UsageError(
                "thresholds", expected="three numbers of 0 to 1", found=f"{[*thresholds]}"
            )
        first, second, third = map(float, thresholds)
        return cls(float(min_face_size), (first, second, third), float(factor))


class Nets(NamedTuple):
    pnet: nn.Module
    rnet: nn.Module
    onet: nn.Module

    @property
    def dtype(self) -> torch.dtype:
        return next(self.pnet.parameters()).dtype


class Faces(NamedTuple):
    """What was found in an image, best first: ``(N, 4)``, ``(N,)`` and ``(N, 5, 2)``."""

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray

    @classmethod
    def none(cls, dtype: np.dtype) -> Faces:
        return cls(np.empty((0, 4), dtype), np.empty(0, dtype), np.empty((0, 5, 2), dtype))


def working_dtype(model: torch.dtype) -> torch.dtype:
    """What boxes and resampling are computed in: a float16 can't count pixels beyond 2,048."""
    return torch.float64 if model == torch.float64 else torch.float32


def normalise_(pixels: Tensor) -> Tensor:
    """Pixels of 0 to 255 as the nets take them, in place."""
    return pixels.sub_(127.5).mul_(0.0078125)


def run_net(net: nn.Module, crops: Tensor, dtype: torch.dtype) -> list[np.ndarray]:
    """The outputs of R-Net or O-Net for any number of `crops` (overwritten), each as one array.

    `crops` are ``(N, 3, size, size)``, channels last, as the kernels are here: 3 to 4 times as
    fast on a CPU.
    """
    working = crops.dtype
    kernels = {
        name: parameter.contiguous(memory_format=torch.channels_last)
        for name, parameter in net.named_parameters()
        if parameter.ndim == 4
    }
    chunk = max(1, CHUNK // crops.shape[-1] ** 2)
    parts = [
        torch.func.functional_call(net, kernels, (part.to(dtype),))
        for part in torch.split(normalise_(crops), chunk)
    ]
    return [torch.cat(out).to(working).cpu().numpy() for out in zip(*parts, strict=True)]


def scales(height: int, width: int, settings: Settings) -> list[float]:
    """Scales of the pyramid, biggest image first; none if the image is smaller than a face."""
    scale = CELL / settings.min_face_size
    shorter = min(height, width) * scale
    found = []
    while shorter >= CELL:
        found.append(scale)
        scale *= settings.factor
        shorter *= settings.factor
    return found
