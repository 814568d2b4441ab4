"""Parity reports of every kind, some with hostile strings wherever one can stand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from parity_tests.model import (
    ULP_BUCKETS,
    Comparison,
    Finding,
    GateResult,
    Measure,
    ParityReport,
    ProbeResult,
    Tolerance,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> 'quoted'",
    "a|b\\|c`d``e*f_g[h](http://i)",
    "line\nbreak\r\n\n# heading",
    "\x00\x07\x1b[31mred\x1b[0m\x7f\x9b",
    "]]> &amp; &#0; <!-- --> </svg></style></title>",
    "\ud800 \udc80 \ufffe \uffff \u202e right to left",
    "[bold red]rich[/] :tada: @everyone #1 www.example.org",
    "{{ 7 * 7 }} {% raw %}",
    "x" * 5_000,
]
TOLERANCE = Tolerance(1e-5, 1e-4)
MEASURE = Measure(6, 2e-5, 1e-6, 1e-3, 3e-5, 0.999, (0, 1), 1.0, 1.00002, (1,) * ULP_BUCKETS)


def gate(status: Any = "passed", name: str = "weights", **more: Any) -> GateResult:
    return GateResult(name, status, "x <= 1", 1.0, 0.5, "as it should be", **more)


def probe(name: str, verdict: Any = "same", kind: Any = "same", hint: str = "") -> ProbeResult:
    compared = Comparison(kind, TOLERANCE, MEASURE if kind in ("same", "values") else None)
    return ProbeResult(name, ("input",), verdict, compared, Comparison("same"), hint)


def a_report(*gates: GateResult, **more: Any) -> ParityReport:
    return ParityReport("ref", "cand", "InceptionResnetV1", {"embedding": 512}, gates, **more)


def hostile(bad: str) -> ParityReport:
    """A report with `bad` wherever a string can stand."""
    shape = Comparison("shape", TOLERANCE, None, bad, bad)
    finding = Finding(bad, bad, bad, bad)
    wrong = GateResult(bad, "failed", bad, 1.0, 2.0, bad, (finding,), {bad: bad, "n": math.nan})
    return ParityReport(
        bad,
        bad,
        bad,
        {bad: 1},
        (wrong, replace(wrong, status="skipped"), replace(wrong, status="errored")),
        (
            ProbeResult(bad, (bad,), "source", shape, shape, bad),
            probe(bad),
            probe(bad, "source", "values", bad),
        ),
        (bad,),
        {bad: bad},
        ((bad, 0.1, 0.9), (bad, math.nan, math.nan)),
        bad,
        (bad,),
    )


EVERY = {
    "empty": a_report(),
    "passed": a_report(gate(), probes=(probe("conv"),), embeddings=(("a", 0.0, 1.0),)),
    "failed": a_report(gate("failed"), probes=(probe("conv", "source", "values", "transposed"),)),
    "errored": a_report(gate("errored"), gate(name="float64")),
    "skipped": a_report(gate("skipped")),
    "partial": a_report(gate(), partial=True),
    "deep": a_report(gate(), probes=tuple(probe(f"block.{i}") for i in range(200))),
    "kinds": a_report(
        gate(),
        probes=tuple(
            probe(kind, "source", kind)
            for kind in ("shape", "dtype", "nonfinite", "missing", "extra")
        ),
    ),
} | {f"hostile{i}": hostile(bad) for i, bad in enumerate(HOSTILE)}
