"""Zip archives, read in place like the folder that they hold."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import fakes
from support.commands import run

from converter.convert import Request, convert
from converter.resolve import resolve
from converter.sources import archive, open_source
from facenet_common.errors import FacenetError, UsageError
from facenet_common.hashing import sha256_file

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def zipped(path: Path, files: Mapping[str, bytes | Path], method: int = DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in files.items():
            out.writestr(name, data.read_bytes() if isinstance(data, Path) else data)
    return path


def published(folder: Path, arrays: Mapping[str, Any], method: int = DEFLATED) -> Path:
    """An archive like the published ones: one folder with a checkpoint, a graph, a frozen graph."""
    name = "20180402-114759"
    prefix = fakes.write_bundle(folder / name, arrays, f"model-{name}.ckpt-275")
    files = {f"{name}/{path.name}": path for path in sorted(prefix.parent.iterdir())}
    extra = {
        f"{name}/{name}.pb": fakes.frozen_graph(arrays),
        f"{name}/model-{name}.meta": b"",
        f"__MACOSX/{name}/._x.index": b"x",
        f"{name}/.DS_Store": b"x",
    }
    return zipped(folder / f"{name}.zip", {f"{name}/": b""} | files | extra, method)


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_the_archive_works_like_its_folder(
    method: int, tmp_path: Path, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = published(tmp_path, values, method)
    folder = path.with_suffix("")
    source, plain = resolve(str(path)), resolve(str(folder))
    assert source.path == path / folder.name / "model-20180402-114759.ckpt-275"
    assert source.graph == path / folder.name / "model-20180402-114759.meta"
    assert fakes.loaded(source.open()) == fakes.loaded(plain.open()) == fakes.expected(values)
    same = convert(Request(str(folder), str(tmp_path / "folder.pt"), hash_source=True))
    receipt = convert(Request(str(path), str(tmp_path / "zip.pt"), hash_source=True))
    assert receipt.digest == same.digest
    assert [(f.size, f.sha256) for f in receipt.source_files] == [
        (f.size, f.sha256) for f in same.source_files
    ]
    for inside in (path / folder.name, path / folder.name / f"{folder.name}.pb"):
        assert fakes.loaded(resolve(str(inside)).open()) == fakes.expected(values)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(folder.name).path == Path("20180402-114759.zip") / source.path.relative_to(path)


def test_nothing_is_written_and_inspect_lists_the_files(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    path = published(tmp_path, values)
    before = sorted(tmp_path.rglob("*"))
    done = run("inspect", path, "--json")
    assert sorted(tmp_path.rglob("*")) == before
    found = json.loads(done.stdout)
    sizes = {Path(file["path"]).name: file["size"] for file in found["files"]}
    assert sizes == {
        file.name: file.stat().st_size
        for file in path.with_suffix("").iterdir()
        if ".ckpt" in file.name
    }
    assert found["architecture"] == "pnet"


def test_listing_reads_no_values(tmp_path: Path, values: dict[str, Any]) -> None:
    """`facenet inspect` stays quick: the data file is not inflated until a tensor is loaded."""
    path = published(tmp_path, values)
    catalog = resolve(str(path)).open()
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as opened:
        info = next(i for i in opened.infolist() if ".data-" in i.filename)
    data[info.header_offset + 30 + len(info.filename) + 40] ^= 1
    path.write_bytes(data)
    catalog = resolve(str(path)).open()
    with pytest.raises(FacenetError, match="damaged"):
        next(iter(catalog.values())).load()


def test_files_at_the_top_and_deeper_folders(tmp_path: Path, values: dict[str, Any]) -> None:
    graph = fakes.frozen_graph(values)
    for number, name in enumerate(("g.pb", "a/b/c/g.pb")):
        path = zipped(tmp_path / f"{number}.zip", {name: graph})
        assert resolve(str(path)).path == path / name
    for data, name in ((fakes.saver_v1_of(values), "m/model.ckpt-7"),):
        path = zipped(tmp_path / "v1.zip", {name: data})
        assert fakes.loaded(resolve(str(path)).open()) == fakes.expected(values)


def test_several_folders_are_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "two.zip", {"one/g.pb": b"x", "two/g.pb": b"x"})
    with pytest.raises(UsageError, match="several folders") as caught:
        resolve(str(path))
    assert "one, two" in str(caught.value)
    assert resolve(str(path / "two")).path == path / "two" / "g.pb"


def test_an_archive_without_weights_says_so(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a/readme.txt": b"x"})
    with pytest.raises(UsageError, match="has no checkpoint") as caught:
        resolve(str(path))
    assert "readme.txt" in str(caught.value)


def test_a_state_dict_under_the_name_of_a_zip_is_one(tmp_path: Path) -> None:
    path = fakes.write_pt(tmp_path / "weights.zip", fakes.some_arrays())
    assert resolve(str(path)).open().format == "torch-zip"


def test_a_changed_archive_is_read_anew(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a": b"1"})
    assert archive.read(path / "a") == b"1"
    zipped(path, {"a": b"22"})
    assert archive.read(path / "a") == b"22"
    assert archive.size(path / "a") == 2


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1_000_000))
    path = zipped(tmp_path / "x.zip", {"a": bytes(1_000_000)})
    assert archive.sha256(path / "a") == sha256_file(tmp_path / "a")
    assert archive.sha256(tmp_path / "a") == sha256_file(tmp_path / "a")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x03\x04" + data)
    for name in (path, path / "g.pb"):
        with pytest.raises(FacenetError):
            open_source(name)
        with pytest.raises(FacenetError):
            resolve(str(name))
