"""Places where releases are published: one module per kind of place, all with the same verbs.

The beginning of an address is its kind: ``github:owner/repo@v1.0``, ``oci://host/name:tag``,
``hf:owner/repo`` (optionally ``@revision``); anything else is a folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from facenet_common.progress import Progress
from facenet_release.documents.manifest import Manifest

OnProgress = Callable[[int], object]  # called with the number of bytes since the last call


class Channel(Protocol):
    """One address. Opening it sends no request."""

    @property
    def address(self) -> str:
        """The address, as the user wrote it."""

    def names(self) -> Sequence[str]:
        """Return the names of the files that are published there, in any order.

        Names come from outside: they may be anything. Raises AbsentError where nothing is
        published, ChannelError if the place can't be read.
        """

    def download(self, name: str, target: Path, limit: int, on_progress: OnProgress) -> None:
        """Write the file `name` (one of `names`) to `target`, which doesn't exist yet.

        Raises ChannelError if it can't be read to its end or has more than `limit` bytes. The
        caller checks the hash.
        """

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        """Make `files` the release at this address.

        Others see all files at once, or none. After a break, calling it again goes on or starts
        over. If the same files are published already, nothing happens.

        Raises TakenError, with nothing changed, if something else is; TokenError; ChannelError.
        """


# The beginning of an address, and the module that opens it: `open_channel(address) -> Channel`.
KINDS = {
    "github:": "facenet_release.channels.github",
    "oci://": "facenet_release.channels.oci",
    "hf:": "facenet_release.channels.hugging_face",
}
FOLDER = "facenet_release.channels.folder"


def is_remote(address: str) -> bool:
    """Return whether this is the address of something other than a folder.

    >>> is_remote("github:owner/repo@v1.0"), is_remote("dist")
    (True, False)
    """
    return address.startswith(tuple(KINDS))


def open_channel(address: str) -> Channel:
    """Open the channel of that address.

    Raises UsageError if it is malformed, or needs a package that is not installed.

    >>> open_channel("dist").address
    'dist'
    """
    module = next((m for start, m in KINDS.items() if address.startswith(start)), FOLDER)
    return cast(Channel, importlib.import_module(module).open_channel(address))
