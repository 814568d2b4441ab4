"""Save reports to files and load them. Files are written atomically; older ones are replaced."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from facenet_common.atomic import write_file
from facenet_common.errors import ParityError
from parity_tests.model import ParityReport
from parity_tests.report.html_page import html
from parity_tests.report.json_document import from_json, to_json
from parity_tests.report.junit_xml import junit
from parity_tests.report.markdown_page import markdown
from parity_tests.report.terminal import text

Form = Literal["json", "junit", "markdown", "html", "text"]


def _json_text(report: ParityReport) -> str:
    return json.dumps(to_json(report), indent=1, allow_nan=False) + "\n"


FORMS: Mapping[Form, Callable[[ParityReport], str]] = {
    "json": _json_text,
    "junit": junit,
    "markdown": markdown,
    "html": html,
    "text": text,
}


def render(report: ParityReport, form: Form) -> str:
    """Return the report as text in one of the `FORMS`.

    Examples:
        >>> render(report, "markdown").splitlines()[0]
        '## ✅ PASSED: …'
    """
    return FORMS[form](report)


def save(report: ParityReport, path: Path, form: Form) -> None:
    """Write the report to `path`, replacing an existing file. Raises OutputError."""
    save_text(render(report, form), path)


def save_text(text: str, path: Path) -> None:
    """Write `text` to `path` in UTF-8, replacing an existing file. Raises OutputError."""
    write_file(path, text.encode())


def load(path: Path) -> ParityReport:
    """Read a JSON report that `save` wrote. Raises ParityError for any other file."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ParityError(
            "the parity report can't be read",
            file=path,
            found=error.strerror,
            next_step="check the path",
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested without end
        raise ParityError(
            "the parity report is not JSON",
            file=path,
            found=str(error),
            next_step="name a file that facenet verify --json wrote",
        ) from error
    try:
        return from_json(data)
    except ParityError as error:
        error.file = str(path)
        raise
