"""Steps that the tests of OCI registries share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from publishing import Tiny, contents, files_of

from facenet_common.progress import Progress
from facenet_models.weights import oci as reading
from facenet_release.channels import open_channel
from facenet_release.channels.oci import Oci

NO_ORAS = 'publishing needs oras: pip install "facenet-parity[release]"'
GREEDY = 1 << 30  # a limit that limits nothing


def publish(release: Tiny, address: str, progress: Progress | None = None) -> Oci:
    pytest.importorskip("oras", reason=NO_ORAS)
    channel = open_channel(address)
    assert isinstance(channel, Oci)
    channel.publish(files_of(release[0]), release[1], progress or Progress())
    return channel


def fetch(address: str, folder: Path, limit: int = GREEDY) -> dict[str, bytes]:
    """Everything that is published there."""
    channel = open_channel(address)
    folder.mkdir()
    for name in channel.names():
        channel.download(name, folder / name, limit, lambda _size: None)
    return contents(folder)


def pulled(address: str, folder: Path) -> dict[str, bytes]:
    """Return what another client downloads."""
    client = pytest.importorskip("oras.client", reason=NO_ORAS)
    client.OrasClient(insecure=True).pull(target=address.removeprefix("oci://"), outdir=str(folder))
    return contents(folder)


def stored(address: str) -> bytes:
    return reading.Registry(reading.parse(address)).manifest()


def methods(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Record requests from now on: method, and path below the repository."""
    requests: list[tuple[str, str]] = []
    real = reading.Registry.request

    def request(self: reading.Registry, method: str, url: str, **details: Any) -> Any:
        requests.append((method, url.partition("/v2/some/weights/")[2]))
        return real(self, method, url, **details)

    monkeypatch.setattr(reading.Registry, "request", request)
    return requests
