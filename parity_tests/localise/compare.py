"""Compare activations in slices: they are large, and float64 copies of them larger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from parity_tests.localise.metrics import compare, ulp_histogram
from parity_tests.model import Comparison, Measure, Tolerance

Array = npt.NDArray[Any]

_SLICE = 1 << 20  # elements: about 50 MB of float64 at once
_SAMPLE = 1 << 16  # elements of a histogram


@dataclass(frozen=True)
class Tolerances:
    """How far activations may differ, in units of the expected activation's root mean square.

    Attributes:
        isolated: For one module, run on the reference's own activations.
        cumulative: For the whole network up to and including the module.
    """

    isolated: float
    cumulative: float


def absolute(expected: Array, relative: float) -> Tolerance:
    """Return the tolerance for these activations: `relative` times their root mean square."""
    if not expected.size:
        return Tolerance(0.0)
    total = sum(float(np.square(part, dtype=np.float64).sum()) for part in _slices(expected))
    return Tolerance(relative * float(np.sqrt(total / expected.size)))


def compare_activations(expected: Array, found: Array | None, tolerance: Tolerance) -> Comparison:
    """Compare like `parity_tests.localise.metrics.compare`, with little memory.

    The ULP histogram counts a sample of at most `_SAMPLE` elements, evenly spaced, and only where
    both arrays are float32.
    """
    if found is None or expected.shape != found.shape or expected.dtype != found.dtype:
        return compare(expected, found, tolerance)
    for side in (expected, found):
        at = _nonfinite(side)
        if at is not None:
            values = (f"{array[at]} at {list(at)}" for array in (expected, found))
            return Comparison("nonfinite", tolerance, None, *values)
    measure, holds = _measure(expected, found, tolerance)
    return Comparison("same" if holds else "values", tolerance, measure)


def _measure(expected: Array, found: Array, tolerance: Tolerance) -> tuple[Measure, bool]:
    """Measure the distance of two finite arrays, and whether every element is within tolerance.

    One pass over the slices accumulates every sum, so the function is longer than usual.
    """
    largest, total, squares, max_rel = -1.0, 0.0, 0.0, 0.0
    dot, left_squares, right_squares = 0.0, 0.0, 0.0
    worst = start = 0
    holds = True
    for part, other in zip(_slices(expected), _slices(found), strict=True):
        left, right = part.astype(np.float64), other.astype(np.float64)
        gap = np.abs(right - left)
        at = int(gap.argmax())
        if gap[at] > largest:
            largest, worst = float(gap[at]), start + at
        size = np.abs(left)
        bound = tolerance.atol + tolerance.rtol * size if tolerance.rtol else tolerance.atol
        holds &= bool((gap <= bound).all())
        relative = np.divide(gap, size, out=np.zeros_like(gap), where=size > 0)
        max_rel = max(max_rel, float(relative.max()))
        total += float(gap.sum())
        squares += float(gap @ gap)
        dot += float(left @ right)
        left_squares += float(left @ left)
        right_squares += float(right @ right)
        start += gap.size
    index = tuple(int(i) for i in np.unravel_index(worst, expected.shape)) if start else ()
    norms = float(np.sqrt(left_squares) * np.sqrt(right_squares))
    measure = Measure(
        count=start,
        max_abs=max(largest, 0.0),
        mean_abs=total / start if start else 0.0,
        max_rel=max_rel,
        l2=float(np.sqrt(squares)),
        cosine=dot / norms if norms else float("nan"),
        worst=index,
        worst_expected=float(expected[index]) if start else 0.0,
        worst_found=float(found[index]) if start else 0.0,
        ulp=_ulp(expected, found),
    )
    return measure, holds


def _ulp(expected: Array, found: Array) -> tuple[int, ...]:
    if expected.dtype != np.float32 or not expected.size:
        return ()
    step = -(-expected.size // _SAMPLE)
    sides = (np.ascontiguousarray(array).reshape(-1)[::step] for array in (expected, found))
    return ulp_histogram(*sides)


def _nonfinite(array: Array) -> tuple[int, ...] | None:
    """Return the index of the first element that is NaN or infinite."""
    finite = np.isfinite(array)
    if finite.all():
        return None
    return tuple(int(i) for i in np.unravel_index(int(finite.argmin()), array.shape))


def _slices(array: Array) -> Iterator[Array]:
    """Yield all elements in order, flat, `_SLICE` at a time."""
    flat = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, flat.size, _SLICE):
        yield flat[start : start + _SLICE]
