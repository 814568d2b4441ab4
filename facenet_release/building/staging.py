"""Where a build works until it is finished: a hidden folder beside the release that it will be.

It holds ``release/``, which becomes the release by one rename; ``steps/``, what is done already;
``failed/``, reports of what did not pass; and ``logs/``, what the libraries print. One build at a
time has it: the lock is the system's, and ends with the process that holds it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from facenet_common.atomic import output_error, sync_file, sync_folder
from facenet_common.errors import UsageError
from facenet_release.errors import ReleaseError

_FOLDERS = ("release", "steps", "failed", "logs")


@dataclass(frozen=True)
class Staging:
    """The hidden folder of a build whose result will be `out`."""

    out: Path

    @property
    def root(self) -> Path:
        return self.out.with_name(f".{self.out.name}.building")

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def steps(self) -> Path:
        return self.root / "steps"

    @property
    def failed(self) -> Path:
        return self.root / "failed"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def become(self) -> None:
        """Give the release its name. Nothing, or an empty folder, may have it. OutputError."""
        try:
            for path in self.release.iterdir():
                sync_file(path)
            sync_folder(self.release)
            self.release.rename(self.out)
            sync_folder(self.out.parent)
        except OSError as error:
            raise output_error(self.out, error) from error

    def remove(self) -> None:
        """Delete everything but the lock's own file, which goes last."""
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def staging(out: Path) -> Iterator[Staging]:
    """The staging folder of `out`, alone with it. ReleaseError if another build is."""
    from filelock import FileLock, Timeout

    made = Staging(out.absolute())
    lock = FileLock(made.root / "lock")
    try:
        made.root.mkdir(exist_ok=True)
        _require_ours(made.root)
        lock.acquire(timeout=0)
    except Timeout:  # an OSError too
        raise ReleaseError(
            "another build is at work here",
            file=made.root,
            next_step="wait for it, or give this one another --out",
        ) from None
    except OSError as error:
        raise output_error(out, error) from error
    try:
        _make_folders(made)
        yield made
    finally:
        lock.release()


def _make_folders(place: Staging) -> None:
    try:
        for name in _FOLDERS:
            (place.root / name).mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(place.out, error) from error


def _require_ours(folder: Path) -> None:
    """UsageError where somebody else could have prepared what a build takes for its own."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UsageError(
            "the folder to work in is somebody else's, or a link",
            file=folder,
            next_step="delete it, or give --out another place",
        )
