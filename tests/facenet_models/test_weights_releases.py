"""``FACENET_WEIGHTS`` as a release in a folder, and folders of nets that are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the networks need torch")
pytest.importorskip("requests", reason="downloads need requests")
pytest.importorskip("safetensors", reason="the release has a file of it")

import torch
from click.testing import CliRunner
from places import RNET, at, rows, sha256, write_manifest, write_release

from facenet_common.errors import DownloadError, WeightsError
from facenet_models import MTCNN, InceptionResnetV1, ONet, PNet, RNet
from facenet_models.cli import detect, embed, lfw
from facenet_models.weights import releases
from facenet_models.weights.manifest import MANIFEST, SCHEMA, SUMS, Entry, parse

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


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
    monkeypatch.setattr(releases, "MAX_MANIFEST", 100)
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
    from facenet_release.documents import manifest as writer

    assert (SCHEMA, MANIFEST, SUMS) == (
        writer.SCHEMA,
        writer.MANIFEST,
        writer.SUMS,
    )
    assert releases.MAX_MANIFEST == writer.MAX_BYTES
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
    assert caught.value.next_step == releases.AGAIN
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
