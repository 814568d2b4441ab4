"""Mapping as data: the name of a tensor on either side, and which tensors have none there.

Rows match whole names. There is no matching by substring, list position or equal size anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from converter.catalog import Naming
from converter.dtypes import FLOAT32, DType
from converter.layouts import Layout

Part = Literal["features", "logits"]
Dim = int | str  # a size, or the name of one that the checkpoint decides ("embedding", "classes")


@dataclass(frozen=True)
class Rule:
    """TensorFlow's `source` corresponds to PyTorch's `target`.

    Args:
        source: The name in TensorFlow.
        target: The name in PyTorch's state_dict.
        layout: The order of PyTorch's axes.
        shape: The shape in TensorFlow; a name stands for a size that the checkpoint decides.
        part: The part of the network.

    Examples:
        >>> from converter.layouts import HWIO_TO_OIHW
        >>> rule = Rule("conv1/weights", "conv1.weight", HWIO_TO_OIHW, (3, 3, 3, 10))
        >>> rule.target_shape
        (10, 3, 3, 3)
    """

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
    """PyTorch's `target`, for which TensorFlow has no variable: it is added, all of it `value`.

    Args:
        target: The name in PyTorch's state_dict.
        shape: The shape on both sides.
        value: The value of every element.
        reason: Why, for receipts.
        source: The name in TensorFlow's graphs that have such a variable: in one graph all layers
            have theirs, or none has. None: no graph has it, and its values do not matter.
        dtype: The element type, if the source does not give one.
        part: The part of the network.
    """

    target: str
    shape: tuple[Dim, ...]
    value: int
    reason: str
    source: str | None = None
    dtype: DType = FLOAT32
    part: Part = "features"


@dataclass(frozen=True)
class Drop:
    """TensorFlow's `source` has no counterpart in PyTorch: it is dropped, for `reason`.

    ``{variable}`` stands for each mapped TensorFlow name in turn.
    """

    source: str
    reason: str


Row = Rule | Synthesize


def name_of(row: Row, naming: Naming) -> str | None:
    """Return the name of the row's tensor in one framework, or None if it does not exist there."""
    return row.target if naming == "torch" else row.source
