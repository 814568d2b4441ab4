"""Where releases are published: one module per kind of place, all with the same verbs.

An address tells the kind by how it begins: ``github:owner/repo@v1.0``, ``oci://host/name:tag``,
``hf:owner/repo`` (``@revision`` at will); anything else is a folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from facenet_common.progress import Progress
from facenet_release.documents.manifest import Manifest

Advance = Callable[[int], None]


class Channel(Protocol):
    """One address. Opening it touches no network."""

    @property
    def address(self) -> str:
        """As the user wrote it."""

    def names(self) -> Sequence[str]:
        """The names of the files that are published there, in any order.

        Names come from outside: they may be anything. Raises AbsentError where nothing is
        published, ChannelError where that can't be told.
        """

    def download(self, name: str, target: Path, limit: int, advance: Advance) -> None:
        """Write the file `name` (one of `names`) to `target`, which doesn't exist yet.

        Tells `advance` of every few bytes. Raises ChannelError if it can't be read to its end or
        has more than `limit` bytes; `target` is then of no use. Its hash is the caller's affair.
        """

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        """Make `files` the release at this address, all at once for whoever looks.

        Until everything is there, nothing is visible as published; after a break, calling it again
        goes on or starts over. If the same files are published already nothing happens.

        Raises TakenError, with nothing changed, if something else is; TokenError; ChannelError.
        """


# How an address begins, and the module that opens it: `open_channel(address) -> Channel`.
KINDS = {
    "github:": "facenet_release.channels.github",
    "oci://": "facenet_release.channels.oci",
    "hf:": "facenet_release.channels.hugging_face",
}
FOLDER = "facenet_release.channels.folder"


def is_remote(address: str) -> bool:
    """Whether this is the address of something other than a folder."""
    return address.startswith(tuple(KINDS))


def open_channel(address: str) -> Channel:
    """The channel of that address. Raises UsageError if it is malformed.

    ImportError-like trouble, an extra that is not installed, is a UsageError too.
    """
    module = next((m for start, m in KINDS.items() if address.startswith(start)), FOLDER)
    return cast(Channel, importlib.import_module(module).open_channel(address))
