"""A folder: on this machine, on a share, or what a web server shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from facenet_common.atomic import atomic_folder, output_error
from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_release.channels import Advance
from facenet_release.documents.manifest import Manifest
from facenet_release.errors import AbsentError, ChannelError, TakenError

_CHUNK = 1 << 20  # bytes


class FolderChannel:
    """The release that lies in a folder."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._folder = Path(address).expanduser()

    def names(self) -> Sequence[str]:
        try:
            return sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            raise AbsentError("there is no such folder", file=self._folder) from None
        except OSError as error:
            raise self._failed(error) from error

    def download(self, name: str, target: Path, limit: int, advance: Advance) -> None:
        if name not in self.names():  # so that no name leads out of the folder
            raise AbsentError("there is no such file", file=self._folder / name)
        try:
            with target.open("xb") as copy:
                done = 0
                for chunk in self._chunks(name):
                    done += len(chunk)
                    if done > limit:
                        raise ChannelError(
                            "the file is larger than it may be",
                            file=self._folder / name,
                            expected=f"at most {limit} bytes",
                        )
                    copy.write(chunk)
                    advance(len(chunk))
        except OSError as error:
            raise output_error(target, error) from error

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            with (self._folder / name).open("rb") as source:
                while chunk := source.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise self._failed(error) from error

    def publish(
        self,
        files: Sequence[Path],
        manifest: Manifest,  # noqa: ARG002 # of use where a release has a name and a version
        progress: Progress,
    ) -> None:
        folder = self._folder.absolute()
        if os.path.lexists(folder) and not folder.is_dir():
            raise UsageError("the place to publish to is a file", file=folder)
        if not folder.parent.is_dir():
            raise UsageError("the folder to publish in does not exist", file=folder.parent)
        if any(file.parent.resolve() in folder.resolve().parents for file in files):
            raise UsageError("a release can't be published inside itself", file=folder)
        if folder.is_dir() and self.names():
            self._same(files)
            return
        progress.stage("copying", sum(file.stat().st_size for file in files))
        with atomic_folder(folder) as partial:
            for file in files:
                try:
                    shutil.copyfile(file, partial / file.name)
                except OSError as error:
                    raise output_error(folder, error) from error
                progress.advance(file.stat().st_size)

    def _same(self, files: Sequence[Path]) -> None:
        """TakenError unless the folder holds exactly `files`."""
        there = {name: self._folder / name for name in self.names()}
        differing = sorted(there.keys() ^ {file.name for file in files})
        try:
            differing += [
                file.name
                for file in files
                if file.name in there and sha256_file(there[file.name]) != sha256_file(file)
            ]
        except OSError as error:
            raise self._failed(error) from error
        if differing:
            raise TakenError(
                "something else is published here already; nothing was changed",
                file=self._folder,
                found=f"{len(differing)} files differ: {', '.join(differing[:5])}",
                next_step="publish under another name; a release is never overwritten",
            )

    def _failed(self, error: OSError) -> ChannelError:
        return ChannelError("the folder can't be read", file=self._folder, found=error.strerror)


def open_channel(address: str) -> FolderChannel:
    """The channel of a folder's path. UsageError if it is empty or looks like another address."""
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
