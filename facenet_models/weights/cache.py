"""The cache of downloaded weights: a file is whole and checked before it has its name.

The bytes go to a hidden file in the same folder (`facenet_models.weights.download.Part`), which
survives a break. They get their name after their hash was checked or, where nobody published one,
after the caller's own check; that hash is then kept beside the file (``NAME.sha256``, as sha256sum
writes it) and holds from then on: trust on first use. Processes that want the same file wait for
the first one.

Nothing here needs torch. requests, filelock and rich are imported when there is something to
download.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from facenet_common.atomic import hidden, write_file
from facenet_common.errors import DownloadError, FacenetError, OutputError, WeightsError
from facenet_common.hashing import sha256_file
from facenet_common.optional import install, missing
from facenet_models.weights.download import OnProgress, Part, download
from facenet_models.weights.http import Source, failed, shown

if TYPE_CHECKING:
    from rich.console import Console

OFFLINE = "FACENET_OFFLINE"
MIRROR = "FACENET_MIRROR"

_OFF = ("", "0", "false", "no", "off")

Check = Callable[[Path], object]


def cache_folder() -> Path:
    """Return the folder in which facenet-pytorch caches weights too: ``checkpoints`` of torch.

    It is in ``$TORCH_HOME``, else ``$XDG_CACHE_HOME/torch``, else ``~/.cache/torch``.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "checkpoints"


def mirrored(url: str) -> str:
    """Return `url` at the mirror that ``FACENET_MIRROR`` names: its prefix, then the same path."""
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
    """Return `target`, checked; download it from `source` if it is not there yet.

    Args:
        source: An address, ``http`` or ``https``, or more about it.
        target: The file's name in the cache; missing folders are made.
        sha256: Its hash in lower-case hex, or None where none is known.
        keep_hash: Keep `sha256` beside a file that is downloaded, for later calls without it.
        check: Called with a path when no hash is known, neither published nor kept from an
            earlier time; raises a FacenetError for a file that is not the expected one.
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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, progress):
            if not target.is_file():  # else another process was faster
                _fill(source, target, sha256, keep_hash, check, progress)
                return target
    except OSError as error:
        raise OutputError(
            "the weight file can't be kept",
            file=error.filename or target,
            found=error.strerror or str(error),
            next_step="check the folder and the space on the disk; TORCH_HOME names another one",
        ) from error
    return verify(target, sha256=sha256, check=check)


def ready(target: Path, url: str, looked: str | None = None) -> None:
    """Raise DownloadError unless `target` may be downloaded from `url`, and can be.

    `looked` lists the places in which the file was not found.
    """
    if os.environ.get(OFFLINE, "").lower() not in _OFF:
        raise DownloadError(
            f"the weight file is not here, and {OFFLINE} forbids downloading it",
            file=target,
            found=looked,
            next_step=f"put it there yourself, from {shown(url)}, or unset {OFFLINE}",
        )
    for package in missing(("requests", "filelock")):
        raise DownloadError(
            f"downloading needs {package}, which is not installed",
            file=target,
            found=looked,
            next_step=f"{install(package)}, or put the file there, from {shown(url)}",
        )


def verify(
    file: Path,
    *,
    sha256: str | None = None,
    check: Check | None = None,
    advice: str = "delete it, so that it is downloaded again",
) -> Path:
    """Return `file`, if its hash is `sha256`, or else the one kept beside it.

    Where there is neither, `check` decides, and the hash is kept, unless the folder is read-only.
    `advice` is the next step where the hash is wrong.

    Raises:
        WeightsError: The hash is another one.
    """
    expected = sha256 or recorded(file)
    digest = sha256_file(file)
    if expected is None:
        if check is not None:
            check(file)
        with suppress(OutputError):  # a folder that can only be read
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
    """Return the hash of `file` in `sums`, a file of sha256sum beside it (``NAME.sha256``)."""
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


def note_of(file: Path) -> Path:
    """Return the file in which the hash of `file` is kept."""
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


def _fill(
    source: Source,
    target: Path,
    sha256: str | None,
    keep_hash: bool,
    check: Check | None,
    progress: bool,
) -> None:
    """Download `target`, check it, and give it its name."""
    expected = sha256 or recorded(target)  # what was trusted once holds for a new copy too
    part = Part(target)
    for last in (False, True):
        with _bar(target.name, progress) as on_progress:
            continued = download(source, part, on_progress)
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


def _accept(url: str, part: Path, sha256: str | None, check: Check | None) -> str:
    """Return the hash of the finished download. Raises DownloadError if it is the wrong file."""
    with part.open("rb") as opened:
        head = opened.read(64).lstrip()
    if not head or head.startswith(b"<"):
        found = "a web page" if head else "an empty file"
        raise failed("the server did not send a weight file", url, found=found)
    digest = sha256_file(part)
    if sha256 is not None:
        require_hash(url, sha256, digest)
    elif check is not None:
        try:
            check(part)
        except FacenetError as error:
            found = ": ".join(filter(None, (error.problem, error.found)))
            raise failed("the download is not the weight file", url, found=found) from error
    return digest


@contextmanager
def _locked(target: Path, progress: bool) -> Iterator[None]:
    """Hold the lock of `target`. It is the system's: it ends with its process."""
    from filelock import FileLock, Timeout

    lock = FileLock(hidden(target, ".lock"))
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


@contextmanager
def _bar(name: str, progress: bool) -> Iterator[OnProgress]:
    """Show a progress bar of the download of `name`."""
    if not progress:
        yield lambda _here, _total: None
        return
    from rich import progress as rich

    columns = (rich.BarColumn(), rich.DownloadColumn(), rich.TransferSpeedColumn())
    left = rich.TimeRemainingColumn()
    with rich.Progress("{task.description}", *columns, left, console=_console()) as bars:
        task = bars.add_task(name, total=None)
        yield lambda here, total: bars.update(task, completed=here, total=total)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)
