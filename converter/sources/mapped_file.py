"""A file on disk as memory: mapped, read-only, every access checked against its real size."""

from __future__ import annotations

import mmap
from pathlib import Path

from converter.sources.magic_bytes import describe
from facenet_common.errors import FormatError, UsageError

_RELEASE = 1 << 23  # bytes


class MappedFile:
    """`path` mapped read-only. `view` checks bounds, so sizes that lie end in a FormatError.

    Raises UsageError where the file can't be opened, FormatError where it is empty and that is
    not `may_be_empty`.
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
            raise UsageError(
                "can't read the file", file=path, found=error.strerror or error
            ) from error
        if not self.size and not may_be_empty:
            raise FormatError(
                "the file is empty",
                file=path,
                next_step="fetch the file again; a broken download or a full disk leaves this",
            )
        self._bytes = memoryview(b"" if self._map is None else self._map)
        self._touched = 0

    def view(self, offset: int = 0, size: int | None = None, what: str = "data") -> memoryview:
        """`size` bytes (all that is left, if None) from `offset`, without a copy."""
        wanted = self.size - offset if size is None else size
        if offset < 0 or wanted < 0 or offset + wanted > self.size:
            raise FormatError(
                f"the file ends before its {what} does",
                file=self.path,
                expected=f"bytes {offset} to {offset + wanted}",
                found=f"a file of {self.size} bytes",
                next_step="the file is truncated or damaged: fetch it again",
            )
        return self._bytes[offset : offset + wanted]

    def reader(self, position: int = 0) -> mmap.mmap:
        """The map itself, to read on from `position` as a file is."""
        assert self._map is not None, "only a data file of a checkpoint may be empty"
        self._map.seek(position)
        return self._map

    def release(self, touched: int) -> None:
        """Hear that `touched` more bytes were looked at; give the pages back now and then, so that
        resident memory stays small.
        """
        self._touched += touched
        if self._map is None or self._touched < _RELEASE or not hasattr(self._map, "madvise"):
            return  # Windows has no madvise
        self._touched = 0
        self._map.madvise(mmap.MADV_DONTNEED)

    def foreign(self, expected: str) -> FormatError:
        """The error for a file that isn't `expected`, saying what it looks like instead."""
        found, next_step = describe(bytes(self._bytes[:1024]))
        return FormatError(
            f"this is not {expected}", file=self.path, found=found, next_step=next_step
        )
