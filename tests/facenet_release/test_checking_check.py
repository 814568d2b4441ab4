"""Checking: nothing that was altered, forged, added or taken away passes for the release."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from publishing import Recorded, write_keys
from support.small_release import findings as wrong
from support.small_release import reseal

from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.canonical_json import canonical
from facenet_release.documents.manifest import (
    MANIFEST,
    MAX_BYTES,
    SIGNATURE,
    SUMS,
    File,
    Manifest,
    parse,
)
from facenet_release.errors import CheckFailedError
from facenet_release.signing import sign

pytestmark = pytest.mark.tensorflow
NOTHING = CheckOptions()


def test_a_release_is_what_it_says(small_release: Path) -> None:
    checked = check(small_release, NOTHING)
    assert checked.signature == "none"
    assert checked.size == sum(file.size for file in checked.manifest.files)
    digest = sha256_file(small_release / MANIFEST)
    assert checked.manifest_sha256 == digest
    check(small_release, CheckOptions(manifest_sha256=digest))
    assert "expected SHA-256 " + "0" * 64 in wrong(
        small_release, CheckOptions(manifest_sha256="0" * 64)
    )


def test_no_file_can_be_altered_by_a_bit(release_copy: Path) -> None:
    for path in sorted(release_copy.iterdir()):
        before = path.read_bytes()
        data = bytearray(before)
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        said = wrong(release_copy)
        assert path.name in said or path.name in (MANIFEST, "provenance.intoto.json"), path.name
        path.write_bytes(before)
    check(release_copy, NOTHING)


def test_no_file_can_be_cut_emptied_or_lost(release_copy: Path) -> None:
    for path in sorted(release_copy.iterdir()):
        before = path.read_bytes()
        for data in (before[:-1], b"", None):
            path.unlink()
            if data is not None:
                path.write_bytes(data)
            if path.name == MANIFEST and data is None:
                with pytest.raises(UsageError, match="holds no release"):
                    check(release_copy, NOTHING)
            else:
                assert wrong(release_copy), path.name
            path.write_bytes(before)


def test_a_file_of_another_size_is_not_read(
    release_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (release_copy / "rnet.pt").open("ab") as file:
        file.truncate(1 << 38)  # which would take minutes
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr("facenet_release.checking.check.sha256_file", counted)
    assert re.fullmatch(f"rnet.pt: expected [0-9]+ bytes, found {1 << 38}", wrong(release_copy))
    assert "rnet.pt" not in read
    assert "pnet.pt" in read


def test_nothing_can_be_added_or_linked(release_copy: Path) -> None:
    (release_copy / "more.pt").write_bytes(b"x")
    assert wrong(release_copy) == "more.pt: not a file of this release"
    (release_copy / "more.pt").unlink()
    (release_copy / "folder").mkdir()
    assert "folder: not a file" in wrong(release_copy)
    (release_copy / "folder").rmdir()
    elsewhere = release_copy.parent / "elsewhere.pt"
    (release_copy / "pnet.pt").rename(elsewhere)
    (release_copy / "pnet.pt").symlink_to(elsewhere)
    assert "pnet.pt: not a regular file" in wrong(release_copy)


def test_nothing_that_is_no_plain_file_stands_for_a_signature(release_copy: Path) -> None:
    path = release_copy / SIGNATURE
    path.symlink_to("nowhere")
    assert wrong(release_copy) == f"{SIGNATURE}: expected a regular file"
    path.unlink()
    os.mkfifo(path)
    assert wrong(release_copy) == f"{SIGNATURE}: expected a regular file"
    path.unlink()
    path.write_bytes(b" " * (MAX_BYTES + 1))
    assert wrong(release_copy) == f"{SIGNATURE}: a file is too large"
    path.write_bytes(b"{}")
    assert check(release_copy, NOTHING).signature == "not checked"


def test_a_pipe_is_not_waited_for(release_copy: Path) -> None:
    for name in ("rnet.pt", "pnet.onnx", SUMS):
        (release_copy / name).unlink()
        os.mkfifo(release_copy / name)
        assert f"{name}: " in wrong(release_copy)


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda said: said | {"more": 1}, "'more' was unexpected"),
        (lambda said: said | {"schema": "facenet-parity/release/2"}, "release/2"),
        (lambda said: said | {"version": "../x"}, "version"),
        (lambda said: said | {"files": [*said["files"], said["files"][0]]}, "named twice"),
        (
            lambda said: (
                said | {"files": [said["files"][0] | {"name": "BOM.cdx.json"}, *said["files"]]}
            ),
            "BOM.cdx.json: named twice",
        ),
        (
            lambda said: said | {"files": [said["files"][0] | {"name": MANIFEST}, *said["files"]]},
            f"{MANIFEST}: a reserved name",
        ),
        (
            lambda said: (
                said | {"files": [row for row in said["files"] if row["name"] != "rnet.md"]}
            ),
            "rnet: rnet.md is not among the files",
        ),
        (lambda said: said | {"files": said["files"][::-1]}, "not sorted by name"),
        (lambda said: said | {"models": said["models"][1:]}, "belongs to no model"),
        (lambda said: said | {"models": said["models"] * 2}, "belongs to two models"),
        (lambda said: said | {"models": said["models"] * 2}, "two models have this name"),
    ],
)
def test_a_manifest_must_be_sound(
    edit: Callable[[dict[str, Any]], dict[str, Any]], finding: str, release_copy: Path
) -> None:
    said = edit(json.loads((release_copy / MANIFEST).read_bytes()))
    (release_copy / MANIFEST).write_bytes(canonical(said))
    assert finding in wrong(release_copy)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", ".hidden", "manifest.json", "x\n"])
def test_names_that_lead_elsewhere_are_refused(name: str, release_copy: Path) -> None:
    said = json.loads((release_copy / MANIFEST).read_bytes())
    said["files"][0]["name"] = name
    (release_copy / MANIFEST).write_bytes(canonical(said))
    assert wrong(release_copy)


def test_a_manifest_that_is_written_otherwise_is_refused(release_copy: Path) -> None:
    path = release_copy / MANIFEST
    data = path.read_bytes()
    for other in (
        json.dumps(json.loads(data), indent=1).encode(),
        data.replace(b'"size":', b'"size": ', 1),
        data[:-1] + b',"name":"small"}',
        data + b"\n",
    ):
        path.write_bytes(other)
        assert "not in canonical form" in wrong(release_copy)
    # Text and numbers that canonical JSON can't say.
    for start, more in ((b'"notes":"', b"\\ud800"), (b'"image_size":[', b"1" + b"0" * 30)):
        assert start in data
        path.write_bytes(data.replace(start, start + more, 1))
        assert "not in canonical form" in wrong(release_copy)
    with path.open("wb") as file:
        file.truncate(1 << 38)
    with pytest.raises(CheckFailedError, match="too large"):
        check(release_copy, NOTHING)
    with pytest.raises(CheckFailedError, match="at most"):
        parse(b" " * (MAX_BYTES + 1))
    for other in (b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (17 << 20)):
        path.write_bytes(other)
        with pytest.raises(CheckFailedError):
            check(release_copy, NOTHING)


def test_files_that_no_release_lacks(release_copy: Path) -> None:
    lost = ("bom.cdx.json", "parity.intoto.json", "README.md", "release.toml")
    lost += ("rnet.conversion.json", "rnet.parity.html", "pnet.onnx.parity.html")
    for name in lost:
        (release_copy / name).unlink()
    reseal(release_copy)
    said = wrong(release_copy)
    for name in lost:
        assert f"{name}: missing from the manifest" in said


def test_files_that_no_release_has(release_copy: Path) -> None:
    (release_copy / "more.exe").write_bytes(b"x")
    more = File("more.exe", 1, hashlib.sha256(b"x").hexdigest(), "card")

    def edit(manifest: Manifest) -> Manifest:
        rows = sorted([*manifest.files, more], key=lambda file: file.name)
        return replace(manifest, files=tuple(rows))

    reseal(release_copy, edit)
    assert "more.exe: in the manifest, but not part of a release" in wrong(release_copy)


def test_files_are_what_they_are_called(release_copy: Path) -> None:
    def edit(manifest: Manifest) -> Manifest:
        files = [
            replace(row, role="card" if "rnet" in row.name else row.role) for row in manifest.files
        ]
        one, two = manifest.models
        onnx = replace(one.artifacts[-1], part="logits", tensor_digest="0" * 64)
        one = replace(one, artifacts=(*one.artifacts[:-1], onnx), card="rnet.md")
        return replace(manifest, files=tuple(files), models=(one, two))

    reseal(release_copy, edit)
    said = wrong(release_copy)
    for name in (
        "rnet.pt: expected role weights, found card",
        "rnet.parity.html: expected role evidence, found card",
    ):
        assert name in said
    assert "pnet.onnx: an ONNX file of logits only" in said
    assert "pnet.onnx: it has a tensor digest" in said
    assert "pnet: expected pnet-logits.onnx, found pnet.onnx" in said
    assert "pnet: expected pnet.md, found rnet.md" in said


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda text: text.replace('"1.0.0"', '"1.0.1"'), "it is the recipe of small 1.0.1"),
        (lambda text: text.replace('"small"', '"other"'), "it is the recipe of other 1.0.0"),
        (lambda text: text[: text.index("[[model]]", 60)], "its models differ"),
        (lambda text: text.replace("det2.npy", "det9.npy"), "the sources of rnet differ"),
        (lambda text: text + "wrong = 1", "the recipe is wrong"),
        (lambda text: text + '"', "the recipe is not TOML"),
        (lambda text: text + "#" * (64 << 10), "the recipe is too large"),
    ],
)
def test_a_recipe_of_another_release(
    edit: Callable[[str], str], finding: str, release_copy: Path
) -> None:
    path = release_copy / "release.toml"
    path.write_text(edit(path.read_text()))
    reseal(release_copy)
    assert f"release.toml: {finding}" in wrong(release_copy)


def test_sums_that_say_something_else(release_copy: Path) -> None:
    sums = release_copy / SUMS
    sums.write_text(sums.read_text().replace("a", "b", 1))
    assert wrong(release_copy) == f"{SUMS}: differs from the manifest"


def test_a_key_asks_for_a_signature_by_it(release_copy: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing", reason='pip install "facenet-parity[release]"')
    for name in ("mine", "other"):
        write_keys(tmp_path, name=name)
    mine = CheckOptions(public_key=tmp_path / "mine.pub")
    assert f"{SIGNATURE}: " in wrong(release_copy, mine)
    sign(release_copy, tmp_path / "mine.key")
    assert check(release_copy, mine).signature == "good"
    assert check(release_copy, NOTHING).signature == "not checked"
    assert f"{SIGNATURE}: " in wrong(release_copy, CheckOptions(public_key=tmp_path / "other.pub"))
    # The provenance is in no manifest: the signature alone covers it.
    provenance = release_copy / "provenance.intoto.json"
    provenance.write_bytes(provenance.read_bytes() + b" ")
    check(release_copy, NOTHING)
    assert f"{SIGNATURE}: " in wrong(release_copy, mine)


def test_all_bytes_are_told_of(small_release: Path) -> None:
    heard = Recorded()
    checked = check(small_release, NOTHING, heard)
    assert heard.stages == {"checking": checked.size}
    assert heard.done == checked.size


def test_places_without_a_release(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="holds no release"):
            check(place, NOTHING)
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(UsageError, match="expected a regular file"):
        check(tmp_path, NOTHING)
