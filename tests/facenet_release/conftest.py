"""Fixtures for tests of releases."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_release import in_process, inputs, release_copy, small_release

from facenet_release.manifest import MANIFEST, SUMS, Artifact, File, Manifest, Model, Role, Source

__all__ = ["in_process", "inputs", "release_copy", "small_release"]


def make_release(folder: Path, version: str = "v1.0", salt: str = "") -> Manifest:
    """Make `folder` a valid release of one model, a few kB long; `salt` alters the weights."""
    folder.mkdir(parents=True)
    contents: dict[str, tuple[Role, bytes]] = {
        "pnet.evidence.json": ("evidence", b'{"verdict": "passed"}\n'),
        "pnet.md": ("card", b"# PNet\n"),
        "pnet.pt": ("weights", f"weights{salt}".encode() + bytes(range(256)) * 20),
        "pnet.safetensors": ("weights", f"safe{salt}".encode() + bytes(range(256)) * 10),
        "release.toml": ("recipe", b"# made by a test\n"),
    }
    for name, (_, data) in contents.items():
        (folder / name).write_bytes(data)
    manifest = Manifest(
        name="tiny",
        version=version,
        software="facenet-parity 0.1.0",
        models=(
            Model(
                name="pnet",
                architecture="PNet",
                embedding_size=None,
                classes=None,
                image_size=(12, 12),
                preprocessing="(x - 127.5) / 128",
                training_set="none",
                licence="MIT",
                notes="",
                sources=(Source("det1.npy", 3, hashlib.sha256(b"abc").hexdigest()),),
                artifacts=(
                    Artifact("pnet.pt", "all", "pt", "0" * 64, "pnet.evidence.json"),
                    Artifact(
                        "pnet.safetensors", "all", "safetensors", "0" * 64, "pnet.evidence.json"
                    ),
                ),
                evidence="pnet.evidence.json",
                card="pnet.md",
            ),
        ),
        files=tuple(
            File(name, len(data), hashlib.sha256(data).hexdigest(), role)
            for name, (role, data) in sorted(contents.items())
        ),
    )
    data = manifest.to_bytes()
    (folder / MANIFEST).write_bytes(data)
    (folder / SUMS).write_bytes(manifest.sums(hashlib.sha256(data).hexdigest()))
    return manifest


@pytest.fixture
def release_maker() -> Callable[..., Manifest]:
    """`make_release`, for tests that need more than one release."""
    pytest.importorskip("rfc8785", reason='canonical JSON: pip install "facenet-parity[release]"')
    return make_release


@pytest.fixture
def tiny_release(tmp_path: Path, release_maker: Callable[..., Manifest]) -> tuple[Path, Manifest]:
    """A folder that holds a valid release, and its manifest."""
    folder = tmp_path / "tiny_release"
    return folder, release_maker(folder)
