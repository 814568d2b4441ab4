"""Every error that this package raises on purpose, with its exit code.

The tree::

    ModelsError             1  root: nothing below it is a bug of the program
    ├── UsageError          2  the call can't be carried out as written
    ├── WeightsError        1  a weight file is damaged, foreign, or fits no network of ours
    ├── DownloadError       1  a weight file could not be downloaded, or came out wrong
    ├── OutputError         1  the result could not be written
    └── ExportError         1  the exported model computes something else

A message says what is wrong, where, what was expected, what was found and what to do next.
"""

from __future__ import annotations

from pathlib import Path

MAX_DETAIL = 2000  # characters of any one untrusted value that a message may repeat


def printable(value: object, limit: int = MAX_DETAIL) -> str:
    """`value` as text for a message: control characters escaped, cut at `limit` characters."""
    text = str(value)
    cut = text[:limit] + ("…" if len(text) > limit else "")
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in cut)


def check_path(path: str | Path) -> str:
    """What to do about a path at which there is nothing: the next step of a message."""
    if Path(path).is_absolute():
        return "check the path"
    return f"check the path; it is looked for in {Path.cwd()}"


class ModelsError(Exception):
    """Root of all errors raised on purpose. `str()` is the whole message for a person.

    `file`, `expected`, `found` and `next_step` are kept as attributes; absent ones are None and
    don't show in the message.
    """

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        expected: object = None,
        found: object = None,
        next_step: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.next_step = next_step
        super().__init__(problem)

    def to_json(self) -> dict[str, object]:
        """The message's parts, for ``--json``."""
        parts = ("problem", "file", "expected", "found", "next_step")
        return {"error": type(self).__name__} | {
            part: getattr(self, part) for part in parts if getattr(self, part) is not None
        }

    def __str__(self) -> str:
        rows = (
            ("file", self.file),
            ("expected", self.expected),
            ("found", self.found),
            ("next", self.next_step),
        )
        details = [
            f"  {label + ':':<10}{printable(value)}" for label, value in rows if value is not None
        ]
        return "\n".join([printable(self.problem), *details])


class UsageError(ModelsError):
    """The call can't be carried out as written: a path, an option, an existing output."""

    exit_code = 2


class WeightsError(ModelsError):
    """A weight file is damaged, foreign, or fits none of the networks."""


class DownloadError(ModelsError):
    """A weight file could not be downloaded, or what came is not it; nothing keeps its name."""


class OutputError(ModelsError):
    """The output could not be written; nothing is left under its name."""


class ExportError(ModelsError):
    """The exported model computes something else than the network it was made from."""
