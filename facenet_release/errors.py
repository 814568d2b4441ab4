"""What goes wrong with releases; all of it prints as one message.

The tree::

    FacenetError               1  of facenet_common.errors
    └── ReleaseError           1  a release can't be built, read or published
        ├── RecipeError        2  the recipe is wrong; carries every finding
        ├── CheckFailedError   1  a release is not what it says; carries every finding
        └── ChannelError       1  a place to publish refuses, breaks off, or can't be reached
            ├── AbsentError    1  nothing is published there
            ├── TakenError     1  something else is published there already
            └── TokenError     2  the token is missing, expired, or not allowed to do this
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facenet_common.errors import FacenetError
from facenet_common.text import printable

SHOWN = 40  # findings that a message repeats; the rest are counted
LONG = 2000  # characters of one: the hashes of a source's files must fit, to be pasted


class ReleaseError(FacenetError):
    """A release can't be built, read or published.

    The message has the reason that the system or a library gives.
    """


class _FoundError(ReleaseError):
    """An error that lists every single finding."""

    def __init__(
        self,
        problem: str,
        findings: Sequence[object] = (),
        *,
        file: str | Path | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(problem, file=file, next_step=next_step)
        self.findings = tuple(map(str, findings))

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"findings": list(self.findings)}

    def __str__(self) -> str:
        shown = [f"  - {printable(finding, LONG)}" for finding in self.findings[:SHOWN]]
        if len(self.findings) > len(shown):
            shown.append(f"  … and {len(self.findings) - len(shown)} more (all with --json)")
        return "\n".join([super().__str__(), *shown])


class RecipeError(_FoundError):
    """The recipe can't be carried out as written. `findings` name the lines.

    Correct the recipe: every line that is wrong is listed.
    """

    exit_code = 2


class CheckFailedError(_FoundError):
    """A release is not what it says it is. `findings` holds everything that is wrong.

    Every file that was altered, lost or added is listed. Get the release again; if it comes the
    same, tell its publisher.
    """


class ChannelError(ReleaseError):
    """A place where releases are published refuses, breaks off, or can't be reached.

    Run the same command again: it goes on where it was. If that fails too, publish elsewhere.
    """


class AbsentError(ChannelError):
    """Nothing is published under this address.

    Check the address. A private place needs a token.
    """


class TakenError(ChannelError):
    """Something else is published under this address already; nothing was overwritten.

    Publish under another name: nothing is ever overwritten.
    """


class TokenError(ChannelError):
    """The token is missing, expired, or not allowed to do this.

    Make a token that may write there, and set the variables that docs/release.md lists.
    """

    exit_code = 2
