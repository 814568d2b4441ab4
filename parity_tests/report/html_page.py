"""Render a report as one self-contained HTML page, readable without scripts.

The page's content security policy allows its own style and script by their hashes and nothing else:
the page sends no request, and markup that escaping had missed could not run.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from facenet_common.optional import require
from parity_tests.model import Comparison, ParityReport
from parity_tests.report import charts, words

SIGNS = {"passed": "✓", "failed": "✗", "errored": "!", "partial": "…", "skipped": "-"}
MAX_SAMPLES = 200  # rows of the table of embeddings
_POLICY = "default-src 'none'; {}; img-src data:; base-uri 'none'; form-action 'none'"


def html(report: ParityReport) -> str:
    """Return the report as a whole HTML document.

    Raises:
        MissingPackageError: Jinja is not installed.
    """
    jinja2 = require("jinja2", "the HTML report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (words.line, words.block, words.number, words.measured, words.tolerance)
    environment.filters |= {word.__name__: word for word in filters}
    style, script = _asset("report.css"), _asset("report.js")
    page: str = environment.from_string(_asset("report.html")).render(
        report=report,
        outcome=words.outcome(report),
        signs=SIGNS,
        faults=words.at_fault(report),
        allowed=words.allowed,
        short=_short,
        probe_status=words.probe_status,
        sort_key=_sort_key,
        kinds=sorted({probe.verdict for probe in report.probes}),
        depth=_both(report, charts.depth),
        ulp=_both(report, charts.ulp),
        scatter=_both(report, charts.scatter),
        embeddings=words.worst_embeddings(report, MAX_SAMPLES),
        embeddings_summary=words.summary_of_embeddings(report),
        policy=_POLICY.format(f"style-src {_hash(style)}; script-src {_hash(script)}"),
        style=style,
        script=script,
    )
    return page


def _both(report: ParityReport, draw: charts.Drawing) -> list[charts.Chart]:
    """Draw a chart for wide and for narrow windows; the style sheet shows one of the two."""
    drawn = (draw(report, wide=wide) for wide in (True, False))
    return [chart for chart in drawn if chart is not None]


def _asset(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _sort_key(comparison: Comparison | None) -> str:
    """Return the sort key of a row: rows without a number come last, uncompared ones first."""
    if comparison is None:
        return "-1"
    return repr(comparison.measure.max_abs) if comparison.measure else "inf"


def _short(comparison: Comparison | None) -> str:
    """Return the largest difference, or in one word why there is none."""
    if comparison is not None and comparison.measure is None:
        return comparison.kind
    return words.deviation(comparison)
