"""What all forms of a report say in the same words: numbers, states, untrusted text."""

from __future__ import annotations

import math
import re
from typing import Literal

from facenet_common.text import printable
from parity_tests.model import Comparison, Finding, GateResult, ParityReport, ProbeResult, Status

Outcome = Literal["passed", "failed", "errored", "partial"]

MAX_LINE = 2_000  # characters of any one untrusted string that a line repeats
MAX_BLOCK = 20_000
NOTHING = "-"


def line(value: object, limit: int = MAX_LINE) -> str:
    """`value` on one line: control, formatting and surrogate characters escaped, cut at `limit`."""
    return re.sub(r" *\n\s*", " ", printable(value, limit)).strip()


def block(value: object) -> str:
    """`value` with its line breaks; otherwise as `line` has it."""
    return printable(value, MAX_BLOCK)


def number(value: float) -> str:
    """Three significant digits; integers whole, unless they are huge floats."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return str(int(value))
    return re.sub(r"e([+-])0+", r"e\1", f"{value:.3g}")


def measured(gate: GateResult) -> str:
    """What a gate measured; a dash where it was not applied, or could not be."""
    return number(gate.measured) if gate.status in ("passed", "failed") else NOTHING


def tolerance(gate: GateResult) -> str:
    """What a gate allows, likewise."""
    return number(gate.tolerance) if gate.status in ("passed", "failed") else NOTHING


def outcome(report: ParityReport) -> Outcome:
    """The headline's first word, which no string of the report can change."""
    if report.partial:
        return "partial"
    if report.passed:
        return "passed"
    return "failed" if report.headline.startswith("FAILED") else "errored"


def probe_status(probe: ProbeResult) -> Status:
    """How a probe counts. Drift counts as failed only where it left the tolerance.

    A probe that calls itself the same while a comparison says otherwise has failed.
    """
    if probe.verdict == "errored":
        return "errored"
    comparisons = [c for c in (probe.cumulative, probe.isolated) if c is not None]
    if probe.verdict in ("source", "inherited") or not all(c.passed for c in comparisons):
        return "failed"
    return "passed" if comparisons else "skipped"


def at_fault(report: ParityReport) -> list[ProbeResult]:
    """The layers that go wrong by themselves, in the network's order."""
    return [probe for probe in report.probes if probe.verdict == "source"]


def other_findings(report: ParityReport) -> list[tuple[str, Finding]]:
    """Every gate's findings, with the gate's name."""
    return [(gate.name, finding) for gate in report.gates for finding in gate.findings]


def deviation(comparison: Comparison | None) -> str:
    """The largest difference, or in words why there is none."""
    if comparison is None:
        return NOTHING
    if comparison.measure is not None:
        return number(comparison.measure.max_abs)
    if not (comparison.expected or comparison.found):
        return comparison.kind
    return line(f"{comparison.kind}: expected {comparison.expected}, found {comparison.found}")


def allowed(comparison: Comparison | None) -> float | None:
    """What the tolerance allows at the element that differs most; None if there is none."""
    if comparison is None or comparison.tolerance is None:
        return None
    expected = comparison.measure.worst_expected if comparison.measure else 0.0
    return comparison.tolerance.atol + comparison.tolerance.rtol * abs(expected)


def probe_message(probe: ProbeResult) -> str:
    """What is wrong with a probe, in one line."""
    parts = [line(probe.hint)] if probe.hint else []
    for label, comparison in (("cumulative", probe.cumulative), ("isolated", probe.isolated)):
        if comparison is not None:
            rule = f" ({comparison.tolerance.formula})" if comparison.tolerance else ""
            state = "within tolerance" if comparison.passed else "differs"
            parts.append(f"{label} {state}: {deviation(comparison)}{rule}")
    return "; ".join(parts) or "nothing was compared"


def summary_of_embeddings(report: ParityReport) -> str:
    """How many embeddings, and the farthest pair, in one line; empty if there are none."""
    if not report.embeddings:
        return ""
    name, distance, cosine = worst_embeddings(report, 1)[0]
    return (
        f"{len(report.embeddings)} embeddings; farthest apart: {line(name)}, "
        f"L2 distance {number(distance)}, 1 - cosine {number(1 - cosine)}"
    )


def worst_embeddings(report: ParityReport, limit: int) -> list[tuple[str, float, float]]:
    """The `limit` samples whose embeddings are farthest apart, NaN before all."""
    distant = sorted(report.embeddings, key=lambda e: (not math.isnan(e[1]), -e[1]))
    return distant[:limit]
