"""A folder: on this machine, on a share, or one that a web server serves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from facenet_common.atomic import atomic_folder, output_error
from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_release.channels import OnProgress
from facenet_release.channels.common import differences, examine, summarise
from facenet_release.documents.manifest import Manifest
from facenet_release.errors import AbsentError, ChannelError, TakenError


def open_channel(address: str) -> FolderChannel:
    """Open a folder by its path. Raises UsageError if it is empty or looks like another address."""
    head = address.partition(":")[0]
    if not address or (":" in address and not Path(address).expanduser().parent.is_dir()):
        raise UsageError(
            "this is no address that a release can have",
            expected="github:owner/repo@tag, oci://host/name:tag, hf:owner/repo, or a folder",
            found=address or "nothing",
            next_step=f"if it is a folder whose name begins with {head}:, write ./{address}"
            if address
            else None,
        )
    return FolderChannel(address)


class FolderChannel:
    """A `Channel`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._folder = Path(address).expanduser()

    def names(self) -> Sequence[str]:
        try:
            return sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            raise AbsentError("there is no such folder", file=self._folder) from None
        except OSError as error:
            raise self._unreadable(error) from error

    def download(self, name: str, target: Path, limit: int, on_progress: OnProgress) -> None:
        if name not in self.names():  # so that no name leads out of the folder
            raise AbsentError("there is no such file", file=self._folder / name)
        try:
            source = (self._folder / name).open("rb")
        except OSError as error:
            raise self._unreadable(error) from error
        with source:
            size = os.fstat(source.fileno()).st_size
            if size > limit:
                raise ChannelError(
                    "the file is larger than it may be",
                    file=self._folder / name,
                    expected=f"at most {limit} bytes",
                    found=f"{size} bytes",
                )
            try:
                with target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
            except OSError as error:
                raise output_error(target, error) from error
        on_progress(size)

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        folder = self._folder.absolute()
        if os.path.lexists(folder) and not folder.is_dir():
            raise UsageError("the place to publish to is a file", file=folder)
        if not folder.parent.is_dir():
            raise UsageError("the folder to publish in does not exist", file=folder.parent)
        if any(file.parent.resolve() in folder.resolve().parents for file in files):
            raise UsageError("a release can't be published inside itself", file=folder)
        local = examine(files, manifest, progress)
        if folder.is_dir() and (names := self.names()):
            try:
                there = {name: sha256_file(folder / name) for name in names}
            except OSError as error:
                raise self._unreadable(error) from error
            if findings := differences(local, there):
                raise TakenError(
                    "something else is published here already; nothing was changed",
                    file=self._folder,
                    found=summarise(findings),
                    next_step="publish under another name; a release is never overwritten",
                )
            return
        progress.stage("copying", sum(file.size for file in local.values()))
        with atomic_folder(folder) as partial:
            for file in local.values():
                try:
                    shutil.copyfile(file.path, partial / file.name)
                except OSError as error:
                    raise output_error(folder, error) from error
                progress.advance(file.size)

    def _unreadable(self, error: OSError) -> ChannelError:
        return ChannelError("the folder can't be read", file=self._folder, found=error.strerror)
