"""Mapping as data: what a tensor is called on either side, and what becomes of the rest.

Templates hold fields such as ``{i}`` or ``{i-1}``; `repeat` expands them to explicit rows before
anything is looked up, and rows match whole names. There is no matching by substring, list
position or equal size anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from converter.dtypes import FLOAT32, DType
from converter.layouts import Layout

Part = Literal["features", "logits"]
Dim = int | str  # a size, or the name of one that the checkpoint decides ("embedding", "classes")

_FIELD = re.compile(r"\{(\w+)([+-]\d+)?\}")


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


@dataclass(frozen=True)
class Architecture:
    """A network: its rows in the order of PyTorch's state_dict, and its known leftovers.

    `name` is also what the parity hook is told. `description` is for people.
    """

    name: str
    description: str
    rows: tuple[Row, ...]
    leftovers: tuple[Drop, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(row for row in self.rows if isinstance(row, Rule))

    def drops(self) -> dict[str, str]:
        """Every TensorFlow name that may be left behind, with the reason: explicit names only."""
        variables = [rule.source for rule in self.rules]
        return {
            drop.source.replace("{variable}", variable): drop.reason
            for drop in self.leftovers
            for variable in (variables if "{variable}" in drop.source else [""])
        }


def repeat(variable: str, values: Iterable[int], rows: Iterable[Row]) -> tuple[Row, ...]:
    """`rows` once for each of `values`, with ``{variable}`` filled in; value by value."""
    rows = tuple(rows)
    return tuple(_fill(row, {variable: value}) for value in values for row in rows)


def _fill(row: Row, fields: dict[str, int]) -> Row:
    target = _format(row.target, fields)
    if isinstance(row, Rule):
        return replace(row, source=_format(row.source, fields), target=target)
    return replace(row, target=target)


def _format(template: str, fields: dict[str, int]) -> str:
    return _FIELD.sub(lambda m: str(fields[m[1]] + int(m[2] or 0)), template)
