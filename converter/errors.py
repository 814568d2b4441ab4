"""Every error that this package raises on purpose, with its exit code.

The tree::

    FacenetError            1  root: nothing below it is a bug of the program
    ├── UsageError          2  the call can't be carried out as written
    ├── FormatError         1  a file is not what it should be, or is damaged
    ├── MappingError        1  the tensors don't fit the architecture; carries every finding
    ├── ValueCheckError     1  a tensor holds a value that must not be there
    ├── OutputError         1  the result could not be written
    ├── RoundTripError      1  what was read back is not what was written
    └── ParityFailedError   1  the converted model computes something else

A message says what is wrong, where, what was expected, what was found and what to do next.
"""

from __future__ import annotations

from pathlib import Path

MAX_DETAIL = 500  # characters of any one untrusted value that a message may repeat


def printable(value: object, limit: int = MAX_DETAIL) -> str:
    """`value` as text for a message: control characters escaped, cut at `limit` characters."""
    text = str(value)
    cut = text[:limit] + ("…" if len(text) > limit else "")
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in cut)


def one_line(value: object) -> str:
    """`value` as text for one row of a table: whole, with nothing that moves the cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


class FacenetError(Exception):
    """Root of all errors raised on purpose. `str()` is the whole message for a person.

    `file`, `tensor`, `expected`, `found` and `next_step` are kept as attributes; absent ones are
    None and don't show in the message.
    """

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        tensor: str | None = None,
        expected: object = None,
        found: object = None,
        next_step: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.tensor = tensor
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.next_step = next_step
        super().__init__(problem)

    def to_json(self) -> dict[str, object]:
        """The message's parts, for ``--json``."""
        parts = ("problem", "file", "tensor", "expected", "found", "next_step")
        return {"error": type(self).__name__} | {
            part: getattr(self, part) for part in parts if getattr(self, part) is not None
        }

    def __str__(self) -> str:
        rows = (
            ("file", self.file),
            ("tensor", self.tensor),
            ("expected", self.expected),
            ("found", self.found),
            ("next", self.next_step),
        )
        details = [
            f"  {label + ':':<10}{printable(value, 4 * MAX_DETAIL)}"
            for label, value in rows
            if value is not None
        ]
        return "\n".join([self.problem, *details])


class UsageError(FacenetError):
    """The call can't be carried out as written: a path, an option, an existing output."""

    exit_code = 2


class FormatError(FacenetError):
    """A file is damaged, truncated, foreign, or lies about its sizes."""


class MappingError(FacenetError):
    """The source's tensors don't fit the architecture. `findings` holds every one of them."""

    def __init__(self, problem: str, findings: tuple[object, ...] = (), **details: str) -> None:
        super().__init__(problem, **details)
        self.findings = findings

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"findings": [vars(finding) for finding in self.findings]}

    def __str__(self) -> str:
        shown = [f"  - {printable(finding)}" for finding in self.findings[:40]]
        if len(self.findings) > len(shown):
            shown.append(f"  … and {len(self.findings) - len(shown)} more (all with --json)")
        return "\n".join([super().__str__(), *shown])


class ValueCheckError(FacenetError):
    """A tensor holds NaN or infinity, or a value that the target cannot represent."""


class OutputError(FacenetError):
    """The output could not be written; nothing is left under its name."""


class RoundTripError(FacenetError):
    """The file read back and inverted is not the source, bit for bit."""


class ParityFailedError(FacenetError):
    """The converted model's embeddings differ from the TensorFlow graph's."""
