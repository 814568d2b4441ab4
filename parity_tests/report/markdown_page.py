"""Render a report as Markdown, for ``$GITHUB_STEP_SUMMARY`` or a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from parity_tests.model import ParityReport
from parity_tests.report.words import (
    at_fault,
    deviation,
    line,
    measured,
    number,
    other_findings,
    outcome,
    summary_of_embeddings,
    tolerance,
    worst_embeddings,
)

SIGNS = {"passed": "✅", "failed": "❌", "errored": "⚠️", "partial": "⚠️", "skipped": "⏭️"}
MAX_ROWS = 300  # GitHub takes 1 MiB of summary a step
MAX_FIRST = 10

# Every character that can begin markup, a link, a mention or an emoji, anywhere in a line.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#!|&~:@$^]|(?<=www)\.", re.IGNORECASE)


def escape(value: object) -> str:
    """Return `value` as plain text on one line of Markdown.

    Character references, unlike backslashes, mean the same in a table, in HTML and in prose.
    """
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", line(value))


def code(value: object) -> str:
    """Return `value` in a fixed-width font."""
    return f"<code>{escape(value)}</code>" if line(value) else ""


def markdown(report: ParityReport) -> str:
    """Return the report as GitHub-flavoured Markdown.

    The headline, gates and first layers at fault are shown, all else in collapsed sections.
    """
    sections = [
        [f"## {SIGNS[outcome(report)]} {escape(report.headline)}"],
        [f"{escape(report.architecture)}: {code(report.candidate)} against "
         f"{code(report.reference)}"],
        list(_gates(report)),
        list(_faults(report)),
        [f"> {escape(note)}<br>" for note in report.notes],
        list(_probes(report)),
        list(_embeddings(report)),
        list(_reproduce(report)),
    ]  # fmt: skip
    return "\n\n".join("\n".join(rows) for rows in sections if rows) + "\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    titles = list(head)
    yield "| " + " | ".join(titles) + " |"
    yield "|" + " --- |" * len(titles)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _gates(report: ParityReport) -> Iterator[str]:
    if not report.gates:
        yield "No gate ran."
        return
    yield from _table(
        ("Gate", "Status", "Measured", "Tolerance", "Formula", "Summary"),
        (
            (
                code(gate.name),
                f"{SIGNS[gate.status]} {gate.status}",
                measured(gate),
                tolerance(gate),
                code(gate.formula),
                escape(gate.summary),
            )
            for gate in report.gates
        ),
    )


def _faults(report: ParityReport) -> Iterator[str]:
    rows = [
        f"- {code(probe.probe)}: {escape(probe.hint) or 'its output differs, its input does not'}"
        for probe in at_fault(report)
    ]
    rows += [
        f"- {code(finding.layer)}: {escape(str(finding).removeprefix(finding.layer + ': '))} "
        f"(gate {code(gate)})"
        for gate, finding in other_findings(report)
    ]
    if rows:
        yield "### First layers at fault"
        yield ""
        yield from rows[:MAX_FIRST]
        if len(rows) > MAX_FIRST:
            yield f"- … and {len(rows) - MAX_FIRST} more"


def _details(title: str, rows: Iterable[str]) -> Iterator[str]:
    yield f"<details><summary>{title}</summary>"
    yield ""
    yield from rows
    yield ""
    yield "</details>"


def _probes(report: ParityReport) -> Iterator[str]:
    if not report.probes:
        return
    table = _table(
        ("Layer", "Verdict", "Cumulative error", "Isolated error", "Hint"),
        (
            (
                code(probe.probe),
                probe.verdict,
                escape(deviation(probe.cumulative)),
                escape(deviation(probe.isolated)),
                escape(probe.hint),
            )
            for probe in report.probes[:MAX_ROWS]
        ),
    )
    more = len(report.probes) - MAX_ROWS
    rest = [f"\n… and {more} more, in the JSON and HTML reports"] if more > 0 else []
    yield from _details(f"Layers ({len(report.probes)})", [*table, *rest])


def _embeddings(report: ParityReport) -> Iterator[str]:
    if not report.embeddings:
        return
    table = _table(
        ("Sample", "L2 distance", "1 - cosine"),
        (
            (code(name), number(distance), number(1 - cosine))
            for name, distance, cosine in worst_embeddings(report, 20)
        ),
    )
    summary = escape(summary_of_embeddings(report))
    yield from _details(f"Embeddings ({len(report.embeddings)})", [summary, "", *table])


def _reproduce(report: ParityReport) -> Iterator[str]:
    rows = [code(report.command), ""] if report.command else []
    rows += [f"- fed: {escape(feed)}" for feed in report.feeds]
    rows += [f"- {escape(name)}: {escape(value)}" for name, value in report.environment.items()]
    rows += [f"- {escape(name)}: {value}" for name, value in report.dims.items()]
    if rows:
        yield from _details("How to reproduce", rows)
