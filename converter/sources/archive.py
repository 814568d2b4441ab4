"""Files in zip archives, read in place: ``ARCHIVE.zip/FOLDER/NAME`` is a path like any other.

The functions here take such paths and ordinary ones. Nothing is unpacked on the disk: names in an
archive are compared, never opened. Members are stored or deflated. A size that the archive declares
is trusted only in proportion to the bytes that are there.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from facenet_common.errors import FormatError, UsageError
from facenet_common.hashing import sha256_file

SUFFIX = ".zip"
# Weights shrink by a tenth when they are deflated, graphs to a tenth of their size.
_MAX_RATIO = 50
_SMALL = 1 << 24  # bytes that a member may take at any ratio
_CHUNK = 1 << 18  # bytes
_LITTER = ("__MACOSX", ".")  # beginnings of names that the Finder and others add
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # another compression
    RuntimeError,  # encrypted
    UnicodeDecodeError,
    ValueError,
    OverflowError,
)


def is_archive(path: Path) -> bool:
    """Return whether `path` is a file ``….zip`` that starts like an archive."""
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def is_file(path: Path) -> bool:
    """Return whether there is such a file, on the disk or in an archive."""
    return path.is_file() or find(path) is not None


def is_folder(path: Path) -> bool:
    """Return whether there is such a folder, on the disk or in an archive."""
    if path.is_dir():
        return True
    place = _split(path)
    return place is not None and place[1] in _folders(_members(place[0]))


def paths_in(folder: Path) -> list[Path]:
    """Return the paths in a folder, or at the top of an archive, sorted by name.

    Raises:
        OSError: The folder can't be read.
        FormatError: The archive is damaged.
    """
    place = None if folder.is_dir() else _split(folder)
    if place is None:
        return sorted(folder.iterdir())
    archive, inside = place
    start = f"{inside}/" if inside else ""
    below = (name.removeprefix(start) for name in _members(archive) if name.startswith(start))
    return [folder / name for name in sorted({name.partition("/")[0] for name in below})]


def find(path: Path) -> zipfile.ZipInfo | None:
    """Return the member of an archive that `path` names, or None."""
    place = _split(path)
    return None if place is None else _members(place[0]).get(place[1])


def size(path: Path) -> int:
    """Return the size in bytes of a file, on the disk or in an archive. Raises OSError."""
    member = None if path.is_file() else find(path)
    return path.stat().st_size if member is None else member.file_size


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, on the disk or in an archive, in hexadecimal.

    Raises:
        OSError, FormatError: As `read`.
    """
    if path.is_file() or find(path) is None:
        return sha256_file(path)
    digest = hashlib.sha256()
    with _opened(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read(path: Path, limit: int | None = None) -> bytes:
    """Return the content of a file, on the disk or in an archive; at most `limit` bytes.

    The CRC-32 of a member is verified when all of it is read.

    Raises:
        OSError: The file can't be read.
        FormatError: The archive is damaged, or the member claims to be far larger than it is.
    """
    if path.is_file() or (member := find(path)) is None:
        with path.open("rb") as plain:
            return plain.read(-1 if limit is None else limit)
    wanted = member.file_size if limit is None else min(limit, member.file_size)
    with _opened(path) as file:
        content = file.read(wanted)
        # zipfile verifies a member at its end: one more byte finds that end.
        if len(content) != wanted or (wanted == member.file_size and file.read(1)):
            raise zipfile.BadZipFile("a file has another size than the directory says")
    return content


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open the member of an archive that `path` names; errors name the archive."""
    place = _split(path)
    assert place is not None, "the caller has found it"
    member = _members(place[0])[place[1]]
    if member.file_size > max(_SMALL, _MAX_RATIO * member.compress_size):
        raise FormatError(
            "a file in the archive claims to be far larger than it is",
            file=path,
            expected=f"at most {_MAX_RATIO} times its compressed size",
            found=f"{member.file_size} bytes in {member.compress_size}",
            next_step="download the archive again from its publisher",
        )
    try:
        with zipfile.ZipFile(place[0]) as opened, opened.open(member) as file:
            yield file
    except _ZIP_ERRORS as error:
        raise _damaged(place[0], error) from error


def holds(path: Path, name: str) -> bool:
    """Return whether a file `name` lies in one of the folders at the top of the archive `path`."""
    return any(found.partition("/")[2] == name for found in _members(path))


def _split(path: Path) -> tuple[Path, str] | None:
    """Return the archive that `path` names or leads into, and the name inside, or None."""
    try:
        for archive in (path, *path.parents):
            if is_archive(archive):
                return archive, path.relative_to(archive).as_posix() if path != archive else ""
            if archive.exists():
                return None
    except OSError:  # it can't be read: opening it says why
        pass
    return None


def _members(archive: Path) -> Mapping[str, zipfile.ZipInfo]:
    try:
        facts = archive.stat()
    except OSError as error:
        raise UsageError("can't read the file", file=archive, found=error.strerror) from error
    return _directory(archive, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=8)
def _directory(archive: Path, changed: int, size: int) -> Mapping[str, zipfile.ZipInfo]:
    """Return the files of an archive by name. `changed` and `size` make an old answer invalid."""
    del changed, size
    members: dict[str, zipfile.ZipInfo] = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
    except _ZIP_ERRORS as error:
        raise _damaged(archive, error) from error
    for info in infos:
        name = info.filename
        if _escapes(name):
            raise _damaged(archive, f"a file {name[:80]!r} outside the archive")
        if info.is_dir() or any(part.startswith(_LITTER) for part in name.split("/")):
            continue
        if name in members or name != PurePosixPath(name).as_posix():
            raise _damaged(archive, f"the name {name[:80]!r}, twice or not in its plain form")
        members[name] = info
    return members


def _escapes(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/") or "\\" in name or ":" in name


def _folders(members: Mapping[str, zipfile.ZipInfo]) -> set[str]:
    parents = {parent.as_posix() for name in members for parent in PurePosixPath(name).parents}
    return {"" if parent == "." else parent for parent in parents}


def _damaged(archive: Path, found: object) -> FormatError:
    return FormatError(
        "the zip archive is damaged, or can't be read in place",
        file=archive,
        found=found,
        next_step="download the archive again, or unpack it and pass the folder",
    )
