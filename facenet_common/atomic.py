"""Write files and folders that appear complete under their name, or not at all.

The bytes are written to a hidden file in the same folder, flushed to the disk, and renamed. The
hidden file is locked while it is written. One without a lock is left over from a killed process:
the next output of the same name removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from facenet_common.errors import OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment] # the lock is left out there

_SUFFIX = ".partial"
NAME_MAX = 255  # bytes of a file name, on all common file systems


def check_target(target: Path, *, overwrite: bool, folder: bool = False) -> None:
    """Check, before any work is done, that an output can be created.

    Args:
        target: The output.
        overwrite: It may exist already.
        folder: It is a folder, not a file. An existing empty folder is accepted.

    Raises:
        UsageError: It can't be created.

    Examples:
        >>> check_target(Path("a-file-that-does-not-exist.pt"), overwrite=False)
    """
    if target.name in ("", ".."):  # such as . or /
        raise UsageError("the output has no name", file=target)
    try:
        _check_target(target, overwrite, folder)
    except OSError as error:
        raise UsageError(
            "the output can't be created", file=target, found=error.strerror
        ) from error


def _check_target(target: Path, overwrite: bool, folder: bool) -> None:
    parent = target.absolute().parent
    if not parent.is_dir():
        raise UsageError(
            "the output's folder does not exist", file=parent, next_step=f"mkdir -p {parent}"
        )
    if target.is_dir() and not folder:
        raise UsageError(
            "the output is a folder", file=target, next_step="pass a file in it: --out FOLDER/x.pt"
        )
    empty = folder and target.is_dir() and not any(target.iterdir())
    if os.path.lexists(target) and not overwrite and not empty:
        raise UsageError(
            "the output exists already",
            file=target,
            next_step="choose another name, or pass --overwrite to replace it",
        )
    if folder and os.path.lexists(target) and not target.is_dir():
        raise UsageError("the output is a file, not a folder", file=target)


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a hidden path to write to. If no error is raised, it is renamed to `target`.

    After an error, the hidden file is removed, and an existing `target` is unchanged.

    Raises:
        OutputError: The file can't be written: the disk is full, or the folder is read-only.

    Examples:
        >>> from tempfile import mkdtemp
        >>> target = Path(mkdtemp(), "weights.pt")
        >>> with atomic_file(target) as partial:
        ...     _ = partial.write_bytes(b"weights")
        >>> target.read_bytes()
        b'weights'
    """
    _remove_leftovers(target)
    partial, lock = _create(target, _create_file)
    try:
        yield partial
        with _reporting(target):
            os.fsync(lock)
            partial.replace(target)
            sync_folder(target.absolute().parent)
    finally:
        os.close(lock)
        discard(partial)


def write_file(target: Path, data: bytes) -> None:
    """Write `data` to the file `target`, and replace an existing one.

    Raises:
        OutputError: The file can't be written.

    Examples:
        >>> from tempfile import mkdtemp
        >>> write_file(Path(mkdtemp(), "names.txt"), b"a, b")
    """
    with atomic_file(target) as partial, _reporting(target):
        partial.write_bytes(data)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a hidden folder to write to. If no error is raised, it is renamed to `target`.

    An existing folder is first moved to another hidden name, and removed at the end.

    Raises:
        UsageError: The existing folder has files that the new one does not have.
        OutputError: The folder can't be written.

    Examples:
        >>> from tempfile import mkdtemp
        >>> target = Path(mkdtemp(), "model")
        >>> with atomic_folder(target) as partial:
        ...     _ = (partial / "model.ckpt.index").write_bytes(b"index")
        >>> [file.name for file in target.iterdir()]
        ['model.ckpt.index']
    """
    _remove_leftovers(target)
    partial, lock = _create(target, _create_folder)
    aside = partial.with_name(partial.name.removesuffix(_SUFFIX) + ".old" + _SUFFIX)
    try:
        yield partial
        with _reporting(target):
            for file in partial.iterdir():
                sync_file(file)
            os.fsync(lock)
            if target.exists():
                _check_replaceable(target, partial)
                target.rename(aside)
            try:
                partial.rename(target)
            except OSError:
                if aside.exists():
                    aside.rename(target)
                raise
            sync_folder(target.absolute().parent)
    finally:
        os.close(lock)
        shutil.rmtree(partial, ignore_errors=True)
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _check_replaceable(target: Path, fresh: Path) -> None:
    foreign = {path.name for path in target.iterdir()} - {path.name for path in fresh.iterdir()}
    if foreign:
        raise UsageError(
            "the output folder has other files, which --overwrite would remove",
            file=target,
            found=", ".join(sorted(foreign)[:5]),
            next_step="choose an empty or a new folder",
        )


def _create_file(path: Path) -> int | None:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _create_folder(path: Path) -> int | None:
    path.mkdir()
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # another process has removed it
        return None


def _create(target: Path, make: Callable[[Path], int | None]) -> tuple[Path, int]:
    """Create, open and lock a hidden path in the folder of `target`. Raises OutputError.

    Until it is locked, another process may remove it as a leftover: then it is created again.
    """
    with _reporting(target):
        while True:
            partial = _partial_name(target)
            handle = make(partial)
            if handle is None:
                continue
            if fcntl is not None:
                with contextlib.suppress(
                    OSError
                ):  # without locks, leftovers are not removed either
                    fcntl.flock(handle, fcntl.LOCK_EX)
            if partial.exists():
                return partial, handle
            os.close(handle)


def _partial_name(target: Path) -> Path:
    return hidden(target, f".{secrets.token_hex(4)}{_SUFFIX}")


def hidden(target: Path, ending: str) -> Path:
    """Return the path of a hidden file beside `target`: a dot, the target's name, and `ending`.

    A name that would become too long for the file system is cut, and its hash is added.

    Examples:
        >>> hidden(Path("/tmp/a.pt"), ".lock")
        PosixPath('/tmp/.a.pt.lock')
    """
    absolute = target.absolute()
    name, room = os.fsencode(absolute.name), NAME_MAX - len(os.fsencode(ending)) - 1 - len(".old")
    if len(name) > room:
        digest = hashlib.sha256(name).hexdigest()[:16]
        name = os.fsencode(name[: room - 17].decode(errors="ignore") + "~" + digest)
    return absolute.with_name(f".{os.fsdecode(name)}{ending}")


def discard(path: Path) -> None:
    """Remove a temporary file if that is possible; never raise, so that no other error is hidden.

    Examples:
        >>> discard(Path("/tmp/a-file-that-does-not-exist"))
    """
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _remove_leftovers(target: Path) -> None:
    """Remove hidden files of `target` that killed processes have left.

    A folder that was moved aside is renamed back if it was not replaced.
    """
    if fcntl is None:
        return
    for aside in _leftovers(target, f".old{_SUFFIX}"):
        with contextlib.suppress(OSError):  # another process was faster
            if os.path.lexists(target):
                shutil.rmtree(aside)
            else:
                aside.rename(target)
    for stale in _leftovers(target, _SUFFIX):
        with contextlib.suppress(OSError):  # it is locked and in use, or was removed meanwhile
            handle = os.open(stale, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stale.is_dir():
                    shutil.rmtree(stale)
                else:
                    stale.unlink()
            finally:
                os.close(handle)


def _leftovers(target: Path, suffix: str) -> list[Path]:
    """Return the hidden files or folders of `target` with this suffix; none if it can't be read."""
    try:
        pattern = _escape(hidden(target, f".{'?' * 8}{_SUFFIX}").name.removesuffix(_SUFFIX)[:-8])
        return list(target.absolute().parent.glob(f"{pattern}{'?' * 8}{suffix}"))
    except OSError:
        return []


def _escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that it holds; do nothing if it is absent.

    Raises:
        OutputError: It can't be removed.

    Examples:
        >>> remove(Path("/tmp/a-folder-that-does-not-exist"))
    """
    with _reporting(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Flush the file to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Flush the names of the files in a folder to the disk, where systems can. Raises OSError."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _reporting(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise output_error(target, error) from error


def output_error(target: Path, error: OSError) -> OutputError:
    """Return the OutputError for a `target` that could not be written, with the reason."""
    reasons = {
        errno.ENOSPC: "free some space, or write to another disk",
        errno.EDQUOT: "your quota is used up: free some space, or write to another disk",
        errno.EACCES: "write to a folder of yours",
        errno.EROFS: "the file system is read-only: write to another folder",
        errno.EFBIG: "the file size is limited here (ulimit -f): lift the limit",
    }
    return OutputError(
        "the output could not be written; nothing was left behind",
        file=target,
        found=error.strerror or str(error),
        next_step=reasons.get(error.errno or 0, "check the folder, and try again"),
    )
