"""Text that all forms of a report share: numbers, states, untrusted strings."""

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
    """Return `value` on one line: unprintable characters escaped, cut at `limit`.

    Examples:
        >>> line("two\\nlines")
        'two lines'
    """
    return re.sub(r" *\n\s*", " ", printable(value, limit)).strip()


def block(value: object) -> str:
    """Return `value` with its line breaks; otherwise as `line` does."""
    return printable(value, MAX_BLOCK)


def number(value: float) -> str:
    """Format with three significant digits; integers in full, unless they are huge floats.

    Examples:
        >>> number(0.00012345), number(12.0)
        ('1.23e-4', '12')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return str(int(value))
    return re.sub(r"e([+-])0+", r"e\1", f"{value:.3g}")


def measured(gate: GateResult) -> str:
    """Format what a gate measured; a dash where it was skipped or errored."""
    return number(gate.measured) if gate.status in ("passed", "failed") else NOTHING


def tolerance(gate: GateResult) -> str:
    """Format what a gate allows; a dash where it was skipped or errored."""
    return number(gate.tolerance) if gate.status in ("passed", "failed") else NOTHING


def outcome(report: ParityReport) -> Outcome:
    """Return the first word of the headline, which no string of the report can change."""
    if report.partial:
        return "partial"
    if report.passed:
        return "passed"
    return "failed" if report.headline.startswith("FAILED") else "errored"


def probe_status(probe: ProbeResult) -> Status:
    """Return the status of a probe. Drift fails only where it exceeds the tolerance.

    A probe with the verdict "same" fails if one of its comparisons does.
    """
    if probe.verdict == "errored":
        return "errored"
    comparisons = [c for c in (probe.cumulative, probe.isolated) if c is not None]
    if probe.verdict in ("source", "inherited") or not all(c.passed for c in comparisons):
        return "failed"
    return "passed" if comparisons else "skipped"


def at_fault(report: ParityReport) -> list[ProbeResult]:
    """Return the probes that are sources of error, in the network's order."""
    return [probe for probe in report.probes if probe.verdict == "source"]


def other_findings(report: ParityReport) -> list[tuple[str, Finding]]:
    """Return every gate's findings, with the gate's name."""
    return [(gate.name, finding) for gate in report.gates for finding in gate.findings]


def deviation(comparison: Comparison | None) -> str:
    """Format the largest difference, or in words why there is none."""
    if comparison is None:
        return NOTHING
    if comparison.measure is not None:
        return number(comparison.measure.max_abs)
    if not (comparison.expected or comparison.found):
        return comparison.kind
    return line(f"{comparison.kind}: expected {comparison.expected}, found {comparison.found}")


def allowed(comparison: Comparison | None) -> float | None:
    """Return the difference allowed at the element that differs most; None without a tolerance."""
    if comparison is None or comparison.tolerance is None:
        return None
    expected = comparison.measure.worst_expected if comparison.measure else 0.0
    return comparison.tolerance.atol + comparison.tolerance.rtol * abs(expected)


def probe_message(probe: ProbeResult) -> str:
    """Describe in one line what is wrong with a probe."""
    parts = [line(probe.hint)] if probe.hint else []
    for label, comparison in (("cumulative", probe.cumulative), ("isolated", probe.isolated)):
        if comparison is not None:
            rule = f" ({comparison.tolerance.formula})" if comparison.tolerance else ""
            state = "within tolerance" if comparison.passed else "differs"
            parts.append(f"{label} {state}: {deviation(comparison)}{rule}")
    return "; ".join(parts) or "nothing was compared"


def summary_of_embeddings(report: ParityReport) -> str:
    """Describe in one line how many embeddings there are and which pair is farthest apart.

    Empty if there are none.
    """
    if not report.embeddings:
        return ""
    name, distance, cosine = worst_embeddings(report, 1)[0]
    return (
        f"{len(report.embeddings)} embeddings; farthest apart: {line(name)}, "
        f"L2 distance {number(distance)}, 1 - cosine {number(1 - cosine)}"
    )


def worst_embeddings(report: ParityReport, limit: int) -> list[tuple[str, float, float]]:
    """Return the `limit` samples whose embeddings are farthest apart, NaN first."""
    distant = sorted(report.embeddings, key=lambda e: (not math.isnan(e[1]), -e[1]))
    return distant[:limit]
