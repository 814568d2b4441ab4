"""Two sets of weights side by side: `facenet diff`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from converter.catalog import Catalog, TensorRef
from converter.digest import tensor_sha256
from converter.dtypes import Array, DType, as_float32, as_words, cast
from converter.execute import targets
from converter.plan import make_plan

Kind = Literal["identical", "differs", "shape", "type", "only in A", "only in B"]


@dataclass(frozen=True)
class TensorDiff:
    """How one tensor fares. Differences are absolute, in the tensors' unit; ulp in float steps."""

    name: str
    kind: Kind
    detail: str = ""
    different: int = 0
    total: int = 0
    max_abs: float | None = None
    max_ulp: int | None = None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def tensors_by_name(catalog: Catalog, naming: str) -> dict[str, TensorRef]:
    """The catalog's tensors under the names and layouts of side `naming`."""
    if catalog.naming == naming:
        return dict(catalog)
    plan = make_plan(catalog, to="torch", strict=False)
    return {ref.name: ref for ref in targets(plan, dtype=None, allow_nonfinite=True)}


def diff(a: Catalog, b: Catalog) -> Iterator[TensorDiff]:
    """Every tensor of either side, in A's order, then what only B has.

    Where one side has TensorFlow's names and the other PyTorch's, both are compared as PyTorch's.
    Of two floating types, `different` counts what differs once both are rounded to the narrower.
    A tensor that differs but equals another one of B's, bit for bit, is said to.
    """
    naming = "torch" if a.naming != b.naming else a.naming
    left, right = tensors_by_name(a, naming), tensors_by_name(b, naming)
    twins = _Twins(right)
    for name, ref in left.items():
        if name not in right:
            yield TensorDiff(name, "only in A", _describe(ref))
        else:
            yield _diff(ref, right[name], twins)
        a.release(ref.nbytes)
        b.release(ref.nbytes)
    for name, ref in right.items():
        if name not in left:
            yield TensorDiff(name, "only in B", _describe(ref))


def _describe(ref: TensorRef) -> str:
    return f"{ref.dtype} {list(ref.shape)}"


def _diff(a: TensorRef, b: TensorRef, twins: _Twins) -> TensorDiff:
    if a.shape != b.shape:
        return TensorDiff(a.name, "shape", f"{list(a.shape)} against {list(b.shape)}")
    if a.dtype is not b.dtype:
        return _other_type(a, b)
    if a.dtype.storage is None:
        return TensorDiff(a.name, "type", "strings are not compared")
    one, two = a.load().reshape(-1), b.load().reshape(-1)
    words = len(as_words(one)) // one.size if one.size else 1  # complex128 has two
    unequal = (as_words(one) != as_words(two)).reshape(-1, words).any(axis=1)
    count = int(unequal.sum())
    if not count:
        return TensorDiff(a.name, "identical", total=one.size)
    twin = twins.of(one, a)
    return TensorDiff(
        a.name,
        "differs",
        f"A's {a.name} is B's {twin}" if twin else "",
        count,
        one.size,
        _max_abs(one, two, a.dtype),
        _max_ulp(one, two, a.dtype),
    )


def _other_type(a: TensorRef, b: TensorRef) -> TensorDiff:
    """Of two floating types also whether the values are equal, both rounded to the narrower one."""
    words = f"{a.dtype} against {b.dtype}"
    if not (a.dtype.floating and b.dtype.floating):
        return TensorDiff(a.name, "type", words)
    narrow = min(b.dtype, a.dtype, key=lambda dtype: dtype.itemsize)
    one, two = (as_words(cast(ref.load(), ref.dtype, narrow)) for ref in (a, b))
    count = int((one != two).sum())
    how = f"{count:,} of {one.size:,} values differ" if count else "equal"
    words += f"; {how} after rounding to {narrow}"
    return TensorDiff(a.name, "type", words, count, one.size)


def _max_abs(one: Array, two: Array, dtype: DType) -> float | None:
    if dtype.name == "bfloat16":
        one, two = as_float32(one, dtype), as_float32(two, dtype)
    if one.dtype.kind not in "fiub":
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(one.astype(np.float64) - two.astype(np.float64))
    return float(np.max(gap))  # NaN where either side has one: not hidden


def _max_ulp(one: Array, two: Array, dtype: DType) -> int | None:
    """The greatest distance in representable numbers; None for types that aren't floating."""
    if not dtype.floating:
        return None
    bits = 8 * dtype.itemsize
    sign = 1 << (bits - 1)

    def ordered(array: Array) -> Array:
        raw = as_words(array).astype(np.uint64)
        mirrored = np.uint64(2 * sign - 1) - raw + np.uint64(1)
        return np.where(raw >= sign, mirrored, raw + np.uint64(sign))

    x, y = ordered(one), ordered(two)
    return int(np.where(x > y, x - y, y - x).max())


class _Twins:
    """Finds the tensor of one side that has exactly given values; hashes each at most once."""

    def __init__(self, refs: Mapping[str, TensorRef]) -> None:
        self._refs = refs
        self._hashes: dict[str, str] = {}

    def of(self, values: Array, like: TensorRef) -> str | None:
        wanted = tensor_sha256(values)
        for name, ref in self._refs.items():
            if name == like.name or ref.shape != like.shape or ref.dtype is not like.dtype:
                continue
            if name not in self._hashes:
                self._hashes[name] = tensor_sha256(ref.load())
            if self._hashes[name] == wanted:
                return name
        return None
