"""Where a build works until it is finished: a hidden folder beside the release that it will be.

It holds ``release/``, which becomes the release by one rename; ``steps/``, what is done already;
``failed/``, reports of what did not pass; and ``logs/``, what the libraries print. One build at a
time has it: the lock is the system's, and ends with the process that holds it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from converter.writers.atomic import output_error
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
                _sync(path)
            _sync(self.release)
            self.release.rename(self.out)
            _sync(self.out.parent)
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
    try:
        for name in _FOLDERS:
            (made.root / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    lock = FileLock(made.root / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ReleaseError(
            "another build is at work here",
            file=made.root,
            next_step="wait for it, or give this one another --out",
        ) from None
    try:
        for name in _FOLDERS:  # the build that had the lock may have removed them at its end
            (made.root / name).mkdir(parents=True, exist_ok=True)
        yield made
    finally:
        lock.release()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
