"""One file from the network into a cache: whole, checked, and under its name only then.

The bytes go to a hidden file in the same folder, which survives a break and is continued where
the server can prove that it still has the same file (``If-Range``). They take their name after
their hash was checked, or, where nobody published one, after the caller's own check; that hash is
then kept beside the file (``NAME.sha256``, as sha256sum writes it) and holds from then on: trust
on first use. Processes that want the same file wait for the one that came first.

Nothing here needs torch. pooch and rich are imported when there is something to download.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from facenet_common.atomic import write_file
from facenet_common.errors import DownloadError, FacenetError, OutputError, WeightsError
from facenet_models.weights.http import AbsentError, Bar, Part, Source, download, failed, shown

__all__ = [
    "AbsentError",
    "Source",
    "cache_folder",
    "fetch",
    "mirrored",
    "note_of",
    "ready",
    "recorded",
    "require_hash",
    "sha256_of",
    "verify",
]

if TYPE_CHECKING:
    from rich.console import Console

OFFLINE = "FACENET_OFFLINE"
MIRROR = "FACENET_MIRROR"

_OFF = ("", "0", "false", "no", "off")

Check = Callable[[Path], object]


def cache_folder() -> Path:
    """Where facenet-pytorch caches weights too: ``checkpoints`` in torch's home.

    That is ``$TORCH_HOME``, else ``$XDG_CACHE_HOME/torch``, else ``~/.cache/torch``.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "checkpoints"


def mirrored(url: str) -> str:
    """`url` at the mirror that ``FACENET_MIRROR`` names: its prefix, then the path of `url`."""
    mirror = os.environ.get(MIRROR, "")
    return mirror.rstrip("/") + urlsplit(url).path if mirror else url


def fetch(
    source: str | Source,
    target: Path,
    *,
    sha256: str | None = None,
    keep_hash: bool = False,
    check: Check | None = None,
    progress: bool = True,
) -> Path:
    """`target`, checked, after downloading it from `source` if it is not there yet.

    Args:
        source: An address, ``http`` or ``https``, or more about it.
        target: The file's name in the cache; missing folders are made.
        sha256: Its hash in lower-case hex, or None where none is known.
        keep_hash: Keep `sha256` beside a file that is downloaded, for later calls without it.
        check: Called with a path when no hash is known, neither published nor kept from an
            earlier time; raises a FacenetError for a file that is not the one wanted.
        progress: Show a progress bar on standard error.

    Raises:
        DownloadError: ``FACENET_OFFLINE`` is set, the server can't be reached or sends something
            else, or the hash is wrong. `AbsentError` where the server has no such file.
        WeightsError: The file is in the cache already, and its hash is wrong.
        OutputError: The cache can't be written.
    """
    if target.is_file():
        return verify(target, sha256=sha256, check=check)
    source = Source(source) if isinstance(source, str) else source
    ready(target, source.url)
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, progress):
            if not target.is_file():  # else another process was faster
                _fill(source, target, sha256, keep_hash, check, progress)
                return target
    return verify(target, sha256=sha256, check=check)


def ready(target: Path, url: str, looked: str | None = None) -> None:
    """Raise DownloadError unless `target` may be downloaded from `url`, and can be.

    `looked` says where the file was looked for before.
    """
    if os.environ.get(OFFLINE, "").lower() not in _OFF:
        raise DownloadError(
            f"the weight file is not here, and {OFFLINE} forbids to download it",
            file=target,
            found=looked,
            next_step=f"put it there yourself, from {shown(url)}, or unset {OFFLINE}",
        )
    for package in ("pooch", "filelock"):
        if find_spec(package) is None:
            raise DownloadError(
                f"downloading needs {package}, which is not installed",
                file=target,
                found=looked,
                next_step=f"pip install {package}, or put the file there, from {shown(url)}",
            )


def verify(
    file: Path,
    *,
    sha256: str | None = None,
    check: Check | None = None,
    advice: str = "delete it, so that it is downloaded again",
) -> Path:
    """`file`, if its hash is `sha256`, or else the one kept beside it.

    Where there is neither, `check` decides, and the hash is kept, unless the folder is read-only.
    `advice` is what to do where the hash is wrong.

    Raises:
        WeightsError: The hash is another one.
    """
    expected = sha256 or recorded(file)
    digest = sha256_of(file)
    if expected is None:
        if check is not None:
            check(file)
        with contextlib.suppress(OutputError):  # a folder that can only be read
            _record(file, digest)
    elif digest != expected:
        raise WeightsError(
            "the weight file is not the one it should be: its SHA-256 is wrong",
            file=file,
            expected=expected,
            found=digest,
            next_step=advice,
        )
    return file


def recorded(file: Path, sums: str | None = None) -> str | None:
    """The hash of `file` in `sums`, a file of sha256sum beside it; by default ``NAME.sha256``."""
    source = file.with_name(sums) if sums else note_of(file)
    try:
        lines = source.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        digest, _, name = line.strip().partition(" ")
        if name.lstrip(" *") == file.name:
            return digest.lower()
    return None


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in lower-case hex."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    with file.open("rb", buffering=0) as opened:
        while count := opened.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def note_of(file: Path) -> Path:
    """Where the hash of `file` is kept."""
    return file.with_name(f"{file.name}.sha256")


def _record(file: Path, digest: str) -> None:
    write_file(note_of(file), f"{digest}  {file.name}\n".encode())


def require_hash(url: str, expected: str, found: str) -> None:
    """Raise DownloadError unless the hash of what came from `url` is the expected one."""
    if found != expected:
        raise failed(
            "the download is not the file it should be: its SHA-256 is wrong",
            url,
            expected=expected,
            found=found,
        )


def _accept(url: str, part: Path, sha256: str | None, check: Check | None) -> str:
    """The hash of the finished download. Raises DownloadError unless it is what was wanted."""
    with part.open("rb") as opened:
        head = opened.read(64).lstrip()
    if not head or head.startswith(b"<"):
        found = "a web page" if head else "an empty file"
        raise failed("the server sent no weight file", url, found=found)
    digest = sha256_of(part)
    if sha256 is not None:
        require_hash(url, sha256, digest)
    if sha256 is None and check is not None:
        try:
            check(part)
        except FacenetError as error:
            found = ": ".join(filter(None, (error.problem, error.found)))
            raise failed("the download is not the weight file", url, found=found) from error
    return digest


def _fill(
    source: Source,
    target: Path,
    sha256: str | None,
    keep_hash: bool,
    check: Check | None,
    progress: bool,
) -> None:
    expected = sha256 or recorded(target)  # what was trusted once holds for a new copy too
    part = Part(target)
    for last in (False, True):
        with _bar(target.name, progress) as bar:
            continued = download(source, part, bar)
        try:
            digest = _accept(source.url, part.path, expected, check)
            break
        except DownloadError as error:
            part.discard()
            if last or not continued:  # else the halves may be those of two different files
                if expected != sha256:
                    error.next_step = f"if you trust the server, delete {note_of(target)}"
                raise
    if expected is None or keep_hash:  # first, so that the file is never there without
        _record(target, digest)
    part.keep()


@contextlib.contextmanager
def _locked(target: Path, progress: bool) -> Iterator[None]:
    """Alone with `target`. The lock is the system's: it ends with its process."""
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            _console().print(f"Waiting for another process, which downloads {target.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Say of the system's errors that it is the cache that can't be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            "the weight file can't be kept",
            file=error.filename or target,
            found=error.strerror or str(error),
            next_step="check the folder and the space on the disk; TORCH_HOME names another one",
        ) from error


@contextlib.contextmanager
def _bar(name: str, progress: bool) -> Iterator[Bar]:
    """What shows how far the download of `name` is."""
    if not progress:
        yield lambda _here, _all: None
        return
    from rich import progress as rich_progress

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=_console()) as bars:
        task = bars.add_task(name, total=None)
        yield lambda here, total: bars.update(task, completed=here, total=total)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)
