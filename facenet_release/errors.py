"""The errors of releases; each prints as one message.

The tree::

    FacenetError               1  of facenet_common.errors
    └── ReleaseError           1  a release can't be built, read or published
        ├── RecipeError        2  the recipe is wrong; has every finding
        ├── CheckFailedError   1  a release failed its check; has every finding
        └── ChannelError       1  a server refuses, breaks off, or can't be reached
            ├── AbsentError    1  nothing is published at the address
            ├── TakenError     1  another release is published at the address
            └── TokenError     2  the token is missing, expired or not permitted to do this
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facenet_common.errors import MAX_FINDINGS, FacenetError
from facenet_common.text import printable

MAX_LENGTH = 2000  # characters of a finding; the hashes of a source's files must fit


class ReleaseError(FacenetError):
    """A release can't be built, read or published.

    The message has the reason that the system or a library gives.
    """


class _FindingsError(ReleaseError):
    """An error with a list of findings, as strings."""

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
        listed = self.findings[:MAX_FINDINGS]
        rows = [f"  - {printable(finding, MAX_LENGTH)}" for finding in listed]
        if len(self.findings) > len(rows):
            rows.append(f"  … and {len(self.findings) - len(rows)} more (all with --json)")
        return "\n".join([super().__str__(), *rows])


class RecipeError(_FindingsError):
    """The recipe can't be built as written. Each finding names the path of a key.

    Correct the recipe: every key that is wrong is listed.
    """

    exit_code = 2


class CheckFailedError(_FindingsError):
    """A release failed its check. `findings` lists everything that is wrong.

    Every file that was altered, lost or added is listed. Download the release again; if it fails
    again, tell its publisher.
    """


class ChannelError(ReleaseError):
    """A server refuses, breaks off, or can't be reached.

    Run the same command again: it continues. If that fails too, publish elsewhere.
    """


class AbsentError(ChannelError):
    """Nothing is published at the address.

    Check the address. A private place needs a token.
    """


class TakenError(ChannelError):
    """Another release is published at the address; nothing was overwritten.

    Publish under another name: nothing is ever overwritten.
    """


class TokenError(ChannelError):
    """The token is missing, expired or not permitted to do this.

    Make a token with permission to write there, and set the variables that docs/release.md lists.
    """

    exit_code = 2
