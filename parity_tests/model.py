"""The result of a comparison as plain data: filled by the gates, rendered by `parity_tests.report`.

Indices are in the reference's layout (NHWC); nothing here depends on a framework.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["passed", "failed", "errored", "skipped"]
Kind = Literal["same", "values", "shape", "dtype", "nonfinite", "missing", "extra"]
Verdict = Literal["same", "source", "inherited", "drift", "errored"]

SCHEMA = "facenet-parity/report/2"

# Distances in units in the last place, as powers of two: 0, 1, 2-3, 4-7, …, 2^19 and more.
ULP_BUCKETS = 21


@dataclass(frozen=True)
class Tolerance:
    """``|found - expected| <= atol + rtol * |expected|``, for every element; NaN never holds."""

    atol: float
    rtol: float = 0.0

    @property
    def formula(self) -> str:
        relative = f" + {self.rtol:g} * |expected|" if self.rtol else ""
        return f"|found - expected| <= {self.atol:g}{relative}"


@dataclass(frozen=True)
class Measure:
    """The distance of two arrays of the same shape.

    Attributes:
        count: Elements.
        max_abs, mean_abs: Of ``|found - expected|``, in the arrays' unit.
        max_rel: Largest ``|found - expected| / |expected|`` where expected is not 0.
        l2: Norm of the difference.
        cosine: Cosine of the angle between the two, as flat vectors; NaN if one is zero.
        worst: Index of the largest difference.
        worst_expected, worst_found: The two values there.
        ulp: Histogram of the distance in float32 units in the last place (see `ULP_BUCKETS`).
    """

    count: int
    max_abs: float
    mean_abs: float
    max_rel: float
    l2: float
    cosine: float
    worst: tuple[int, ...]
    worst_expected: float
    worst_found: float
    ulp: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The comparison of two arrays. `kind` is what differs; "values": beyond the tolerance."""

    kind: Kind
    tolerance: Tolerance | None = None
    measure: Measure | None = None
    expected: str = ""  # type and shape, where these differ
    found: str = ""

    @property
    def passed(self) -> bool:
        return self.kind == "same"


@dataclass(frozen=True)
class ProbeResult:
    """One probe's comparisons.

    `cumulative`: both networks got the same image. `isolated`: one torch module got the
    reference's activations of its parents. *source*: fails while its parents pass. *inherited*:
    fails cumulatively, passes isolated. *drift*: passes isolated, and the error grows with depth.
    """

    probe: str
    parents: tuple[str, ...]
    verdict: Verdict
    cumulative: Comparison | None = None
    isolated: Comparison | None = None
    hint: str = ""


@dataclass(frozen=True)
class Finding:
    """One defect that a gate found: where, and what is wrong. `layer` is empty if it is nowhere."""

    layer: str
    what: str
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        values = f" (expected {self.expected}, found {self.found})" if self.expected else ""
        return f"{self.layer}: {self.what}{values}" if self.layer else f"{self.what}{values}"


@dataclass(frozen=True)
class GateResult:
    """The result of one gate: what it demands, what was measured, and its status.

    `measured` and `tolerance` are in the unit of `formula`. "errored" is neither passed nor failed.
    """

    name: str
    status: Status
    formula: str
    tolerance: float
    measured: float
    summary: str
    findings: tuple[Finding, ...] = ()
    details: Mapping[str, float | int | str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class ParityReport:
    """The result of verifying one candidate.

    Attributes:
        reference, candidate: Descriptions of the two sides.
        architecture, dims: The network and its sizes.
        gates: In the order in which they ran.
        probes: In the order of the network; empty if layers were not compared.
        feeds: Descriptions of the images: name, shape, seed.
        environment: Versions of the libraries, by name.
        embeddings: For each sample: its name, L2 distance and cosine of its two embeddings.
        command: The command that repeats the run.
        notes: Circumstances of the run, such as smaller batches because memory ran out.
        partial: Whether the run was interrupted; its results are valid but incomplete.
    """

    reference: str
    candidate: str
    architecture: str
    dims: Mapping[str, int]
    gates: tuple[GateResult, ...]
    probes: tuple[ProbeResult, ...] = ()
    feeds: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    embeddings: tuple[tuple[str, float, float], ...] = ()
    command: str = ""
    notes: tuple[str, ...] = ()
    partial: bool = False

    @property
    def passed(self) -> bool:
        """Whether the run is complete, at least one gate ran, and every gate that ran passed."""
        ran = [gate for gate in self.gates if gate.status != "skipped"]
        return bool(ran) and not self.partial and all(gate.status == "passed" for gate in ran)

    @property
    def errored(self) -> bool:
        return any(gate.status == "errored" for gate in self.gates)

    @property
    def headline(self) -> str:
        """The verdict in one line.

        A failure names the first layer at fault, and the tensor if exactly one differs.
        """
        if self.partial:
            return "PARTIAL: the run was interrupted; this is what was found until then"
        if self.passed:
            return f"PASSED: {self.candidate} computes what {self.reference} does"
        source = next((probe for probe in self.probes if probe.verdict == "source"), None)
        findings = [finding for gate in self.gates for finding in gate.findings]
        if source is not None:
            reasons = [text for text in (source.hint, self._culprit) if text]
            what = "; ".join(reasons) or "its output differs, its input does not"
            return f"FAILED at {source.probe}: {what}"
        if findings:
            return f"FAILED{' at' if findings[0].layer else ':'} {findings[0]}"
        for gate in self.gates:
            if gate.status in ("failed", "errored"):
                return f"{gate.status.upper()}: gate {gate.name}: {gate.summary}"
        return "ERRORED: no gate ran"

    @property
    def _culprit(self) -> str:
        """The only tensor that differs, and how; empty if there are none or several."""
        found = [f for gate in self.gates if gate.name == "weights" for f in gate.findings]
        return str(found[0]) if len(found) == 1 else ""


def is_number(value: float) -> bool:
    """Return whether JSON can represent `value` as a number."""
    return math.isfinite(value)
