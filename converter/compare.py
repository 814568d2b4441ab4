"""Compare two sets of weights tensor by tensor: `facenet diff`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np

from converter.catalog import Catalog, TensorRef
from converter.digest import tensor_sha256
from converter.dtypes import Array, DType, as_bits, as_float32, cast
from converter.execute import target_tensors
from converter.plan import Dropped, make_plan

Kind = Literal[
    "identical", "differs", "shape", "type", "only in A", "only in B", "unexplained", "left out"
]


@dataclass(frozen=True)
class TensorDiff:
    """The result of comparing one tensor.

    Args:
        name: The tensor's name.
        kind: The result. *unexplained*: no rule maps the tensor, so it is compared with nothing.
            *left out*: a rule says that no output depends on it.
        detail: More about it, for a person.
        different: The number of elements that differ.
        total: The number of all elements.
        max_abs: The greatest absolute difference; None if the type has none.
        max_ulp: The greatest difference in units in the last place, that is, in representable
            numbers between the two; None if the type is not floating-point.
    """

    name: str
    kind: Kind
    detail: str = ""
    different: int = 0
    total: int = 0
    max_abs: float | None = None
    max_ulp: int | None = None

    @property
    def agrees(self) -> bool:
        """Whether the two sides do not differ here."""
        return self.kind in ("identical", "left out")

    def to_json(self) -> dict[str, object]:
        """Return the result as plain data, for ``--json``."""
        return asdict(self)


class _Side(NamedTuple):
    """One side under the names of one framework, and the tensors that have none there."""

    tensors: dict[str, TensorRef]
    dropped: tuple[Dropped, ...] = ()


def tensors_by_name(catalog: Catalog, naming: str) -> dict[str, TensorRef]:
    """Return the catalog's tensors under the names and layouts of the framework `naming`.

    If they have to be mapped, those that no rule explains are left out.

    Raises:
        MappingError: They have to be mapped, and don't fit their architecture.
    """
    return _side(catalog, naming).tensors


def _side(catalog: Catalog, naming: str) -> _Side:
    if catalog.naming == naming:
        return _Side(dict(catalog))
    plan = make_plan(catalog, to="torch", strict=False)
    refs = target_tensors(plan, dtype=None, allow_nonfinite=True)
    return _Side({ref.name: ref for ref in refs}, plan.dropped)


def diff(a: Catalog, b: Catalog) -> Iterator[TensorDiff]:
    """Yield the result for each tensor, in A's order, followed by those that only B has.

    If one catalog has TensorFlow's names and the other PyTorch's, both are compared as PyTorch's;
    tensors that have no counterpart there come last, under TensorFlow's names.
    For two floating types, `different` counts the elements that differ once both are rounded to
    the narrower type. If a tensor differs but equals another one of B bit for bit, `detail` names
    that one.

    Raises:
        FormatError: A tensor is damaged.
        MappingError: The tensors have to be mapped, and don't fit their architecture.

    Examples:
        >>> from converter.sources import open_source
        >>> def differing(one, other):
        ...     both = diff(open_source(one), open_source(other))
        ...     return [result.name for result in both if result.kind != "identical"]
    """
    naming = "torch" if a.naming != b.naming else a.naming
    sides = {"A": _side(a, naming), "B": _side(b, naming)}
    left, right = (side.tensors for side in sides.values())
    equal_tensors = _EqualTensors(right)
    for name, ref in left.items():
        if name not in right:
            yield TensorDiff(name, "only in A", _describe(ref))
        else:
            yield _diff(ref, right[name], equal_tensors)
        a.release(ref.nbytes)
        b.release(ref.nbytes)
    for name, ref in right.items():
        if name not in left:
            yield TensorDiff(name, "only in B", _describe(ref))
    for letter, side in sides.items():
        for drop in side.dropped:
            name, found = drop.source.name, f"{_describe(drop.source)} in {letter}"
            if drop.unproven:
                yield TensorDiff(name, "unexplained", found)
            else:
                yield TensorDiff(name, "left out", drop.reason)


def _describe(ref: TensorRef) -> str:
    return f"{ref.dtype} {list(ref.shape)}"


def _diff(a: TensorRef, b: TensorRef, equal_tensors: _EqualTensors) -> TensorDiff:
    if a.shape != b.shape:
        return TensorDiff(a.name, "shape", f"{list(a.shape)} in A, {list(b.shape)} in B")
    if a.dtype is not b.dtype:
        return _diff_types(a, b)
    if a.dtype.storage is None:
        return TensorDiff(a.name, "type", "strings are not compared")
    one, two = a.load().reshape(-1), b.load().reshape(-1)
    words = len(as_bits(one)) // one.size if one.size else 1  # complex128 has two
    unequal = (as_bits(one) != as_bits(two)).reshape(-1, words).any(axis=1)
    count = int(unequal.sum())
    if not count:
        return TensorDiff(a.name, "identical", total=one.size)
    equal = equal_tensors.find(one, a)
    return TensorDiff(
        a.name,
        "differs",
        f"A's {a.name} is B's {equal}" if equal else "",
        count,
        one.size,
        _max_abs(one, two, a.dtype),
        _max_ulp(one, two, a.dtype),
    )


def _diff_types(a: TensorRef, b: TensorRef) -> TensorDiff:
    """Compare tensors of two types; the values too, rounded to the narrower type, if both float."""
    types = f"{a.dtype} in A, {b.dtype} in B"
    if not (a.dtype.floating and b.dtype.floating):
        return TensorDiff(a.name, "type", types)
    narrow = min(b.dtype, a.dtype, key=lambda dtype: dtype.itemsize)
    one, two = (as_bits(cast(ref.load(), ref.dtype, narrow)) for ref in (a, b))
    count = int((one != two).sum())
    values = f"{count:,} of {one.size:,} values differ" if count else "equal"
    detail = f"{types}; {values} after rounding to {narrow}"
    return TensorDiff(a.name, "type", detail, count, one.size)


def _max_abs(one: Array, two: Array, dtype: DType) -> float | None:
    if dtype.name == "bfloat16":
        one, two = as_float32(one, dtype), as_float32(two, dtype)
    if one.dtype.kind not in "fiub":
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(one.astype(np.float64) - two.astype(np.float64))
    return float(np.max(gap))  # NaN if either tensor has one: it must be visible


def _max_ulp(one: Array, two: Array, dtype: DType) -> int | None:
    """Return the greatest difference in ulp; None if the type is not floating-point."""
    if not dtype.floating:
        return None
    bits = 8 * dtype.itemsize
    sign = 1 << (bits - 1)

    def ordered(array: Array) -> Array:
        raw = as_bits(array).astype(np.uint64)
        mirrored = np.uint64(2 * sign - 1) - raw + np.uint64(1)
        return np.where(raw >= sign, mirrored, raw + np.uint64(sign))

    x, y = ordered(one), ordered(two)
    return int(np.where(x > y, x - y, y - x).max())


class _EqualTensors:
    """Find a tensor by its values. Each tensor is hashed at most once."""

    def __init__(self, refs: Mapping[str, TensorRef]) -> None:
        self._refs = refs
        self._hashes: dict[str, str] = {}

    def find(self, values: Array, like: TensorRef) -> str | None:
        """Return the name of another tensor with these values, the type and shape of `like`."""
        wanted = tensor_sha256(values)
        for name, ref in self._refs.items():
            if name == like.name or ref.shape != like.shape or ref.dtype is not like.dtype:
                continue
            if name not in self._hashes:
                self._hashes[name] = tensor_sha256(ref.load())
            if self._hashes[name] == wanted:
                return name
        return None
