"""Mapping as data: the name of a tensor on either side, and which tensors have none there.

Rows match whole names. There is no matching by substring, list position or equal size anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from converter.dtypes import FLOAT32, DType
from converter.layouts import Layout

Part = Literal["features", "logits"]
Dim = int | str  # a size, or the name of one that the checkpoint decides ("embedding", "classes")


@dataclass(frozen=True)
class Rule:
    """TensorFlow's `source`, of `shape`, becomes PyTorch's `target` through `layout`."""

    source: str
    target: str
    layout: Layout
    shape: tuple[Dim, ...]
    part: Part = "features"

    @property
    def target_shape(self) -> tuple[Dim, ...]:
        """Return the shape of the target."""
        axes = self.layout.axes or range(len(self.shape))
        return tuple(self.shape[axis] for axis in axes)


@dataclass(frozen=True)
class Synthesize:
    """PyTorch's `target` has no counterpart in TensorFlow: every element is `value`.

    On the way back it is dropped: with `binding`, only if it still holds `value` everywhere,
    because the TensorFlow graph computes as if it did; else whatever it holds.
    """

    target: str
    shape: tuple[Dim, ...]
    value: int
    reason: str
    dtype: DType = FLOAT32
    binding: bool = True
    part: Part = "features"


@dataclass(frozen=True)
class Drop:
    """TensorFlow's `source` has no counterpart in PyTorch and is left behind, for `reason`.

    ``{variable}`` stands for each mapped TensorFlow name in turn.
    """

    source: str
    reason: str


Row = Rule | Synthesize
