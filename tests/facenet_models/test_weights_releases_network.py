"""``FACENET_WEIGHTS`` as a release elsewhere: a server's folder, an artifact in a real registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the networks need torch")
pytest.importorskip("requests", reason="downloads need requests")
pytest.importorskip("safetensors", reason="the release has a file of it")

import torch
from places import RNET, at, rows, sha256, write_manifest, write_release
from support import registry as registries
from support.file_server import serve
from support.loopback import Files, serving
from support.registry import Registry, gate

from facenet_common.errors import DownloadError, FacenetError, UsageError, WeightsError
from facenet_models import PNet
from facenet_models.weights import http, oci, pretrained, releases
from facenet_models.weights.cache import recorded
from facenet_models.weights.manifest import MANIFEST, SCHEMA, Entry
from facenet_models.weights.releases import find_at

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


@pytest.fixture
def asked() -> list[str]:
    """The paths that `address`'s server was asked for."""
    return []


@pytest.fixture
def address(folder: Path, asked: list[str]) -> Iterator[str]:
    """`folder` over HTTP."""

    class Noting(Files, SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    with serving(partial(Noting, directory=folder)) as address:
        yield address


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.serve(tmp_path / "registry") as running:
        yield running


def push(registry: Registry, folder: Path) -> str:
    """Publish what is in `folder`, whether it fits together or not; return the address."""
    return registries.push(registry, {file.name: file.read_bytes() for file in folder.iterdir()})


def left(cache: Path) -> set[str]:
    """Return the files in the cache, without locks."""
    return {path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"}


# --- An address over HTTP -------------------------------------------------------------------------


def test_an_address_is_asked_once(
    folder: Path, address: str, asked: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = at(address + "/", monkeypatch)
    assert file.read_bytes() == (folder / "pnet.pt").read_bytes()
    assert file.parent.parent == cache
    assert recorded(file) == sha256(file.read_bytes())
    assert asked == ["/manifest.json", "/pnet.pt"]
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    assert at(address + "/", monkeypatch) == file
    assert len(asked) == 2
    file.write_bytes(b"altered")
    with pytest.raises(WeightsError, match="SHA-256 is wrong"):
        at(address + "/", monkeypatch)


def test_offline_nothing_is_asked(
    address: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    for place in (address, "oci://127.0.0.1:9/some/weights:v1"):
        with pytest.raises(DownloadError, match="FACENET_OFFLINE forbids"):
            at(place, monkeypatch)
    assert asked == []


def test_safetensors_over_the_network(
    folder: Path, address: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pnet.pt").unlink()
    write_manifest(folder, rows(folder, "pnet.safetensors"))
    file = at(address, monkeypatch)
    assert file.name == "pnet.safetensors"
    assert pretrained.load("pnet", "PNet").file == file
    assert asked == ["/manifest.json", "/pnet.safetensors"]


@pytest.mark.parametrize("cut", [True, False])
def test_an_altered_file_over_the_network(
    folder: Path, address: str, cache: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    data = bytearray((folder / "pnet.pt").read_bytes())
    data[1000] ^= 1
    (folder / "pnet.pt").write_bytes(data[:-1] if cut else data)
    with pytest.raises(DownloadError, match="another size" if cut else "SHA-256 is wrong"):
        at(address, monkeypatch)
    assert left(cache) == set()


def test_a_manifest_over_the_network_that_is_damaged(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / MANIFEST).write_text('{"schema": "other/1"}')
    with pytest.raises(DownloadError, match="manifest of the release is damaged") as caught:
        at(address, monkeypatch)
    assert caught.value.found == "schema 'other/1'"
    assert caught.value.expected == f"schema {SCHEMA!r}"
    monkeypatch.setattr(releases, "MAX_MANIFEST", 3)
    with pytest.raises(DownloadError, match="sends too much"):
        at(address, monkeypatch)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("503", "refuses"), ("page", "web page"), ("cut-at-once", "broke off"), ("empty", "damaged")],
)
def test_a_manifest_that_does_not_come_is_no_reason_to_look_elsewhere(
    monkeypatch: pytest.MonkeyPatch, fault: str, message: str, folder: Path
) -> None:
    monkeypatch.setattr(http, "BACKOFF", 0.0)
    with serve((folder / MANIFEST).read_bytes()) as server:
        server.faults = [fault] * (1 + http.RETRIES if fault == "503" else 1)
        expected = len(server.faults)
        with pytest.raises(DownloadError, match=message):
            at(server.url.rpartition("/")[0], monkeypatch)
        assert len(server.requests) == expected


def test_what_the_manifest_lacks_is_looked_for_in_the_registry(
    address: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DownloadError, match=r"can't be reached: http://127\.0\.0\.1:9/.*rnet\.pt"):
        at(address, monkeypatch, RNET)
    assert asked == ["/manifest.json"]


def test_a_named_file_that_the_server_lacks_is_an_error(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pnet.pt").unlink()
    with pytest.raises(DownloadError, match=r"has no such file: http.*/pnet\.pt"):
        at(address, monkeypatch)


def test_a_release_that_was_replaced_contradicts_the_hash_that_was_kept(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = at(address, monkeypatch)
    file.unlink()
    torch.save(PNet().state_dict(), folder / "pnet.pt")
    write_manifest(folder, rows(folder, "pnet.pt"))
    with pytest.raises(FacenetError, match="contradict") as caught:
        at(address, monkeypatch)
    note = file.with_name("pnet.pt.sha256")
    assert str(note) in str(caught.value)
    note.unlink()
    assert at(address, monkeypatch).read_bytes() == (folder / "pnet.pt").read_bytes()


# --- A registry -----------------------------------------------------------------------------------


def test_an_artifact_is_read_once(
    folder: Path, registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = push(registry, folder)
    file = at(place, monkeypatch)
    assert file.read_bytes() == (folder / "pnet.pt").read_bytes()
    assert file.parent.parent == cache
    assert recorded(file) == sha256(file.read_bytes())
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    shutil.rmtree(registry.storage)
    assert at(place, monkeypatch) == file


def test_an_artifact_of_weights_alone(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / MANIFEST).unlink()
    (folder / "pnet.pt").unlink()
    assert at(push(registry, folder), monkeypatch).name == "pnet.safetensors"


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("name", ["pnet.pt", MANIFEST])
def test_a_damaged_blob(
    folder: Path,
    registry: Registry,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    cut: bool,
) -> None:
    place = push(registry, folder)
    data = (folder / name).read_bytes()
    registry.alter(sha256(data))
    if cut:
        registry.blob(sha256(data)).write_bytes(data[:100])
    with pytest.raises(DownloadError, match="another size" if cut else "SHA-256 is wrong"):
        at(place, monkeypatch)
    assert left(cache) == set()


def test_a_manifest_that_contradicts_the_layers(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pnet.pt").write_bytes(b"another")
    with pytest.raises(DownloadError, match=r"hashes of pnet\.pt contradict"):
        at(push(registry, folder), monkeypatch)


def test_an_artifact_with_a_damaged_manifest(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(DownloadError, match="manifest of the release is damaged"):
        at(push(registry, folder), monkeypatch)


def test_what_an_artifact_lacks_is_looked_for_in_the_registry_of_names(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DownloadError, match=r"can't be reached: http://127\.0\.0\.1:9/.*rnet\.pt"):
        at(push(registry, folder), monkeypatch, RNET)


def test_a_tag_that_is_not_there(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadError, match=r"has no such file: http.*/manifests/v9") as caught:
        at(registry.address("v9"), monkeypatch)
    assert "MANIFEST_UNKNOWN" in str(caught.value)


def test_a_registry_that_wants_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCI_USERNAME", registries.USER)  # facenet_models sends nobody's password
    monkeypatch.setenv("OCI_PASSWORD", registries.PASSWORD)
    with (
        registries.serve(tmp_path / "locked", password=True) as locked,
        pytest.raises(DownloadError, match="refuses access"),
    ):
        at(locked.address(), monkeypatch)


def test_anybodys_token_is_fetched(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    data = (folder / "pnet.pt").read_bytes()
    layer = {"size": len(data), "digest": f"sha256:{sha256(data)}"}
    layers = [layer | {"annotations": {oci.TITLE: "pnet.pt"}}]
    with gate() as server:
        server.files = {
            "/v2/some/weights/manifests/v1": json.dumps(
                {"schemaVersion": 2, "layers": layers}
            ).encode(),
            f"/v2/some/weights/blobs/sha256:{sha256(data)}": data,
        }
        assert at(f"oci://{server.host}/some/weights:v1", monkeypatch).read_bytes() == data
        shown = [authorization for _, authorization in server.authorizations]
    assert shown == [None, None, f"Bearer {server.token}", f"Bearer {server.token}"]


@pytest.mark.parametrize("place", ["oci://host/weights", "oci://host/Weights:v1", "OCI://host/w:1"])
def test_a_malformed_address(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="not one in an OCI registry"):
        at(place, monkeypatch)


def test_a_broken_download_is_continued(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    data = (folder / "pnet.pt").read_bytes() * 20
    entry = Entry(len(data), sha256(data))
    with serve(data) as server:
        remote = releases._Web(server.url)
        monkeypatch.setattr(releases._Web, "files", lambda _self: {"pnet.pt": entry})
        server.faults = ["cut", "cut-at-once"]
        check: Callable[[Path], object] = pytest.fail
        with pytest.raises(DownloadError, match="broke off"):
            find_at(remote.address, "pnet.pt", check=check, progress=False)
        assert any(name.endswith(".part.pt") for name in left(cache))
        file = find_at(remote.address, "pnet.pt", check=check, progress=False)
        assert server.requests[-1].range is not None
    assert file is not None
    assert file.read_bytes() == data
