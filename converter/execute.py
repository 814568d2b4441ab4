"""Carry out a plan: each target tensor is computed from its source when it is loaded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from converter.catalog import TensorRef
from converter.dtypes import FLOAT32, Array, DType, cast, first_nonfinite
from converter.plan import Dropped, Edge, Fill, Plan, target_dtype
from converter.rules import Synthesize
from facenet_common.errors import ValueCheckError


def settle(plan: Plan) -> Plan:
    """Decide by the source's values on the targets that only some graphs of a network have.

    A graph has all of them or none: all are written if any value of any of them differs from the
    one that a graph without them computes with.

    Args:
        plan: The mapping; those tensors are loaded.

    Returns:
        The plan, without optional edges.

    Raises:
        FormatError: A tensor is damaged.
    """
    optional = {edge.target: edge.optional for edge in plan.edges if edge.optional is not None}
    if not optional:
        return plan
    edges = [edge for edge in plan.edges if edge.target in optional]
    if any(_differs(edge.source, optional[edge.target]) for edge in edges):
        kept = [replace(s, optional=None) if isinstance(s, Edge) else s for s in plan.steps]
        note = f"the output needs a graph with {edges[0].target.rpartition('/')[2]}, for each layer"
        return replace(plan, steps=tuple(kept), notes=(*plan.notes, note))
    return replace(
        plan,
        steps=tuple(step for step in plan.steps if step.target not in optional),
        dropped=(
            *plan.dropped,
            *(Dropped(edge.source, optional[edge.target].reason) for edge in edges),
        ),
    )


def _differs(ref: TensorRef, row: Synthesize) -> bool:
    constant = cast(np.full((), row.value, "<f4"), FLOAT32, ref.dtype)
    return bool((ref.load() != constant).any())


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
