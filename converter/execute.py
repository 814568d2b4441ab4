"""Carry out a plan: each target tensor is computed from its source when it is loaded."""

from __future__ import annotations

from functools import partial

import numpy as np

from converter.catalog import TensorRef
from converter.dtypes import FLOAT32, Array, DType, cast, first_nonfinite
from converter.plan import Dropped, Edge, Fill, Plan, target_dtype
from facenet_common.errors import ValueCheckError


def target_tensors(plan: Plan, *, dtype: DType | None, allow_nonfinite: bool) -> list[TensorRef]:
    """Return the plan's target tensors, in its order; nothing is read yet.

    Loading one loads its source, checks the values, casts them and permutes the axes.

    Args:
        plan: The mapping.
        dtype: The type to cast floating-point tensors to; None keeps each tensor's own.
        allow_nonfinite: Accept NaN and infinity.

    Raises:
        FormatError: When one is loaded: the source is damaged.
        ValueCheckError: When one is loaded: a value is NaN or infinite, or overflows `dtype`.
    """
    refs = []
    for step in plan.steps:
        own = target_dtype(step, dtype)
        if isinstance(step, Fill):
            load = partial(_filled, step, own)
            refs.append(TensorRef(step.target, own, step.shape, load))
        else:
            load = partial(_converted, step, own, allow_nonfinite)
            shape = step.layout.shape(step.source.shape)
            refs.append(TensorRef(step.target, own, shape, load))
    return refs


def check_dropped(dropped: Dropped) -> None:
    """Verify a dropped tensor: its checksum, and its values if the plan requires a fixed one.

    Raises:
        FormatError: The tensor is damaged.
        ValueCheckError: A value differs from `Dropped.only_if`.
    """
    if dropped.only_if is None:
        dropped.source.verify()
        return
    values = dropped.source.load()
    one = cast(np.full((), dropped.only_if, "<f4"), FLOAT32, dropped.source.dtype)
    differs = values != one
    if differs.any():
        index = tuple(int(i) for i in np.argwhere(np.atleast_1d(differs))[0])
        raise ValueCheckError(
            "TensorFlow assumes a constant instead of this tensor, and its values differ from it",
            tensor=dropped.source.name,
            expected=f"{dropped.only_if} everywhere: {dropped.reason}",
            found=f"another value at index {list(index)}; {int(differs.sum())} such values in all",
            next_step="fold the scale into the convolution before it, then convert",
        )


def source_values(edge: Edge, dtype: DType, allow_nonfinite: bool) -> Array:
    """Return the values of the edge's source: cast to `dtype`, in the source's layout.

    Raises:
        FormatError: The source is damaged.
        ValueCheckError: A value is NaN or infinite, or overflows `dtype`.
    """
    ref = edge.source
    values = ref.load()
    if not allow_nonfinite:
        _check_finite(values, ref.dtype, ref.name)
    result = cast(values, ref.dtype, dtype)
    if result is not values and not allow_nonfinite:
        _check_finite(result, dtype, ref.name, f"overflows {dtype}")
    return result


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
        found=f"{_value_text(values[index], dtype)} at index {list(index)}",
        next_step="such a model can't work; to convert it anyway, pass --allow-nonfinite",
    )


def _value_text(value: object, dtype: DType) -> str:
    return f"bits {value:#06x}" if dtype.name == "bfloat16" else str(value)
