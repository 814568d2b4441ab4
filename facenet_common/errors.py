"""All errors that the packages raise on purpose, with their exit codes.

The tree::

    FacenetError              1  the root: everything below it is reported as one message
    ├── UsageError            2  the call can't be carried out as written
    ├── MissingPackageError   1  an optional package is not installed
    ├── FormatError           1  a file is damaged, or has another format
    ├── MappingError          1  the tensors don't fit the architecture; has all findings
    ├── ValueCheckError       1  a tensor holds a value that must not be there
    ├── WeightsError          1  a weight file is damaged, foreign, or fits none of the networks
    ├── DownloadError         1  a file could not be downloaded, or is not the one expected
    ├── OutputError           1  the result could not be written
    ├── RoundTripError        1  the written file differs from the source
    ├── ExportError           1  the exported model's outputs differ
    ├── ParityError           1  no verdict could be reached
    └── ParityFailedError     1  the converted model's outputs differ

`facenet_release.errors` adds those of releases. A message says what is wrong, where, what was
expected, what was found and what to do next. The second paragraph of a class's docstring says what
to do about its errors; `docs/messages.md` shows it with all messages of the class.

Examples:
    >>> print(UsageError("the folder does not exist", file="photos", next_step="check the path"))
    the folder does not exist
      file:     photos
      next:     check the path
"""

from __future__ import annotations

from pathlib import Path

from facenet_common.text import MAX_DETAIL, printable

MAX_FINDINGS = 40  # findings that a message repeats; all are in the JSON


class FacenetError(Exception):
    """The root of all errors raised on purpose. `str()` gives the whole message for a person.

    Args:
        problem: What is wrong, in one sentence.
        file: The file, folder or address concerned.
        tensor: The tensor concerned.
        expected: What should be there.
        found: What is there.
        next_step: What to do about it.

    All are kept as attributes, as text; absent ones are None and are left out of the message.
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
        """Return the parts of the message, for ``--json``."""
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
        return "\n".join([printable(self.problem, 8 * MAX_DETAIL), *details])


class UsageError(FacenetError):
    """The call can't be carried out as written: a path, an option, an existing output.

    Correct the call. The message names the path, option or argument, and gives the reason of
    the system or a library where there is one.
    """

    exit_code = 2


class MissingPackageError(FacenetError, ImportError):
    """An optional package is not installed. `next_step` says how to install it."""


class FormatError(FacenetError):
    """A file is damaged, truncated, foreign, or declares sizes that are wrong.

    Fetch the file again, and compare its size and hash with the publisher's.
    """


class MappingError(FacenetError):
    """The source's tensors don't fit the architecture. `findings` holds every one of them.

    One line for each finding. *missing*: the file is incomplete or of another model.
    *unexplained*: pass `--no-strict` if you know what it is. *shape*: of another model, or
    altered. *type*: save the model with floating-point weights.
    """

    def __init__(self, problem: str, findings: tuple[object, ...] = (), **details: str) -> None:
        super().__init__(problem, **details)
        self.findings = findings

    def to_json(self) -> dict[str, object]:
        """Return the parts of the message, with all findings."""
        return super().to_json() | {"findings": [vars(finding) for finding in self.findings]}

    def __str__(self) -> str:
        shown = [f"  - {printable(finding)}" for finding in self.findings[:MAX_FINDINGS]]
        if len(self.findings) > len(shown):
            shown.append(f"  … and {len(self.findings) - len(shown)} more (all with --json)")
        return "\n".join([super().__str__(), *shown])


class ValueCheckError(FacenetError):
    """A tensor holds NaN or infinity, or a value that the target can't represent."""


class WeightsError(FacenetError):
    """A weight file is damaged, foreign, or fits none of the networks.

    The file is incomplete, or of another network or version: the message lists the names and
    shapes that differ.
    """


class DownloadError(FacenetError):
    """A file could not be downloaded, or is not the one expected; nothing was kept of it.

    Try again later, or use a mirror. A proxy or a login page may answer in the server's place.
    """


class OutputError(FacenetError):
    """The output could not be written; nothing was left behind."""


class RoundTripError(FacenetError):
    """The written file, read back and mapped back, differs from the source."""


class ExportError(FacenetError):
    """The exported model's outputs differ from those of the network."""


class ParityError(FacenetError):
    """No verdict could be reached: something is missing, damaged, unsafe or does not fit.
    A candidate that ran and differs is not an error: its report has failed gates.

    The message names the file or the argument at fault. A TensorFlow graph that does not fit can
    be moved out of the checkpoint's folder: the project's own graph is then used.
    """


class ParityFailedError(FacenetError):
    """The converted model's outputs differ from those of the TensorFlow graph."""
