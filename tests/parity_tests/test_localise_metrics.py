"""The comparison cannot be fooled, and its measures are right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity_tests.localise.metrics import compare, measure, ulp_histogram
from parity_tests.model import (
    ULP_BUCKETS,
    Comparison,
    Finding,
    GateResult,
    ParityReport,
    ProbeResult,
    Tolerance,
)

EXACT = Tolerance(0.0)
ONES = np.ones((2, 3), np.float32)
FINITE = st.floats(-(2.0**99), 2.0**99, width=32)


def with_value(value: float) -> np.ndarray:
    array = ONES.copy()
    array[1, 2] = value
    return array


@pytest.mark.parametrize(
    ("expected", "found", "kind"),
    [
        (ONES, ONES.copy(), "same"),
        (ONES, with_value(1.1), "values"),
        (ONES, with_value(np.nan), "nonfinite"),
        (with_value(np.nan), ONES, "nonfinite"),
        (with_value(np.nan), with_value(np.nan), "nonfinite"),
        (with_value(np.inf), with_value(np.inf), "nonfinite"),
        (ONES, ONES.T.copy(), "shape"),
        (ONES, ONES[:, :1], "shape"),
        (ONES, ONES.astype(np.float64), "dtype"),
        (ONES, None, "missing"),
        (None, ONES, "extra"),
    ],
)
def test_kinds(expected: np.ndarray | None, found: np.ndarray | None, kind: str) -> None:
    result = compare(expected, found, Tolerance(0.05))
    assert result.kind == kind
    assert result.passed == (kind == "same")


@pytest.mark.parametrize(
    ("tolerance", "gap", "passes"),
    [
        (Tolerance(0.1), 0.0999, True),
        (Tolerance(0.1), 0.1001, False),
        (Tolerance(0.0, 0.01), 0.99, True),  # of an expected 100
        (Tolerance(0.0, 0.01), 1.01, False),
        (Tolerance(0.5, 0.01), 1.49, True),
        (Tolerance(0.5, 0.01), 1.51, False),
    ],
)
def test_tolerances_hold_as_written(tolerance: Tolerance, gap: float, passes: bool) -> None:
    expected = np.array([100.0, 100.0])
    assert compare(expected, expected + np.array([0.0, gap]), tolerance).passed == passes
    assert compare(expected, expected - np.array([gap, 0.0]), tolerance).passed == passes


def test_one_bad_element_among_many_is_seen() -> None:
    expected = np.zeros((10, 10, 100), np.float32)
    found = expected.copy()
    found[3, 4, 5] = 1e-3
    result = compare(expected, found, Tolerance(1e-4))
    assert result.kind == "values"
    assert result.measure is not None
    assert result.measure.worst == (3, 4, 5)
    assert result.measure.worst_found == pytest.approx(1e-3)


def test_measures() -> None:
    expected = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)
    found = np.array([[3.0, 4.5], [0.0, 0.75]], np.float32)
    result = measure(expected, found)
    assert result.count == 4
    assert result.max_abs == 0.5
    assert result.mean_abs == pytest.approx(0.75 / 4)
    assert result.max_rel == 0.25
    assert result.l2 == pytest.approx(np.hypot(0.5, 0.25))
    flat = (expected.ravel(), found.ravel())
    cosine = flat[0] @ flat[1] / (np.linalg.norm(flat[0]) * np.linalg.norm(flat[1]))
    assert result.cosine == pytest.approx(cosine)
    assert (result.worst, result.worst_expected, result.worst_found) == ((0, 1), 4.0, 4.5)


def test_an_empty_array_is_the_same() -> None:
    empty = np.empty((0, 3), np.float32)
    assert compare(empty, empty, EXACT).passed


@given(FINITE, st.integers(0, 1000))
def test_ulp_counts_representable_steps(value: float, steps: int) -> None:
    start = np.array([value], np.float32)
    end = start
    for _ in range(min(steps, 40)):
        end = np.nextafter(end, np.float32(np.inf))
    bucket = 0 if steps == 0 else int(np.log2(min(steps, 40))) + 1
    histogram = ulp_histogram(start, end)
    assert len(histogram) == ULP_BUCKETS
    assert sum(histogram) == histogram[bucket] == 1


def test_ulp_crosses_zero() -> None:
    tiny = np.nextafter(np.float32(0), np.float32(1))
    assert ulp_histogram(np.array([-tiny]), np.array([tiny]))[2] == 1  # two steps: -0 is 0
    assert ulp_histogram(np.array([-0.0], np.float32), np.array([0.0], np.float32))[0] == 1


ARRAYS = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=FINITE)


@given(ARRAYS)
def test_an_array_equals_itself_only_within_no_tolerance(array: np.ndarray) -> None:
    assert compare(array, array.copy(), EXACT).passed
    other = array.copy()
    other.flat[-1] = np.nextafter(other.flat[-1], np.float32(np.inf))
    assert not compare(array, other, EXACT).passed


# --- the report's verdict


def gate(status: str, *findings: Finding) -> GateResult:
    return GateResult("float32", status, "L2 < 1e-5", 1e-5, 1e-6, "5 of 5", findings)  # type: ignore[arg-type] # a literal


def report(*gates: GateResult, **more: object) -> ParityReport:
    return ParityReport("graph", "weights", "inception_resnet_v1", {}, gates, **more)  # type: ignore[arg-type] # as given


@pytest.mark.parametrize(
    ("gates", "passed"),
    [
        ((gate("passed"),), True),
        ((gate("passed"), gate("skipped")), True),
        ((gate("passed"), gate("failed")), False),
        ((gate("passed"), gate("errored")), False),
        ((gate("skipped"),), False),
        ((), False),
    ],
)
def test_a_report_passes_only_if_a_gate_ran_and_all_passed(
    gates: tuple[GateResult, ...], passed: bool
) -> None:
    assert report(*gates).passed is passed
    assert report(*gates).headline.startswith("PASSED") is passed
    assert not report(*gates, partial=True).passed


def test_the_headline_names_the_first_layer() -> None:
    wrong = Comparison("values", EXACT)
    probes = (
        ProbeResult("Conv2d_1a_3x3", (), "same"),
        ProbeResult("Conv2d_2a_3x3", ("Conv2d_1a_3x3",), "source", wrong, wrong, "transposed"),
        ProbeResult("Conv2d_2b_3x3", ("Conv2d_2a_3x3",), "inherited", wrong),
    )
    assert report(gate("failed"), probes=probes).headline == "FAILED at Conv2d_2a_3x3: transposed"
    finding = Finding("Block8", "another epsilon", "0.001", "1e-05")
    assert "Block8: another epsilon" in report(gate("failed", finding)).headline


@pytest.mark.parametrize(
    ("hint", "tensors", "expected"),
    [
        ("", ("var",), "FAILED at conv: var: 1 of 64 values differ"),
        (
            "2 channels differ",
            ("var",),
            "FAILED at conv: 2 channels differ; var: 1 of 64 values differ",
        ),
        ("", ("mean", "var"), "FAILED at conv: its output differs, its input does not"),
        ("", (), "FAILED at conv: its output differs, its input does not"),
    ],
)
def test_the_headline_names_the_only_tensor_that_differs(
    hint: str, tensors: tuple[str, ...], expected: str
) -> None:
    wrong = Comparison("values", EXACT)
    probes = (ProbeResult("conv", (), "source", wrong, wrong, hint),)
    findings = tuple(Finding(name, "1 of 64 values differ") for name in tensors)
    weights = replace(gate("failed", *findings), name="weights")
    other = replace(gate("failed", Finding("Block8", "another epsilon")), name="float32")
    headline = report(weights, other, probes=probes).headline
    assert headline == expected
    assert report(weights, probes=()).headline.startswith(
        f"FAILED at {tensors[0]}: " if tensors else "FAILED: gate weights"
    )


def test_activations_are_counted_in_steps_by_a_sample() -> None:
    """Every so many elements of a large array, all of a small one, none in float64."""
    from parity_tests.localise.compare import _SAMPLE, compare_activations

    def steps(count: int, dtype: type[np.floating[Any]] = np.float32) -> tuple[int, ...]:
        expected = np.ones(count, dtype)
        found = np.nextafter(expected, dtype(2))
        measure = compare_activations(expected, found, Tolerance(1e-3)).measure
        assert measure is not None
        return measure.ulp

    assert steps(7)[:3] == (0, 7, 0)
    assert steps(_SAMPLE)[1] == sum(steps(_SAMPLE)) == _SAMPLE
    assert _SAMPLE // 2 < sum(steps(3 * _SAMPLE + 1)) <= _SAMPLE
    assert steps(7, np.float64) == ()
