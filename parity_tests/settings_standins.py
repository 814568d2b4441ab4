"""What only a module's ``forward`` knows, found by calling it with stand-ins for its children.

They answer crafted numbers in float64, whatever type the module's weights have. So it is what the
module does that is found, whatever its attributes say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import permutations
from typing import Any

import numpy as np

from parity_tests.frameworks import torch
from parity_tests.localise.modules import patched
from parity_tests.settings_words import IMAGES, NOT_NORMALISED, OTHER_FUNCTION

AXES = {4: ("batch", "channels", "height", "width"), 2: ("batch", "channels")}
_MAP = (1, 2, 3, 4)  # NCHW of what stand-ins answer: all different, so that exchanges show
_VECTOR = (1, 24)  # as many numbers
_TINY = 1e-30  # a norm below any epsilon; its square is still a float64

Stub = Callable[[Any], Any]


class Wiring:
    """Which child of the network gets which child's output.

    Each stand-in answers numbers of its own, all below 0, so that what arrives tells who sent it,
    in which order it was flattened, and whether a ReLU was on the way.

    Attributes:
        inputs: Path of a child: that of the one before, or `IMAGES`.
        ranks: Number of axes of its input.
        flatten: Order of the axes of a map that reaches it as a vector.
        answers: The children whose outputs the network returns, normalised or not.
    """

    def __init__(self, model: Any, size: int) -> None:
        self._codes: dict[tuple[float, ...], tuple[str, Any]] = {}
        self._random = np.random.default_rng(0)
        self.inputs: dict[str, str] = {}
        self.ranks: dict[str, int] = {}
        self.flatten: dict[str, str] = {}
        images = self._code(IMAGES, (1, 3, size, size))
        children = dict(model.named_children())
        stubs = {path: self._stub(path, child) for path, child in children.items()}
        answer = called(model, stubs, images)
        if isinstance(answer, str):
            self.answers = [answer]
            return
        answers = answer if isinstance(answer, tuple) else (answer,)
        self.answers = [self._answered(value) for value in answers]

    def _code(self, path: str, shape: tuple[int, ...]) -> Any:
        values = torch().from_numpy(-1 - self._random.random(shape))
        self._codes[_key(values)] = (path, values)
        return values

    def _stub(self, path: str, child: Any) -> Stub:
        def forward(value: Any) -> Any:
            sender, sent = self._codes.get(_key(value), (OTHER_FUNCTION, value))
            again = f"{self.inputs[path]}, then " if path in self.inputs else ""
            self.inputs[path] = again + sender
            self.ranks[path] = value.ndim
            if value.ndim == 2 and sent.ndim == 4:
                self.flatten[path] = _order(sent, value)
            is_map = value.ndim == 4 and not isinstance(child, torch().nn.Linear)
            return self._code(path, _MAP if is_map else _VECTOR)

        return forward

    def _answered(self, value: Any) -> str:
        """Who sent a vector, whatever its length was divided by."""
        for path, sent in self._codes.values():
            if sent.shape == value.shape:
                parallel = value * sent.norm() / value.norm()
                if torch().allclose(parallel, sent, rtol=1e-9):
                    return path
        return OTHER_FUNCTION


def _key(values: Any) -> tuple[float, ...]:
    return tuple(sorted(values.flatten().tolist()))


def _order(sent: Any, value: Any) -> str:
    for axes in permutations(range(3)):
        if torch().equal(sent[0].permute(axes).flatten(), value[0]):
            return "".join("CHW"[axis] for axis in axes)
    return OTHER_FUNCTION


def called(module: Any, stubs: Mapping[str, Stub], value: Any) -> Any:
    """What `module` makes of `value` with stand-ins for children; what it raises, in words."""
    with ExitStack() as stack:
        if hasattr(module, "classify"):
            stack.enter_context(patched(module, classify=False))
        for path, stub in stubs.items():
            stack.enter_context(patched(module.get_submodule(path), forward=stub))
        try:
            return module(value)
        except Exception as error:  # a damaged network may raise anything; it is a finding here
            return f"{type(error).__name__}: {' '.join(str(error).split())}"


def joined_branches(block: Any) -> tuple[dict[str, Any], list[float] | None]:
    """How a block joins its branches; of a residual block also what it makes of four pairs.

    Returns:
        Settings, and the outputs for (input, projection) of (0, 1), (0, -1), (1, 0) and (-1, 0);
        None for a block without projection, or if it raises.
    """
    images = torch().tensor([0.0, 0.0, 1.0, -1.0], dtype=torch().float64).reshape(4, 1, 1, 1)
    change = torch().tensor([1.0, -1.0, 0.0, 0.0], dtype=torch().float64).reshape(4, 1, 1, 1)
    joined: list[Any] = []

    def project(value: Any) -> Any:
        joined.append(value)
        return change

    def branch(number: int) -> Stub:
        # Of another input than the block's, a number that no branch answers.
        return lambda value: torch().full_like(images, number if value is images else -1)

    names = [name for name, _ in block.named_children() if name.startswith("branch")]
    stubs = {name: branch(number) for number, name in enumerate(names)}
    if "conv2d" in block._modules:
        stubs["conv2d"] = project
    output = called(block, stubs, images)
    if isinstance(output, str):
        return {"branches": output}, None
    together = joined[0] if joined else output
    axis = next((i for i, size in enumerate(together.shape) if size != images.shape[i]), 1)
    numbers = together.movedim(axis, -1).reshape(-1, together.shape[axis])[0].tolist()
    order = [names[int(n)] if n >= 0 else OTHER_FUNCTION for n in numbers]
    settings = {"branches": order, "axis": AXES[4][axis]}
    return settings, output.flatten().tolist() if "conv2d" in stubs else None


def followed_by_relu(block: Any) -> bool | str:
    """Whether a ReLU follows convolution and batch norm, in that order."""
    stubs: dict[str, Stub] = {"conv": lambda value: value * 2, "bn": lambda value: value + 1}
    output = called(block, stubs, torch().tensor([-1.0, 5.0], dtype=torch().float64))
    if isinstance(output, str):
        return output
    return {(0.0, 11.0): True, (-1.0, 11.0): False}.get(tuple(output.tolist()), OTHER_FUNCTION)


def l2_epsilon(model: Any) -> float | str:
    """What the squared norm is raised to at least, before the embeddings are divided by its root.

    torch's epsilon bounds the norm, TensorFlow's the squared norm, so this is torch's, squared.
    """
    stubs = {path: _passing for path, _ in model.named_children()}
    rows = torch().tensor([[3.0, 4.0], [6e3, 8e3], [_TINY, 0.0]], dtype=torch().float64)
    output = called(model, stubs, rows)
    if isinstance(output, str):
        return output
    if torch().equal(output, rows):
        return NOT_NORMALISED
    unit = torch().tensor([0.6, 0.8], dtype=torch().float64)
    if output.shape != rows.shape or not torch().allclose(output[:2], unit, rtol=1e-12):
        return OTHER_FUNCTION
    scaled = float(output[2, 0])
    epsilon = _TINY / scaled if 0 < scaled < 1 else 0.0
    return float(f"{epsilon * epsilon:.12g}")  # 1e-5 squared is not quite 1e-10 in binary


def _passing(value: Any) -> Any:
    return value
