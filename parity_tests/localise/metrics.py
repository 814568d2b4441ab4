"""Compare two arrays; NaN, other shapes and other dtypes are failures of their own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from parity_tests.model import ULP_BUCKETS, Comparison, Kind, Measure, Tolerance

Array = npt.NDArray[Any]


def compare(expected: Array | None, found: Array | None, tolerance: Tolerance) -> Comparison:
    """Compare two arrays element by element, by the tolerance's formula.

    None stands for an absent array. NaN or infinity on either side is "nonfinite", even where both
    sides agree: no correct network gives such a value.

    Examples:
        >>> compare(np.zeros(2), np.full(2, 0.1), Tolerance(0.01)).kind
        'values'
    """
    if expected is None or found is None:
        absent: Kind = "extra" if expected is None else "missing"
        return Comparison(absent, tolerance, None, _describe(expected), _describe(found))
    if expected.shape != found.shape:
        return Comparison("shape", tolerance, None, _describe(expected), _describe(found))
    if expected.dtype != found.dtype:
        return Comparison("dtype", tolerance, None, _describe(expected), _describe(found))
    for side in (expected, found):
        if not np.isfinite(side).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(side))[0])
            values = (f"{array[index]} at {list(index)}" for array in (expected, found))
            return Comparison("nonfinite", tolerance, None, *values)
    measured = measure(expected, found)
    exact = expected.astype(np.float64)
    gap = np.abs(found.astype(np.float64) - exact)
    holds = bool((gap <= tolerance.atol + tolerance.rtol * np.abs(exact)).all())
    return Comparison("same" if holds else "values", tolerance, measured)


def measure(expected: Array, found: Array) -> Measure:
    """Measure the distance of two finite arrays of the same shape and dtype, in float64."""
    left, right = expected.astype(np.float64), found.astype(np.float64)
    gap = np.abs(right - left)
    if not gap.size:
        return Measure(0, 0.0, 0.0, 0.0, 0.0, 1.0, (), 0.0, 0.0, (0,) * ULP_BUCKETS)
    worst = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
    nonzero = left != 0
    relative = gap[nonzero] / np.abs(left[nonzero])
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return Measure(
        count=int(gap.size),
        max_abs=float(gap.max()),
        mean_abs=float(gap.mean()),
        max_rel=float(relative.max()) if relative.size else 0.0,
        l2=float(np.linalg.norm(gap)),
        cosine=float(np.vdot(left, right)) / norms if norms else float("nan"),
        worst=worst,
        worst_expected=float(left[worst]),
        worst_found=float(right[worst]),
        ulp=ulp_histogram(expected, found),
    )


def ulp_histogram(expected: Array, found: Array) -> tuple[int, ...]:
    """Count the elements that are 0, 1, 2-3, 4-7, … float32 units in the last place apart.

    The distance is the number of representable steps, so it is right across zero and powers of two.
    """
    steps = np.abs(_ordered(expected) - _ordered(found))
    buckets = np.zeros(steps.shape, np.int64)
    positive = steps > 0
    buckets[positive] = np.minimum(np.log2(steps[positive]).astype(np.int64) + 1, ULP_BUCKETS - 1)
    return tuple(int(n) for n in np.bincount(buckets.reshape(-1), minlength=ULP_BUCKETS))


def _ordered(array: Array) -> Array:
    """Map float32 values to integers in the same order, neighbours one apart."""
    bits = np.ascontiguousarray(array, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _describe(array: Array | None) -> str:
    return "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
