"""Compare weights with the original graph: one test for each gate and each layer.

pytest --pyargs parity_tests --checkpoint 20180402-114759 --weights vggface2.pt

These are the tests that users run on their own weights; the project's own are in tests/.
"""

from __future__ import annotations

import pytest

from parity_tests.model import ParityReport
from parity_tests.plugin import MISSING, NAMES
from parity_tests.report.words import probe_message, probe_status

pytestmark = pytest.mark.parity


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create one test for each name; the names are known before anything is run."""
    for kind, names in metafunc.config.stash[NAMES].items():
        if kind not in metafunc.fixturenames:
            continue
        if names or metafunc.config.getoption("--weights"):
            metafunc.parametrize(kind, names)
        else:
            nothing = pytest.param("", marks=pytest.mark.skip(reason=MISSING), id="not-given")
            metafunc.parametrize(kind, [nothing])


def test_gate(parity_report: ParityReport, gate: str) -> None:
    results = {result.name: result for result in parity_report.gates}
    if gate not in results:
        pytest.fail(f"the gate {gate} was not applied", pytrace=False)
    result = results[gate]
    if result.status == "skipped":
        pytest.skip(result.summary)
    if result.status != "passed":
        rows = [f"{gate} {result.status}: {result.summary}", f"demanded: {result.formula}"]
        rows += [f"- {finding}" for finding in result.findings[:20]]
        pytest.fail("\n".join([parity_report.headline, *rows]), pytrace=False)


def test_layer(parity_report: ParityReport, layer: str) -> None:
    results = {probe.probe: probe for probe in parity_report.probes}
    if layer not in results:
        pytest.skip("; ".join(parity_report.notes) or "not compared")
    result = results[layer]
    if probe_status(result) != "passed":
        pytest.fail(f"{layer} {result.verdict}: {probe_message(result)}", pytrace=False)


def test_verdict(parity_report: ParityReport) -> None:
    """Fail if the run was interrupted, or applied no gate."""
    if not parity_report.passed:
        pytest.fail(parity_report.headline, pytrace=False)
