"""``FACENET_WEIGHTS`` as a release: a folder, a server's folder, an artifact in a real registry."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the networks need torch")
pytest.importorskip("pooch", reason="downloads need pooch")
pytest.importorskip("safetensors", reason="the release has a file of it")

import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from support import registry as registries
from support.file_server import serve
from support.loopback import Files, serving
from support.registry import Registry, gate

from facenet_models import MTCNN, InceptionResnetV1, ONet, PNet, RNet, oci, pretrained, release
from facenet_models.cli import detect, embed, lfw
from facenet_models.download import recorded
from facenet_models.errors import DownloadError, ModelsError, UsageError, WeightsError
from facenet_models.pretrained import Pretrained, locate
from facenet_models.release import find_at
from facenet_models.release_manifest import MANIFEST, SCHEMA, SUMS, Entry, parse

pytestmark = pytest.mark.usefixtures("cache")

PNET, RNET = Pretrained.PNET.value, Pretrained.RNET.value


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rows(folder: Path, *names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "role": "weights", "size": len(data), "sha256": sha256(data)}
        for name in names
        for data in [(folder / name).read_bytes()]
    ]


def write_manifest(folder: Path, files: list[dict[str, Any]], **more: Any) -> None:
    said = {"schema": SCHEMA, "name": "tiny", "files": files} | more
    (folder / MANIFEST).write_text(json.dumps(said))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release of one net, as far as it is read here; other bytes than the published file's."""
    folder = tmp_path / "release"
    folder.mkdir()
    torch.manual_seed(7)
    state = PNet().state_dict()
    torch.save(state, folder / "pnet.pt")
    save_file(state, folder / "pnet.safetensors")
    write_manifest(folder, rows(folder, "pnet.pt", "pnet.safetensors"))
    return folder


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
    pytest.importorskip("oras", reason="sending to a registry needs oras")
    with registries.serve(tmp_path / "registry") as running:
        yield running


def push(registry: Registry, folder: Path) -> str:
    """Publish what lies in `folder`, whether it fits together or not; gives the address."""
    from converter.progress import Listener
    from facenet_release.channels.oci import describe
    from facenet_release.channels.oci_push import open_pusher
    from facenet_release.manifest import Manifest

    address = registry.address()
    pusher = open_pusher(oci.Registry(oci.parse(address)), Listener())
    blobs = {}
    for file in folder.iterdir():
        data = file.read_bytes()
        blobs[file.name] = oci.Blob(len(data), sha256(data))
        pusher.send(blobs[file.name], file)
    pusher.send_empty()
    pusher.name(describe(Manifest("tiny", "v1", "tests", (), ()), blobs))
    return address


def at(place: object, monkeypatch: pytest.MonkeyPatch, weights: Any = PNET) -> Path:
    monkeypatch.setenv("FACENET_WEIGHTS", str(place))
    return locate(weights, progress=False)


def left(cache: Path) -> set[str]:
    """What the cache holds, but for locks."""
    return {path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"}


# --- A folder -------------------------------------------------------------------------------------


def test_a_folder_with_a_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(folder.iterdir())
    assert at(folder, monkeypatch) == folder / "pnet.pt"
    assert sorted(folder.iterdir()) == before  # nothing is added


def test_safetensors_serve_where_pt_is_absent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pnet.pt").unlink()  # a part of a release
    assert at(folder, monkeypatch) == folder / "pnet.safetensors"
    (folder / "pnet.safetensors").write_bytes(b"altered")
    with pytest.raises(WeightsError, match="its size is wrong"):
        at(folder, monkeypatch)


@pytest.mark.parametrize("cut", [True, False])
def test_an_altered_file_in_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    data = bytearray((folder / "pnet.pt").read_bytes())
    data[1000] ^= 1
    (folder / "pnet.pt").write_bytes(data[:-1] if cut else data)
    with pytest.raises(WeightsError, match=f"its {'size' if cut else 'SHA-256'} is wrong"):
        at(folder, monkeypatch)


def test_what_a_folder_lacks_is_looked_for_in_the_registry(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DownloadError, match=r"can't be reached: http://127\.0\.0\.1:9/.*rnet\.pt"):
        at(folder, monkeypatch, RNET)


def test_a_file_that_the_manifest_does_not_name_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(folder, rows(folder, "pnet.safetensors"))
    assert at(folder, monkeypatch) == folder / "pnet.safetensors"
    (folder / "pnet.safetensors").unlink()
    with pytest.raises(WeightsError, match="does not name the weight file") as caught:
        at(folder, monkeypatch)
    assert caught.value.file == str(folder / "pnet.pt")


@pytest.mark.parametrize("where", [SUMS, "pnet.pt.sha256"])
def test_hashes_that_contradict_each_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    right = sha256((folder / "pnet.pt").read_bytes())
    (folder / where).write_text(f"{right}  pnet.pt\n")
    assert at(folder, monkeypatch) == folder / "pnet.pt"
    (folder / where).write_text(f"{'0' * 64}  pnet.pt\n")
    with pytest.raises(WeightsError, match=r"hashes of pnet\.pt contradict") as caught:
        at(folder, monkeypatch)
    assert str(folder / MANIFEST) in str(caught.value.expected)
    assert str(folder / where) in str(caught.value.found)


def test_sums_and_note_contradict_each_other_without_a_manifest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / MANIFEST).unlink()
    right = sha256((folder / "pnet.pt").read_bytes())
    (folder / SUMS).write_text(f"{right}  pnet.pt\n")
    (folder / "pnet.pt.sha256").write_text(f"{'0' * 64}  pnet.pt\n")
    with pytest.raises(WeightsError, match="contradict"):
        at(folder, monkeypatch)


def test_an_altered_manifest_contradicts_its_line_in_sums(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / SUMS).write_text(f"{sha256((folder / MANIFEST).read_bytes())}  {MANIFEST}\n")
    assert at(folder, monkeypatch) == folder / "pnet.pt"
    (folder / "pnet.pt").write_bytes(b"other weights")
    write_manifest(folder, rows(folder, "pnet.pt"))
    with pytest.raises(WeightsError, match=r"hashes of manifest\.json contradict"):
        at(folder, monkeypatch)


def row(**change: Any) -> dict[str, Any]:
    return {"name": "pnet.pt", "size": 1, "sha256": "0" * 64} | change


DAMAGED = {
    "": "no JSON",
    "\xff": "no JSON",
    "{": "no JSON",
    "[" * 100_000: "no JSON",
    f'{{"schema": "{SCHEMA}", "files": [], "files": []}}': "no JSON",
    "[]": "schema None",
    "null": "schema None",
    '{"schema": "other/1"}': "schema 'other/1'",
    '{"name": "My app", "icons": []}': "schema None",
    **{
        json.dumps({"schema": SCHEMA, "files": files}): found
        for files, found in (
            (None, "no list of files"),
            ([], "no list of files"),
            ({}, "no list of files"),
            ([3], "the file name None"),
            ([row(name="../pnet.pt")], "the file name '../pnet.pt'"),
            ([row(name="a/pnet.pt")], "the file name 'a/pnet.pt'"),
            ([row(name="pnet.pt\n")], "the file name"),
            ([row(name=7)], "the file name 7"),
            ([row(size=-1)], "pnet.pt: the size -1"),
            ([row(size=1.0)], "pnet.pt: the size 1.0"),
            ([row(size=True)], "pnet.pt: the size True"),
            ([row(size=1 << 41)], "pnet.pt: the size"),
            ([row(sha256="0" * 63)], "pnet.pt: the SHA-256"),
            ([row(sha256="A" * 64)], "pnet.pt: the SHA-256"),
            ([row(sha256=None)], "pnet.pt: the SHA-256 None"),
            ([row(), row()], "pnet.pt is named twice"),
            ([row(), row(name="PNET.pt")], "PNET.pt is named twice"),
        )
    },
}


@pytest.mark.parametrize("number", range(len(DAMAGED)))
def test_a_damaged_manifest_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    text, found = list(DAMAGED.items())[number]
    (folder / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(WeightsError, match="manifest of the release is damaged") as caught:
        at(folder, monkeypatch)
    assert caught.value.file == str(folder / MANIFEST)
    assert found in str(caught.value.found)


def test_a_manifest_that_is_too_long_or_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "MAX_MANIFEST", 100)
    with pytest.raises(WeightsError, match="damaged") as caught:
        at(folder, monkeypatch)
    assert "more than 100 bytes" in str(caught.value)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    with pytest.raises(WeightsError, match="damaged"):
        at(folder, monkeypatch)


def test_what_the_release_writes_is_read() -> None:
    """The manifest of facenet_release itself, which is not imported there."""
    pytest.importorskip("rfc8785", reason='canonical JSON: pip install "facenet-parity[release]"')
    from facenet_release import manifest as writer

    assert (SCHEMA, MANIFEST, SUMS) == (
        writer.SCHEMA,
        writer.MANIFEST,
        writer.SUMS,
    )
    assert release.MAX_MANIFEST == writer.MAX_BYTES
    file = writer.File("pnet.pt", 3, "0" * 64, "weights")
    data = writer.Manifest("n", "v", "s", (), (file,)).to_bytes()
    assert parse(data, "here") == {"pnet.pt": Entry(3, "0" * 64)}


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    """A release of MTCNN's three nets, and a photograph."""
    pillow = pytest.importorskip("PIL.Image", reason="the photograph needs Pillow")
    folder = tmp_path / "nets"
    folder.mkdir()
    for name, net in {"pnet": PNet(), "rnet": RNet(), "onet": ONet()}.items():
        torch.save(net.state_dict(), folder / f"{name}.pt")
    names = ("pnet.pt", "rnet.pt", "onet.pt")
    write_manifest(folder, rows(folder, *names))
    lines = [f"{sha256((folder / name).read_bytes())}  {name}\n" for name in (MANIFEST, *names)]
    (folder / SUMS).write_text("".join(lines))
    pillow.new("RGB", (64, 48)).save(tmp_path / "photo.png")
    return folder


@pytest.mark.parametrize("kept", [MANIFEST, SUMS, "rnet.pt.sha256"])
def test_a_folder_of_nets_that_is_named_is_held_to_its_hashes_too(nets: Path, kept: str) -> None:
    note = f"{sha256((nets / 'rnet.pt').read_bytes())}  rnet.pt\n"
    for name in {MANIFEST, SUMS} - {kept}:
        (nets / name).unlink()
    if kept not in (MANIFEST, SUMS):
        (nets / kept).write_text(note)
    MTCNN(weights=nets)
    data = bytearray((nets / "rnet.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (nets / "rnet.pt").write_bytes(data)
    with pytest.raises(WeightsError, match="its SHA-256 is wrong") as caught:
        MTCNN(weights=nets)
    assert caught.value.file == str(nets / "rnet.pt")
    assert caught.value.next_step == release.AGAIN
    (nets / kept).unlink()
    MTCNN(weights=nets)  # nothing says that it was altered


def test_commands_hold_a_folder_to_its_manifest(nets: Path, tmp_path: Path) -> None:
    photo, album = tmp_path / "photo.png", tmp_path / "album"
    (album / "Ann").mkdir(parents=True)
    for name in ("Ann_0001", "Ann_0002"):
        shutil.copy(photo, album / "Ann" / f"{name}.png")
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("1\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n")
    data = (nets / "onet.pt").read_bytes()
    (nets / "onet.pt").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    model = tmp_path / "tiny.pt"
    torch.save(InceptionResnetV1(embedding_size=2).state_dict(), model)
    both = ["--weights", model, "--detector-weights", nets]
    calls = {
        detect.command: [photo, "--json", "--weights", nets],
        embed.command: [album, *both, "--out", tmp_path / "x.npz"],
        lfw.command: [album, *both, "--pairs", pairs],
    }
    for command, args in calls.items():
        result = CliRunner().invoke(command, [str(arg) for arg in args])
        assert result.exit_code == 1, result.output
        assert "its SHA-256 is wrong" in result.output
        assert "onet.pt" in result.output


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
    monkeypatch.setattr(release, "MAX_MANIFEST", 3)
    with pytest.raises(DownloadError, match="sends too much"):
        at(address, monkeypatch)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("503", "refuses"), ("page", "web page"), ("cut-at-once", "broke off"), ("empty", "damaged")],
)
def test_a_manifest_that_does_not_come_is_no_reason_to_look_elsewhere(
    monkeypatch: pytest.MonkeyPatch, fault: str, message: str, folder: Path
) -> None:
    with serve((folder / MANIFEST).read_bytes()) as server:
        server.faults = [fault]
        with pytest.raises(DownloadError, match=message):
            at(server.url.rpartition("/")[0], monkeypatch)
        assert len(server.requests) == 1


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
    with pytest.raises(ModelsError, match="contradict") as caught:
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
    with pytest.raises(DownloadError, match=r"has no such thing: http.*/manifests/v9") as caught:
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
    with pytest.raises(UsageError, match="no address in an OCI registry"):
        at(place, monkeypatch)


def test_a_broken_download_is_continued(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    data = (folder / "pnet.pt").read_bytes() * 20
    entry = Entry(len(data), sha256(data))
    with serve(data) as server:
        remote = release._Web(server.url)
        monkeypatch.setattr(release._Web, "files", lambda _self: {"pnet.pt": entry})
        server.faults = ["cut", "cut-at-once"]
        check: Callable[[Path], object] = pytest.fail
        with pytest.raises(DownloadError, match="broke off"):
            find_at(remote.address, "pnet.pt", check=check, progress=False)
        assert any(name.endswith(".part.pt") for name in left(cache))
        file = find_at(remote.address, "pnet.pt", check=check, progress=False)
        assert server.requests[-1].range is not None
    assert file is not None
    assert file.read_bytes() == data
