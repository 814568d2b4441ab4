"""Render the outcomes of a self-test as text and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from parity_tests.report.words import line
from parity_tests.selftest.run import Outcome

SCHEMA = "facenet-parity/self-test/2"
GATES = ("weights", "float64", "float32", "task")
SHOWN = 20  # survivors of the float64 gate that the text lists; JSON has them all


def passed(outcomes: Sequence[Outcome]) -> bool:
    """Return whether at least one gate killed each mutant that changes anything.

    False if there are no such mutants.
    """
    changed = [outcome for outcome in outcomes if not outcome.equivalent]
    return bool(changed) and all(outcome.killed_by for outcome in changed)


def to_json(outcomes: Sequence[Outcome], *, partial: bool = False) -> dict[str, Any]:
    """Return all outcomes as an object for `json.dumps`; a change that is not finite is null."""
    return {
        "schema": SCHEMA,
        "passed": passed(outcomes) and not partial,
        "partial": partial,
        "kinds": [_row(kind, mutants) for kind, mutants in _kinds(outcomes)],
        "total": _row("total", outcomes),
        "mutants": [
            asdict(o)
            | {
                "moved": o.moved if math.isfinite(o.moved) else None,
                "named_rightly": o.named_rightly,
            }
            for o in outcomes
        ],
    }


def text(outcomes: Sequence[Outcome], *, partial: bool = False) -> str:
    """Return the verdict, a table of killed and named mutants by kind, and the survivors."""
    killed = sum(bool(outcome.killed_by) for outcome in outcomes)
    word = "PARTIAL" if partial else "PASSED" if passed(outcomes) else "FAILED"
    heads = ("kind", "mutants", "killed", *GATES, "named")
    rows = [heads, *map(_cells, (_row(k, m) for k, m in _kinds(outcomes)))]
    rows.append(_cells(_row("total", outcomes)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    verdict = f"{word}: {killed} of {len(outcomes)} defects were found"
    unchanged = sum(outcome.equivalent for outcome in outcomes)
    if unchanged:
        verdict += f"; {unchanged} {'changes' if unchanged == 1 else 'change'} nothing"
    lines = [verdict, ""]
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join((first.strip().ljust(widths[0]), *rest)))
    lines += [
        "",
        "Columns of gates: defects found by that gate alone. named: layers found by their numbers.",
    ]
    lines += _survivors(outcomes)
    return "\n".join(lines) + "\n"


def _survivors(outcomes: Sequence[Outcome]) -> Iterator[str]:
    living = [outcome for outcome in outcomes if "float64" not in outcome.killed_by]
    if living:
        yield ""
        yield f"{len(living)} that the float64 gate does not find:"
    for outcome in living[:SHOWN]:
        by = "" if outcome.equivalent else "; killed by "
        by += by and (", ".join(outcome.killed_by) or "NOTHING")
        yield f"  {line(outcome.what)}: {outcome.why}{by}"
    if len(living) > SHOWN:
        yield f"  … and {len(living) - SHOWN} more, in the JSON"


def _kinds(outcomes: Iterable[Outcome]) -> list[tuple[str, list[Outcome]]]:
    kinds: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        kinds.setdefault(outcome.kind, []).append(outcome)
    return list(kinds.items())


def _row(kind: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "kind": kind,
        "mutants": len(outcomes),
        "killed": sum(bool(outcome.killed_by) for outcome in outcomes),
        "equivalent": sum(outcome.equivalent for outcome in outcomes),
        **{gate: sum(gate in outcome.killed_by for outcome in outcomes) for gate in GATES},
        "nameable": sum(outcome.nameable for outcome in outcomes),
        "named": sum(outcome.nameable and outcome.named_rightly for outcome in outcomes),
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(row[key]) for key in ("mutants", "killed", *GATES))
    return (row["kind"], *counts, f"{row['named']}/{row['nameable']}")
