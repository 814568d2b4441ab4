"""The working folder of a build, and its finished steps: an interrupted build continues from them.

The folder is hidden and lies beside the release. It holds ``release/``, which is renamed to the
release at the end; ``steps/``, a record of each finished step; ``failed/``, the reports of failed
gates; and ``logs/``, the output of the libraries. A lock of the operating system reserves it for
one build; the lock ends with the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from facenet_common.atomic import output_error, remove, sync_file, sync_folder, write_file
from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_common.installed import versions_of
from facenet_common.optional import require
from facenet_release.errors import ReleaseError

# What the result of a step depends on, besides its own inputs.
PACKAGES = ("converter", "facenet_common", "facenet_models", "facenet_release", "parity_tests")
LIBRARIES = ("numpy", "torch", "tensorflow", "onnx", "onnxruntime")
_FOLDERS = ("release", "steps", "failed", "logs")


@dataclass(frozen=True)
class Staging:
    """The paths of the working folder of a build.

    Args:
        target: The folder that the release will have.
    """

    target: Path

    @property
    def root(self) -> Path:
        """The working folder."""
        return self.target.with_name(f".{self.target.name}.building")

    @property
    def release(self) -> Path:
        """The files of the release."""
        return self.root / "release"

    @property
    def steps(self) -> Path:
        """The records of finished steps."""
        return self.root / "steps"

    @property
    def failed(self) -> Path:
        """The reports of models that failed a gate."""
        return self.root / "failed"

    @property
    def logs(self) -> Path:
        """The output of the build's processes."""
        return self.root / "logs"

    def finish(self) -> None:
        """Flush the release to the disk, rename it to the target, and remove the rest.

        The target must not exist, or be an empty folder.

        Raises:
            OutputError: The release can't be renamed.
        """
        try:
            for path in self.release.iterdir():
                sync_file(path)
            sync_folder(self.release)
            self.release.rename(self.target)
            sync_folder(self.target.parent)
        except OSError as error:
            raise output_error(self.target, error) from error
        self.remove()

    def remove(self) -> None:
        """Remove the working folder; the lock's file goes last."""
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def staging(target: Path) -> Iterator[Staging]:
    """Make and lock the working folder of a build.

    Args:
        target: The folder that the release will have.

    Raises:
        ReleaseError: Another build has locked the folder.
        UsageError: The folder belongs to another user or is a link.
        OutputError: The folder can't be made.

    Examples:
        >>> with staging(Path("dist")) as work:  # doctest: +SKIP
        ...     (work.release / "x").write_bytes(b"x")
        ...     work.finish()
    """
    filelock = require("filelock", "a build")
    work = Staging(target.absolute())
    lock = filelock.FileLock(work.root / "lock")
    try:
        work.root.mkdir(exist_ok=True)
        _require_own_folder(work.root)
        lock.acquire(timeout=0)
        for name in _FOLDERS:
            (work.root / name).mkdir(exist_ok=True)
    except filelock.Timeout:  # an OSError too
        raise ReleaseError(
            "another build is running in this folder",
            file=work.root,
            next_step="wait for it, or give this build another --out",
        ) from None
    except OSError as error:
        lock.release()
        raise output_error(target, error) from error
    try:
        yield work
    finally:
        lock.release()


def _require_own_folder(folder: Path) -> None:
    """Raise UsageError if another user may have prepared the folder; a build trusts its files."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UsageError(
            "the working folder belongs to another user or is a link",
            file=folder,
            next_step="delete it, or give --out another place",
        )


@dataclass(frozen=True)
class Step:
    """A step of a build, which is skipped if it is finished already.

    A step writes files into one folder, then its record into another. It is finished if the record
    has the step's key and every file has the hash in the record.

    Args:
        name: The name of the step, and of its record.
        inputs: What the step depends on, as JSON.
        outputs: The names of the files that it makes.
        folder: The folder of these files.
        records: The folder of the records.

    Examples:
        >>> step = Step("write x.pt", {"part": "all"}, ["x.pt"], folder, records)  # doctest: +SKIP
        >>> step.run(lambda: {"bytes": (folder / "x.pt").write_bytes(data)})  # doctest: +SKIP
        {'bytes': 29537}
    """

    name: str
    inputs: Mapping[str, object]
    outputs: Sequence[str]
    folder: Path
    records: Path

    @property
    def key(self) -> str:
        """A hash of all that the step depends on, the program and its libraries included."""
        data = {"step": self.name, "inputs": self.inputs, "program": program()}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def finished_result(self) -> dict[str, Any] | None:
        """Return the result of the step if it is finished, else None."""
        try:
            record = json.loads(self._record.read_bytes())
            hashes = record["outputs"]
            if record["key"] != self.key or list(hashes) != list(self.outputs):
                return None
            for name, sha256 in hashes.items():
                path = self.folder / name
                if path.is_symlink() or sha256_file(path) != sha256:
                    return None
            return dict(record["result"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def run(self, work: Callable[[], Mapping[str, object]]) -> dict[str, Any]:
        """Return the result of the step; call `work`, which makes the outputs, unless finished.

        Raises:
            OutputError: The record can't be written, or an older output can't be removed.
        """
        finished = self.finished_result()
        if finished is not None:
            return finished
        for name in self.outputs:
            remove(self.folder / name)
        result = dict(work())
        record = {
            "key": self.key,
            "outputs": {name: sha256_file(self.folder / name) for name in self.outputs},
            "result": result,
        }
        write_file(self._record, json.dumps(record, indent=1).encode())
        return dict(json.loads(json.dumps(result)))  # with JSON's types, as in later runs

    @property
    def _record(self) -> Path:
        return self.records / f"{self.name}.json"


@cache
def program() -> dict[str, str]:
    """Return a hash of the text of this project's packages, and the versions of the libraries."""
    text = hashlib.sha256()
    root = Path(__file__).parents[2]
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                text.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return {"text": text.hexdigest(), **versions_of(LIBRARIES)}
