"""Memory-mapped files: read-only, with every access checked against the file's size.

A file in a zip archive is read into memory instead, at its first use.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from converter.sources import archive
from converter.sources.magic_bytes import describe
from facenet_common.errors import FormatError, UsageError

_RELEASE = 1 << 23  # bytes; one system call for many small tensors


class MappedFile:
    """A file that is mapped into memory, read-only.

    Args:
        path: The file, on the disk or in an archive (see `converter.sources.archive`).
        may_be_empty: Accept an empty file.

    Raises:
        UsageError: The file can't be opened.
        FormatError: The file is empty, and `may_be_empty` is False.

    Examples:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "weights")
        >>> path.write_bytes(b"0123456789")
        10
        >>> bytes(MappedFile(path).view(2, 3))
        b'234'
    """

    def __init__(self, path: Path, *, may_be_empty: bool = False) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        try:
            with path.open("rb") as file:
                self.size = file.seek(0, 2)
                if self.size:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            member = archive.find(path)
            if member is None:
                raise UsageError(
                    "can't read the file", file=path, found=error.strerror or error
                ) from error
            self.size = member.file_size
        if not self.size and not may_be_empty:
            raise FormatError(
                "the file is empty",
                file=path,
                next_step="download the file again; an interrupted download or a full disk "
                "leaves an empty file",
            )
        self._touched = 0

    @cached_property
    def _bytes(self) -> memoryview:
        if self._map is not None:
            return memoryview(self._map)
        return memoryview(archive.read(self.path) if self.size else b"")

    def view(self, offset: int = 0, size: int | None = None, what: str = "data") -> memoryview:
        """Return `size` bytes from `offset`, without a copy; None: up to the end of the file.

        `what` names the data in the message. Raises FormatError if they exceed the file: a size
        that the file declares is never trusted.
        """
        wanted = self.check(offset, size, what)
        return self._bytes[offset : offset + wanted]

    def check(self, offset: int, size: int | None, what: str = "data") -> int:
        """Return the size of what `view` would return, or raise its FormatError; read nothing."""
        wanted = self.size - offset if size is None else size
        if offset < 0 or wanted < 0 or offset + wanted > self.size:
            raise FormatError(
                f"the file ends before the end of its {what}",
                file=self.path,
                expected=f"bytes {offset} to {offset + wanted}",
                found=f"a file of {self.size} bytes",
                next_step="the file is truncated or damaged: download it again",
            )
        return wanted

    def reader(self, position: int = 0) -> mmap.mmap:
        """Return the map as a file object, positioned at byte `position`."""
        assert self._map is not None, "neither an empty file nor one in an archive is read this way"
        self._map.seek(position)
        return self._map

    def release(self, touched: int) -> None:
        """Count `touched` bytes as read. From time to time, give the pages back to the system.

        Resident memory stays small that way. Windows has no madvise: this does nothing there.
        """
        self._touched += touched
        if self._map is None or self._touched < _RELEASE or not hasattr(self._map, "madvise"):
            return
        self._touched = 0
        self._map.madvise(mmap.MADV_DONTNEED)

    def wrong_format(self, expected: str) -> FormatError:
        """Return the error for a file that is not `expected`, with the kind of file found."""
        found, next_step = describe(bytes(self._bytes[:1024]))
        return FormatError(
            f"this is not {expected}", file=self.path, found=found, next_step=next_step
        )


def release_all(files: Iterable[MappedFile], touched: int) -> None:
    """Tell every file that `touched` bytes were read, see `MappedFile.release`."""
    for file in files:
        file.release(touched)
