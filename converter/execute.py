"""Carrying out a plan: target tensors that compute themselves, one at a time, when asked."""

from __future__ import annotations

from functools import partial

import numpy as np

from converter.catalog import TensorRef
from converter.dtypes import FLOAT32, Array, DType, cast, first_nonfinite
from converter.plan import Dropped, Edge, Fill, Plan, target_dtype
from facenet_common.errors import ValueCheckError


def targets(plan: Plan, *, dtype: DType | None, allow_nonfinite: bool) -> list[TensorRef]:
    """The plan's targets, in its order. Loading one loads, checks, casts and reorders its source.

    Loading raises FormatError (damaged source) or ValueCheckError (NaN, infinity, overflow).
    """
    made = []
    for step in plan.steps:
        own = target_dtype(step, dtype)
        if isinstance(step, Fill):
            load = partial(_filled, step, own)
            made.append(TensorRef(step.target, own, step.shape, load))
        else:
            load = partial(_converted, step, own, allow_nonfinite)
            shape = step.layout.shape(step.source.shape)
            made.append(TensorRef(step.target, own, shape, load))
    return made


def check_dropped(dropped: Dropped) -> None:
    """Check a tensor that is left behind: its checksum, and its value where the plan says so."""
    if dropped.only_if is None:
        dropped.source.verify()
        return
    values = dropped.source.load()
    one = cast(np.full((), dropped.only_if, "<f4"), FLOAT32, dropped.source.dtype)
    differs = values != one
    if differs.any():
        index = tuple(int(i) for i in np.argwhere(np.atleast_1d(differs))[0])
        raise ValueCheckError(
            "a tensor that TensorFlow's side has no place for holds other than its fixed value",
            tensor=dropped.source.name,
            expected=f"{dropped.only_if} everywhere ({dropped.reason})",
            found=f"another value at {list(index)}, {int(differs.sum())} in all",
            next_step="fold the scale into the convolution before it, then convert",
        )


def source_values(edge: Edge, dtype: DType, allow_nonfinite: bool) -> Array:
    """The edge's source values in the target's type and the source's layout."""
    ref = edge.source
    values = ref.load()
    if not allow_nonfinite:
        _check_finite(values, ref.dtype, ref.name)
    made = cast(values, ref.dtype, dtype)
    if made is not values and not allow_nonfinite:
        _check_finite(made, dtype, ref.name, f"does not fit {dtype}: it becomes infinite")
    return made


def _converted(edge: Edge, dtype: DType, allow_nonfinite: bool) -> Array:
    return edge.layout.apply(source_values(edge, dtype, allow_nonfinite))


def _filled(step: Fill, dtype: DType) -> Array:
    if not dtype.floating:
        return np.full(step.shape, step.row.value, dtype.numpy)
    return cast(np.full(step.shape, step.row.value, "<f4"), FLOAT32, dtype)


def _check_finite(values: Array, dtype: DType, name: str, what: str = "is not finite") -> None:
    index = first_nonfinite(values, dtype)
    if index is None:
        return
    raise ValueCheckError(
        f"a weight {what}",
        tensor=name,
        expected="finite numbers",
        found=f"{_spell(values[index], dtype)} at {list(index)}",
        next_step="such a model can't work; --allow-nonfinite converts it all the same",
    )


def _spell(value: object, dtype: DType) -> str:
    return f"bits {value:#06x}" if dtype.name == "bfloat16" else str(value)
