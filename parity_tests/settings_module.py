"""Settings of a facenet_models network, as it is at this moment.

What a module has as an attribute is read. What only its ``forward`` knows (which child feeds which,
how branches are joined, scaled and added, whether a ReLU follows, how embeddings are normalised) is
found by calling it: see `parity_tests.settings_standins`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from facenet_common.errors import ParityError
from parity_tests.frameworks import torch
from parity_tests.scopes import MTCNN
from parity_tests.settings_standins import (
    AXES,
    Wiring,
    followed_by_relu,
    joined_branches,
    l2_epsilon,
)
from parity_tests.settings_words import (
    BATCH,
    OTHER_FUNCTION,
    POOL_INPUTS,
    ROUNDED_UP,
    STORED,
    VALID,
    VARIED,
    WHOLE_MAP,
    Settings,
    convolution_padding,
    rounded_up_padding,
)
from parity_tests.tf_graphs.float64 import written_decimal

_SIZES = {"inception_resnet_v1": 75, "pnet": 12, "rnet": 24, "onet": 48}  # smallest input


def module_settings(model: Any, architecture: str) -> Settings:
    """The settings of `model`, a network of facenet_models; it is not changed.

    Raises:
        ParityError: There is no such architecture.
    """
    if architecture not in _SIZES:
        raise ParityError(f"there are no settings of the architecture {architecture!r}")
    with torch().inference_mode():
        return _Reader(model, architecture).settings()


class _Reader:
    def __init__(self, model: Any, architecture: str) -> None:
        self._model = model
        self._architecture = architecture
        self._wiring = Wiring(model, _SIZES[architecture])

    def settings(self) -> Settings:
        found: Settings = {}
        for path, module in self._model.named_modules():
            # Classifiers are compared nowhere; of a ReLU the block around it tells.
            if path and path != "logits" and not path.endswith(".relu"):
                settings = self._of(path, module)
                if settings:
                    found[path] = settings
        found[""] = {"answers": [self._last(path) for path in self._wiring.answers]}
        if self._architecture not in MTCNN:
            found[""]["l2_epsilon"] = l2_epsilon(self._model)
        return found

    def _of(self, path: str, module: Any) -> dict[str, Any]:
        from facenet_models.networks.inception_resnet_v1 import BasicConv2d, Branches, Residual

        nn = torch().nn
        match module:
            case Residual():
                return self._residual(path, module)
            case Branches():
                return joined_branches(module)[0]
            case BasicConv2d():
                return {"input": self._input(path), "relu": followed_by_relu(module)}
            case nn.Conv2d():
                return self._wired(path) | _convolution(module)
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                return self._wired(path) | _batch_norm(module)
            case nn.MaxPool2d() | nn.AvgPool2d() | nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d():
                size = POOL_INPUTS.get(self._architecture, {}).get(path, 0)
                return {"input": self._input(path)} | _pooling(module, size)
            case nn.Linear():
                flatten = self._wiring.flatten.get(path)
                order = {"flatten": flatten} if flatten and self._architecture in MTCNN else {}
                return self._wired(path) | order
            case nn.PReLU():
                return self._wired(path) | {"slopes": module.num_parameters}
            case nn.Softmax():
                axes = AXES[self._wiring.ranks.get(path, 2)]
                known = module.dim is not None and -len(axes) <= module.dim < len(axes)
                return self._wired(path) | {"axis": axes[module.dim] if known else module.dim}
            case nn.Dropout():
                return {"active": module.training and module.p > 0}
            case nn.Sequential():
                return {}  # its children tell
        return {"kind": type(module).__name__}

    def _residual(self, path: str, block: Any) -> dict[str, Any]:
        settings, outputs = joined_branches(block)
        source = self._input(path)
        if outputs is None:
            return settings | {"input": source}
        positive, negative, kept, below = outputs
        scale = positive if positive else 0.0 - negative
        relu = {0.0: True, -1.0: False}.get(below, OTHER_FUNCTION)
        source = source if kept == 1 else f"{kept:g} times {source}"
        return settings | {"input": source, "scale": scale, "relu": relu}

    def _wired(self, path: str) -> dict[str, Any]:
        """Where the input comes from, if the network itself calls the module."""
        return {} if "." in path else {"input": self._input(path)}

    def _input(self, path: str) -> str:
        """Path of the layer whose output is the module's input."""
        parent, _, name = path.rpartition(".")
        if not parent:
            return self._last(self._wiring.inputs.get(path, "nothing: it is never called"))
        around = self._model.get_submodule(parent)
        if isinstance(around, torch().nn.Sequential):
            names = [child for child, _ in around.named_children()]
            before = names.index(name) - 1
            return self._last(f"{parent}.{names[before]}") if before >= 0 else self._input(parent)
        return self._input(parent)

    def _last(self, path: str) -> str:
        """The layer in which the module of that path ends; what does nothing is stepped over."""
        modules = dict(self._model.named_children())
        module = modules.get(path)
        if isinstance(module, torch().nn.Sequential):
            return f"{path}.{list(module._modules)[-1]}"
        if isinstance(module, torch().nn.Dropout):
            return self._input(path)
        return path


def _convolution(conv: Any) -> dict[str, Any]:
    kernel, dilation = list(conv.kernel_size), list(conv.dilation)
    if conv.padding == "same":
        totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        sides = [[total // 2, total - total // 2] for total in totals]
    else:
        numbers = (0, 0) if conv.padding == "valid" else conv.padding
        sides = [[number, number] for number in numbers]
    padding: Any = convolution_padding(kernel, dilation, sides)
    if conv.padding_mode != "zeros" and padding != VALID:
        padding = f"{padding}, {conv.padding_mode}"
    return {
        "kernel": kernel,
        "stride": list(conv.stride),
        "padding": padding,
        "dilation": dilation,
    }


def _batch_norm(norm: Any) -> dict[str, Any]:
    stored = not norm.training and norm.track_running_stats and norm.running_mean is not None
    gain: Any = 1.0
    if norm.weight is not None:
        values = norm.weight.detach().cpu().double().numpy()
        gain = VARIED
        if values.size and (values == values[0]).all():
            gain = written_decimal(np.float32(values[0]))
    return {"epsilon": norm.eps, "statistics": STORED if stored else BATCH, "gain": gain}


def _pooling(pool: Any, size: int) -> dict[str, Any]:
    """`size`: what it gets, if only that; see `POOL_INPUTS`."""
    kind = "max" if "Max" in type(pool).__name__ else "average"
    if hasattr(pool, "output_size"):
        whole = pool.output_size in (1, (1, 1))
        window = WHOLE_MAP if whole else f"gives {pool.output_size}"
        return {"kind": kind, "kernel": window, "stride": [1, 1], "padding": VALID}
    kernel, stride, sides = (
        list(_pair(value))
        for value in (pool.kernel_size, pool.stride or pool.kernel_size, pool.padding)
    )
    padding: Any = VALID
    if any(sides):
        padding = [[side, side] for side in sides]
        padding = f"{padding}, {ROUNDED_UP}" if pool.ceil_mode else padding
    elif pool.ceil_mode:
        padding = rounded_up_padding(kernel, stride, size)
    settings = {"kind": kind, "kernel": kernel, "stride": stride, "padding": padding}
    dilation = list(_pair(getattr(pool, "dilation", 1)))
    return settings if dilation == [1, 1] else settings | {"dilation": dilation}


def _pair(value: Any) -> Iterator[int]:
    yield from (value, value) if isinstance(value, int) else value
