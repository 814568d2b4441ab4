"""The files of a release that are to be published, and what differs at the other end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_release.documents.manifest import NAME, Manifest
from facenet_release.errors import CheckFailedError


@dataclass(frozen=True)
class Local:
    """A file to publish: where it is, its size in bytes and its SHA-256 in lower-case hex."""

    path: Path
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.path.name


def examine(files: Sequence[Path], manifest: Manifest, progress: Progress) -> dict[str, Local]:
    """The files under their names, in the order of these, hashed.

    Raises CheckFailedError, before anything is sent, if a file is not what the manifest says, or
    if its name is unsafe or another's too.
    """
    named, local, wrong = manifest.by_name(), {}, []
    progress.stage("hash", sum(file.stat().st_size for file in files))
    for path in sorted(files, key=lambda file: file.name):
        file = Local(path, path.stat().st_size, sha256_file(path))
        progress.advance(file.size)
        said = named.get(file.name)
        if not NAME.fullmatch(file.name) or file.name in local:
            wrong.append(f"{file.name}: the name is unsafe or taken")
        elif said is not None and (file.size, file.sha256) != (said.size, said.sha256):
            wrong.append(f"{file.name}: {said.sha256} was expected, {file.sha256} was found")
        local[file.name] = file
    if wrong:
        raise CheckFailedError("files are not what the manifest says; nothing was sent", wrong)
    return local


def differences(local: Mapping[str, Local], there: Mapping[str, tuple[int, str]]) -> list[str]:
    """What is not the same as in `there`: size and SHA-256 under every name."""
    found = [f"{name}: not there" for name in sorted(local.keys() - there.keys())]
    found += [f"{name}: there only" for name in sorted(there.keys() - local.keys())]
    for name in sorted(local.keys() & there.keys()):
        if there[name] != (local[name].size, local[name].sha256):
            found.append(f"{name}: other contents")
    return found


def few(findings: Sequence[str]) -> str:
    """`findings` for one line of a message."""
    more = f", and {len(findings) - 5} more" if len(findings) > 5 else ""
    return ", ".join(findings[:5]) + more
