"""Measure how much each weight of a network changes its outputs, by one backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parity_tests.frameworks import torch

Tensor = Any


def effects(model: Any, batches: Sequence[Tensor]) -> dict[str, Tensor]:
    """Differentiate a random projection of the outputs by each floating-point weight.

    Statistics of a batch norm get no gradient from torch. With y = (x - m) w / s + b and
    s = sqrt(v + epsilon), they follow from those that do: dL/dm = -(w / s) dL/db and
    dL/dv = -w / (2 s^2) dL/dw.

    Args:
        model: A network in float64 and evaluation mode; unchanged afterwards.
        batches: Batches of images, as tensors.

    Returns:
        The derivatives by name in the state_dict, each of the tensor's shape.
    """
    th = torch()
    generator = th.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())
    wanted = {name: p.requires_grad for name, p in parameters.items()}
    total = {name: th.zeros_like(p) for name, p in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        for images in batches:
            outputs = model(images.clone())
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            loss = sum(
                (o * th.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in outputs
            )
            used = [name for name in parameters if not name.startswith("logits.")]
            found = th.autograd.grad(loss, [parameters[n] for n in used], allow_unused=True)
            for name, gradient in zip(used, found, strict=True):
                if gradient is not None:
                    total[name] += gradient
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(wanted[name])
    for path, module in model.named_modules():
        if hasattr(module, "running_var"):
            scale, variance = module.weight.detach(), module.running_var + module.eps
            bias, weight = total[f"{path}.bias"], total[f"{path}.weight"]
            total[f"{path}.running_mean"] = -scale / variance.sqrt() * bias
            total[f"{path}.running_var"] = -scale / (2 * variance) * weight
    return total
