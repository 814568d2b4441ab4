"""Shared by tests of releases: publish a tiny one, record progress, write keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from facenet_common.errors import FacenetError
from facenet_common.progress import Progress
from facenet_release.channels import open_channel
from facenet_release.documents.manifest import Manifest

Tiny = tuple[Path, Manifest]  # a folder, and what its manifest says


class Recorded(Progress):
    """Records the stages' sizes, how much of the last is done, and all notes."""

    def __init__(self) -> None:
        self.stages: dict[str, int] = {}
        self.done = 0
        self.notes: list[str] = []

    @property
    def total(self) -> int:
        """The size of the last stage."""
        return list(self.stages.values())[-1]

    def stage(self, name: str, total: int) -> None:
        assert self.stages or not self.done, "bytes before the first stage"
        self.stages[name], self.done = total, 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, size: int) -> None:
        assert size > 0
        self.done += size


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files_of(folder)}


def publish_to(address: str, tiny: Tiny) -> Recorded:
    recorded = Recorded()
    open_channel(address).publish(files_of(tiny[0]), tiny[1], recorded)
    return recorded


def shown_by(job: Callable[[], object]) -> list[str]:
    """Return all that the error of `job` and its causes show; nothing where there is none."""
    try:
        job()
    except FacenetError as error:
        texts = [str(error.to_json())]
        seen: BaseException | None = error
        while seen is not None:
            texts += [str(seen), repr(seen), repr(vars(seen))]
            seen = seen.__cause__
        return texts
    return []


def write_keys(
    folder: Path, key: Any = None, secret: bytes | None = None, name: str = "key"
) -> Path:
    """Write a private key as `name`.key and its public one as `name`.pub; gives the former.

    A new one of the curve P-256, where none is given. `secret` is what it is locked with.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = key or ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(secret) if secret else None
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        locked or serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / f"{name}.pub").write_bytes(public)
    (folder / f"{name}.key").write_bytes(private)
    return folder / f"{name}.key"
