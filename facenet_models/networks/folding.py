"""Batch normalisations folded into the layers before them, for inference."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Foldable(Protocol):
    """A module that can fold its own batch normalisation; its submodules fold theirs."""

    def fold_batch_norm(self) -> None:
        """Compute the same in fewer steps, from now on in inference only. Changes the module."""


def folded(layer: Any, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Any:
    """Return `layer`, changed to give what `norm` gives after it.

    Computed in float64 and rounded once.

    Args:
        layer: A convolution or dense layer without bias.
        norm: The batch normalisation of its output.
    """
    assert layer.bias is None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = norm.bias.double() - norm.running_mean.double() * factor
    kernel = layer.weight.double() * factor.reshape(-1, *[1] * (layer.weight.ndim - 1))
    for name, value in (("weight", kernel), ("bias", bias)):
        parameter = nn.Parameter(value.to(layer.weight.dtype), requires_grad=False)
        setattr(layer, name, parameter)
    return layer
