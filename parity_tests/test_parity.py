"""Weights against the original graph, a test for each gate and each layer.

pytest --pyargs parity_tests --checkpoint 20180402-114759 --weights vggface2.pt
"""

from __future__ import annotations

import pytest

from parity_tests.model import ParityReport
from parity_tests.plugin import MISSING, NAMES
from parity_tests.report.words import probe_message, probe_status

pytestmark = pytest.mark.parity


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each name, known before anything is run."""
    for kind, names in metafunc.config.stash[NAMES].items():
        if kind not in metafunc.fixturenames:
            continue
        if names or metafunc.config.getoption("--weights"):
            metafunc.parametrize(kind, names)
        else:
            nothing = pytest.param("", marks=pytest.mark.skip(reason=MISSING), id="not-given")
            metafunc.parametrize(kind, [nothing])


def test_gate(parity_report: ParityReport, gate: str) -> None:
    found = {result.name: result for result in parity_report.gates}
    if gate not in found:
        pytest.fail(f"the gate {gate} was not applied", pytrace=False)
    result = found[gate]
    if result.status == "skipped":
        pytest.skip(result.summary)
    if result.status != "passed":
        rows = [f"{gate} {result.status}: {result.summary}", f"demanded: {result.formula}"]
        rows += [f"- {finding}" for finding in result.findings[:20]]
        pytest.fail("\n".join([parity_report.headline, *rows]), pytrace=False)


def test_layer(parity_report: ParityReport, layer: str) -> None:
    found = {probe.probe: probe for probe in parity_report.probes}
    if layer not in found:
        pytest.skip("; ".join(parity_report.notes) or "not compared")
    status = probe_status(found[layer])
    if status != "passed":
        pytest.fail(f"{layer} {found[layer].verdict}: {probe_message(found[layer])}", pytrace=False)


def test_verdict(parity_report: ParityReport) -> None:
    """The whole: a run that was cut short, or applied no gate, has not passed."""
    if not parity_report.passed:
        pytest.fail(parity_report.headline, pytrace=False)
