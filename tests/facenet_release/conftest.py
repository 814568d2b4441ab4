"""Fixtures for tests of releases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import registry as registries
from support import release_data as data
from support.registry import Registry
from support.small_release import in_process, inputs, release_copy, small_release

from facenet_release.documents.manifest import MANIFEST, SUMS, Manifest

__all__ = ["in_process", "inputs", "release_copy", "small_release"]


def make_release(folder: Path, version: str = "v1.0", salt: str = "") -> Manifest:
    """Make `folder` a valid release of one model, a few kB long; `salt` alters the weights."""
    contents = {
        "pnet.md": b"# PNet\n",
        "pnet.pt": f"weights{salt}".encode() + bytes(range(256)) * 20,
        "pnet.safetensors": f"safe{salt}".encode() + bytes(range(256)) * 10,
        "pnet.parity.json": b'{"verdict": "passed"}\n',
        "release.toml": b"# made by a test\n",
    }
    model = replace(data.PNET, artifacts=data.PNET.artifacts[1:])  # without ONNX
    manifest = replace(data.manifest(model, contents=contents), version=version)
    said = manifest.to_bytes()
    contents |= {MANIFEST: said, SUMS: manifest.sums(data.sha256(said))}
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return manifest


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials for a registry, and no proxy between it and a test."""
    for name in ("OCI_USERNAME", "OCI_PASSWORD", "GITHUB_TOKEN", "GITHUB_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits before it tries again."""
    monkeypatch.setattr("facenet_release.channels.common.WAITS", (0.0, 0.0))
    monkeypatch.setattr("facenet_models.weights.http.BACKOFF", 0.0)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A real one, on loopback."""
    with registries.serve(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Registry]:
    """One that wants a password."""
    with registries.serve(tmp_path / "locked", password=True) as running:
        yield running


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
