"""Render a report as JUnit XML for CI servers, with a test case for every gate and probe."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from parity_tests.model import GateResult, ParityReport, ProbeResult, Status
from parity_tests.report.words import (
    block,
    line,
    measured,
    probe_message,
    probe_status,
    tolerance,
)

_CHILD = {"failed": "failure", "errored": "error", "skipped": "skipped"}
_COUNT = {"failed": "failures", "errored": "errors", "skipped": "skipped"}


def junit(report: ParityReport) -> str:
    """Return the report as JUnit XML, with a declaration.

    It contains a failure or an error unless the report passed.
    """
    cases: list[tuple[Status, ElementTree.Element]] = [
        *((gate.status, _gate(gate)) for gate in report.gates),
        *((probe_status(probe), _probe(probe)) for probe in report.probes),
    ]
    if not report.passed and not any(status in ("failed", "errored") for status, _ in cases):
        verdict = _case("verdict", "parity", "errored", report.headline, report.headline)
        cases.append(("errored", verdict))
    seconds = f"{sum(gate.seconds for gate in report.gates):.3f}"
    counts = {"tests": str(len(cases))}
    for status, attribute in _COUNT.items():
        counts[attribute] = str(sum(status == found for found, _ in cases))
    top = ElementTree.Element("testsuites", {"name": "facenet parity", **counts, "time": seconds})
    about = f"{line(report.architecture)}: {line(report.candidate)}"
    suite = ElementTree.SubElement(top, "testsuite", {"name": about, **counts, "time": seconds})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report):
        ElementTree.SubElement(properties, "property", {"name": line(name), "value": line(value)})
    suite.extend(case for _, case in cases)
    notes = "\n".join(line(note) for note in (report.headline, *report.notes))
    ElementTree.SubElement(suite, "system-out").text = notes
    ElementTree.indent(top)
    body = ElementTree.tostring(top, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _properties(report: ParityReport) -> Iterator[tuple[str, str]]:
    yield "reference", report.reference
    yield "candidate", report.candidate
    yield "architecture", report.architecture
    yield "command", report.command
    yield from (("dims." + name, str(value)) for name, value in report.dims.items())
    yield from (("feed", feed) for feed in report.feeds)
    yield from (("environment." + name, value) for name, value in report.environment.items())


def _gate(gate: GateResult) -> ElementTree.Element:
    rows = [
        gate.summary,
        f"formula:   {gate.formula}",
        f"measured:  {measured(gate)}",
        f"tolerance: {tolerance(gate)}",
        *(f"- {line(finding)}" for finding in gate.findings),
        *(f"{line(name)}: {line(value)}" for name, value in gate.details.items()),
    ]
    case = _case(gate.name, "parity.gates", gate.status, gate.summary, "\n".join(rows))
    case.set("time", f"{gate.seconds:.3f}")
    return case


def _probe(probe: ProbeResult) -> ElementTree.Element:
    rows = [
        f"verdict: {probe.verdict}",
        f"parents: {', '.join(map(line, probe.parents)) or 'none'}",
        probe_message(probe),
    ]
    message = f"{probe.verdict}: {probe_message(probe)}"
    return _case(probe.probe, "parity.probes", probe_status(probe), message, "\n".join(rows))


def _case(name: str, group: str, status: Status, message: str, rows: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": group, "name": line(name), "time": "0"})
    if status == "passed":
        ElementTree.SubElement(case, "system-out").text = block(rows)
        return case
    child = ElementTree.SubElement(case, _CHILD[status], {"message": line(message)})
    if status != "skipped":
        child.set("type", f"parity.{status}")
        child.text = block(rows)
    return case
