"""Render a report for the terminal: tables, coloured on a terminal and plain in a pipe."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from parity_tests.model import ParityReport
from parity_tests.report.words import (
    block,
    deviation,
    line,
    measured,
    number,
    outcome,
    probe_status,
    summary_of_embeddings,
    tolerance,
    worst_embeddings,
)

STYLES = {
    "passed": "bold green",
    "failed": "bold red",
    "errored": "bold magenta",
    "partial": "bold yellow",
    "skipped": "dim",
}
MAX_PROBES = 60  # rows; with more probes, those that are the same are only counted
MAX_FINDINGS = 10
MAX_SAMPLES = 5
_UNBOUNDED = 10_000  # columns: nothing wraps, and tables are as wide as their contents


def text(report: ParityReport, *, width: int | None = None, colour: bool = False) -> str:
    """Return the report as text, its headline first. Without `width` no line is wrapped."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width or _UNBOUNDED,
        force_terminal=colour,
        color_system="auto" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(Text(line(report.headline), STYLES[outcome(report)]), soft_wrap=True)
    for part in _parts(report):
        console.print(part, soft_wrap=width is None and isinstance(part, Text))
    return "\n".join(row.rstrip() for row in stream.getvalue().splitlines()) + "\n"


def show(report: ParityReport, stream: TextIO | None = None) -> None:
    """Print the report to `stream` (default: standard output), at most as wide as a terminal."""
    stream = sys.stdout if stream is None else stream
    terminal = stream.isatty()
    width = max(40, shutil.get_terminal_size().columns) if terminal else None
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = text(report, width=width, colour=terminal)
    stream.write(shown.encode(encoding, "replace").decode(encoding))


def _parts(report: ParityReport) -> Iterator[RenderableType]:
    sides = (("reference", report.reference), ("candidate", report.candidate))
    dims = ", ".join(f"{line(name)} {value}" for name, value in report.dims.items())
    yield Text()
    for label, value in (*sides, ("network", f"{report.architecture} {dims}".strip())):
        yield Text(f"{label + ':':<11}{line(value)}")
    yield Text()
    if report.gates:
        yield _gates(report)
    yield from _findings(report)
    if report.probes:
        yield from _probes(report)
    if report.embeddings:
        yield from _embeddings(report)
    for title, rows in (
        ("Notes", report.notes),
        ("Fed", report.feeds),
        ("Environment", [f"{name} {value}" for name, value in report.environment.items()]),
    ):
        if rows:
            yield from _list(title, rows)
    if report.command:
        yield from _list("Reproduce", [report.command])


def _table(title: str, *names: str) -> Table:
    """Return a table whose cells wrap; columns named in lower case are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name in names:
        justify = "right" if name.islower() else "left"
        table.add_column(name.capitalize(), justify=justify, overflow="fold")  # type: ignore[arg-type] # "left" or "right"
    return table


def _row(table: Table, *cells: str, status: str = "") -> None:
    table.add_row(*(Text(c, STYLES[c] if c in STYLES and c == status else "") for c in cells))


def _gates(report: ParityReport) -> Table:
    table = _table("Gates", "Gate", "Status", "measured", "tolerance", "Formula")
    for gate in report.gates:
        values = (measured(gate), tolerance(gate), line(gate.formula))
        _row(table, line(gate.name), gate.status, *values, status=gate.status)
    return table


def _findings(report: ParityReport) -> Iterator[Text]:
    for gate in report.gates:
        if gate.status == "passed" and not gate.findings:
            continue
        yield Text.assemble((f"{line(gate.name)}: ", STYLES[gate.status]), block(gate.summary))
        for finding in gate.findings[:MAX_FINDINGS]:
            yield Text(f"  - {line(finding)}")
        more = len(gate.findings) - MAX_FINDINGS
        if more > 0:
            yield Text(f"  … and {more} more, in the JSON and HTML reports")
    yield Text()


def _probes(report: ParityReport) -> Iterator[RenderableType]:
    probes = report.probes
    if len(probes) > MAX_PROBES:
        probes = tuple(probe for probe in probes if probe.verdict != "same")
    shown, same = probes[:MAX_PROBES], len(report.probes) - len(probes)
    table = _table("Layers", "Layer", "Verdict", "cumulative", "isolated", "Hint")
    for probe in shown:
        verdict = Text(
            probe.verdict, "" if probe.verdict == "same" else STYLES[probe_status(probe)]
        )
        errors = (Text(deviation(probe.cumulative)), Text(deviation(probe.isolated)))
        table.add_row(Text(line(probe.probe)), verdict, *errors, Text(line(probe.hint)))
    if shown:
        yield table
    if same:
        yield Text(f"Layers: {same} more are the same\n")
    if len(probes) > len(shown):
        yield Text(f"… and {len(probes) - len(shown)} more, in the JSON and HTML reports\n")


def _embeddings(report: ParityReport) -> Iterator[RenderableType]:
    table = _table("Embeddings, the farthest apart", "Sample", "distance", "1 - cosine")
    for name, distance, cosine in worst_embeddings(report, MAX_SAMPLES):
        _row(table, line(name), number(distance), number(1 - cosine))
    yield table
    yield Text(summary_of_embeddings(report) + "\n")


def _list(title: str, rows: Iterable[str]) -> Iterator[Text]:
    yield Text(title, "bold")
    for row in rows:
        yield Text(f"  {line(row)}")
