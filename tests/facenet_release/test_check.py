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
from support.small_release import reseal

from converter.sources.mapped_file import MappedFile
from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_release.checking.check import CheckOptions, check
from facenet_release.checking.contents import Contents, _misfits
from facenet_release.documents.canonical_json import canonical
from facenet_release.documents.manifest import (
    MANIFEST,
    MAX_BYTES,
    SIGNATURE,
    SUMS,
    Artifact,
    File,
    Manifest,
    parse,
)
from facenet_release.errors import CheckFailedError
from facenet_release.signing import sign

pytestmark = pytest.mark.tensorflow
NOTHING = CheckOptions()


def wrong(folder: Path, options: CheckOptions = NOTHING) -> str:
    with pytest.raises(CheckFailedError) as error:
        check(folder, options)
    assert error.value.exit_code == 1
    return "\n".join(map(str, error.value.findings))


def test_a_release_is_what_it_says(small_release: Path) -> None:
    checked = check(small_release, NOTHING)
    assert checked.signature == "none"
    assert checked.size == sum(file.size for file in checked.manifest.files)
    digest = sha256_file(small_release / MANIFEST)
    assert checked.manifest_sha256 == digest
    check(small_release, CheckOptions(manifest_sha256=digest))
    assert "not " + "0" * 64 in wrong(small_release, CheckOptions(manifest_sha256="0" * 64))


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
                with pytest.raises(UsageError, match="no release here"):
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
    assert re.fullmatch(f"rnet.pt: [0-9]+ bytes were expected, has {1 << 38}", wrong(release_copy))
    assert "rnet.pt" not in read
    assert "pnet.pt" in read


def test_nothing_can_be_added_or_linked(release_copy: Path) -> None:
    (release_copy / "more.pt").write_bytes(b"x")
    assert wrong(release_copy) == "more.pt: no file of this release"
    (release_copy / "more.pt").unlink()
    (release_copy / "folder").mkdir()
    assert "folder: no file" in wrong(release_copy)
    (release_copy / "folder").rmdir()
    elsewhere = release_copy.parent / "elsewhere.pt"
    (release_copy / "pnet.pt").rename(elsewhere)
    (release_copy / "pnet.pt").symlink_to(elsewhere)
    assert "pnet.pt: no plain file" in wrong(release_copy)


def test_nothing_that_is_no_plain_file_stands_for_a_signature(release_copy: Path) -> None:
    path = release_copy / SIGNATURE
    path.symlink_to("nowhere")
    assert wrong(release_copy) == f"{SIGNATURE}: this is no plain file"
    path.unlink()
    os.mkfifo(path)
    assert wrong(release_copy) == f"{SIGNATURE}: this is no plain file"
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
            f"{MANIFEST}: a name that is taken",
        ),
        (
            lambda said: (
                said | {"files": [row for row in said["files"] if row["name"] != "rnet.md"]}
            ),
            "rnet: rnet.md is not among the files",
        ),
        (lambda said: said | {"files": said["files"][::-1]}, "not in the order"),
        (lambda said: said | {"models": said["models"][1:]}, "weights of no model"),
        (lambda said: said | {"models": said["models"] * 2}, "weights of two models"),
        (lambda said: said | {"models": said["models"] * 2}, "two models of this name"),
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
    with pytest.raises(CheckFailedError, match="the most allowed"):
        parse(b" " * (MAX_BYTES + 1))
    for other in (b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (17 << 20)):
        path.write_bytes(other)
        with pytest.raises(CheckFailedError):
            check(release_copy, NOTHING)


# --- forgeries: everything that a forger can make agree, agrees


def edited_json(path: Path, edit: Callable[[Any], None]) -> None:
    said = json.loads(path.read_bytes())
    edit(said)
    path.write_text(json.dumps(said))


def set_in(*steps: Any) -> Callable[[Any], None]:
    *path, key, value = steps

    def edit(said: Any) -> None:
        for step in path:
            said = said[step]
        said[key] = value

    return edit


def test_other_weights_can_not_pass_for_those_that_were_judged(release_copy: Path) -> None:
    torch = pytest.importorskip("torch", reason='pip install "facenet-parity[release]"')
    path = release_copy / "rnet.pt"
    state = torch.load(path, weights_only=True)
    state["conv1.bias"][0] += 1
    torch.save(state, path)
    reseal(release_copy)
    said = wrong(release_copy)
    assert "rnet.pt: tensor digest" in said
    assert "rnet.safetensors: not the weights that rnet.pt has" in said
    assert "rnet.parity.json: about" in said
    assert "rnet.conversion.json: made another rnet.pt" in said


def test_a_file_of_another_network_or_format_is_noticed(release_copy: Path) -> None:
    (release_copy / "rnet.pt").write_bytes((release_copy / "pnet.pt").read_bytes())
    (release_copy / "pnet.safetensors").write_bytes((release_copy / "pnet.pt").read_bytes())
    reseal(release_copy)
    said = wrong(release_copy)
    assert "rnet.pt: PNet, not RNet" in said
    assert "pnet.safetensors: torch-zip, not safetensors" in said


def test_what_is_no_weight_file_is_noticed_and_not_run(release_copy: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(release_copy.parent / "run"),)

    (release_copy / "rnet.pt").write_bytes(pickle.dumps(Evil()))
    (release_copy / "pnet.onnx").write_bytes(b"nothing")
    reseal(release_copy)
    said = wrong(release_copy)
    assert "rnet.pt: " in said
    assert "pnet.onnx: " in said
    assert not (release_copy.parent / "run").exists()


FINDING = {"layer": "conv1", "what": "differs", "expected": "", "found": ""}


@pytest.mark.parametrize(
    ("file", "edit", "finding"),
    [
        ("rnet.parity.json", set_in("candidate", "rnet.pt"), "about rnet.pt, not about"),
        ("rnet.parity.json", set_in("architecture", "pnet"), "about pnet"),
        ("rnet.parity.json", set_in("dims", {"embedding": 5}), "with embedding 5, not None"),
        ("rnet.parity.json", set_in("dims", {"other": 5}), "with other 5, not None"),
        ("pnet.onnx.parity.json", set_in("dims", {"classes": 5}), "with classes 5, not None"),
        ("rnet.parity.json", set_in("partial", True), "rnet.parity.json"),
        ("rnet.parity.json", set_in("gates", 0, "status", "skipped"), "gate weights was not"),
        ("rnet.parity.json", set_in("gates", 1, "name", "other"), "gate float64 was not"),
        ("rnet.parity.json", set_in("gates", 2, "name", "other"), "gate float32 was not"),
        ("pnet.onnx.parity.json", set_in("gates", 2, "name", "x"), "gate float32 was not"),
        ("rnet.parity.json", set_in("passed", False), "rnet.parity.json"),
        ("rnet.parity.json", set_in("gates", 1, "measured", 5.0), "float64 passed, its own"),
        ("rnet.parity.json", set_in("gates", 1, "measured", "NaN"), "float64 passed, its own"),
        ("rnet.parity.json", set_in("gates", 0, "findings", [FINDING]), "weights passed, its own"),
        ("rnet.parity.json", set_in("command", "\ud800"), "surrogates not allowed"),
        ("pnet.onnx.parity.json", set_in("candidate", "x"), "not about pnet.onnx"),
        ("rnet.conversion.json", set_in("sources", {"det2.npy": "0" * 64}), "other sources"),
        ("rnet.conversion.json", set_in("schema", "x"), "not the record"),
        ("rnet.conversion.json", set_in("model", "pnet"), "not the record"),
        ("rnet.conversion.json", set_in("conversions", {}), "made another rnet.pt"),
        ("parity.intoto.json", set_in("predicate", "result", "FAILED"), "parity.intoto.json"),
        ("bom.cdx.json", set_in("components", []), "bom.cdx.json"),
    ],
)
def test_evidence_that_does_not_bear_out_the_weights(
    file: str, edit: Callable[[Any], None], finding: str, release_copy: Path
) -> None:
    edited_json(release_copy / file, edit)
    reseal(release_copy)
    assert finding in wrong(release_copy)


@pytest.mark.parametrize(
    "edit",
    [
        lambda said: said.update(partial=True, passed=False),
        lambda said: said.update(
            gates=[*said["gates"], said["gates"][0] | {"name": "more", "status": "failed"}],
            passed=False,
        ),
    ],
)
def test_a_report_of_failure_is_taken_at_its_word(
    edit: Callable[[Any], None], release_copy: Path
) -> None:
    edited_json(release_copy / "rnet.parity.json", edit)
    reseal(release_copy)
    assert "rnet.parity.json: it did not pass" in wrong(release_copy)


def test_a_report_must_say_the_sizes_that_the_manifest_says(release_copy: Path) -> None:
    def edit(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        return replace(manifest, models=(one, replace(two, embedding_size=7)))

    reseal(release_copy, edit)
    said = wrong(release_copy)
    assert "rnet.parity.json: about a network with embedding None, not 7" in said
    assert "rnet.parity.json: the gate task was not passed" in said


def test_evidence_of_one_model_does_not_serve_another(release_copy: Path) -> None:
    def swapped(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        artifacts = tuple(replace(row, evidence=one.evidence) for row in two.artifacts)
        return replace(
            manifest, models=(one, replace(two, artifacts=artifacts, evidence=one.evidence))
        )

    reseal(release_copy, swapped)
    assert "not about rnet.pt" in wrong(release_copy)


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
    assert "more.exe: named in the manifest, and of no use in a release" in wrong(release_copy)


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
    for name in ("rnet.pt: called card; it is weights", "rnet.parity.html: called card"):
        assert name in said
    assert "pnet.onnx: ONNX of logits alone" in said
    assert "pnet.onnx: a tensor digest" in said
    assert "pnet: pnet.onnx stands where pnet-logits.onnx belongs" in said
    assert "pnet: rnet.md stands where pnet.md belongs" in said


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda text: text.replace('"1.0.0"', '"1.0.1"'), "of small 1.0.1"),
        (lambda text: text.replace('"small"', '"other"'), "of other 1.0.0"),
        (lambda text: text[: text.index("[[model]]", 60)], "of other models"),
        (lambda text: text.replace("det2.npy", "det9.npy"), "rnet is made from other sources"),
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


@pytest.mark.parametrize(
    ("part", "form", "dims", "finding"),
    [
        ("all", "pt", {"embedding": 128, "classes": 100}, ""),
        ("features", "pt", {"embedding": 128}, ""),
        ("logits", "safetensors", {"embedding": 128, "classes": 100}, ""),
        ("all", "onnx", {"embedding": 128}, ""),
        ("all", "pt", {"embedding": 128}, "classes 100 was expected, is None"),
        ("logits", "pt", {"embedding": 128}, "classes 100 was expected, is None"),
        ("features", "pt", {"embedding": 128, "classes": 100}, "classes None was expected"),
        ("all", "pt", {"classes": 100}, "embedding 128 was expected"),
        ("all", "onnx", {"embedding": 64}, "embedding 128 was expected, is 64"),
        ("all", "onnx", {"embedding": 128, "classes": 9}, "classes 100 was expected, is 9"),
    ],
)
def test_a_part_has_the_sizes_of_that_part(
    part: Any, form: str, dims: dict[str, int], finding: str, release_maker: Any, tmp_path: Path
) -> None:
    model = release_maker(tmp_path / "r").models[0]
    model = replace(model, architecture="InceptionResnetV1", embedding_size=128, classes=100)
    artifact = Artifact("x", part, form, None, "x")
    found = "; ".join(_misfits(model, "inception_resnet_v1", dims, artifact))
    assert found.startswith(finding)
    assert bool(found) == bool(finding)


def test_what_the_manifest_says_of_a_network_is_held_against_it(release_copy: Path) -> None:
    def edit(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        return replace(manifest, models=(one, replace(two, architecture="ONet")))

    reseal(release_copy, edit)
    assert "rnet.pt: RNet, not ONet" in wrong(release_copy)


def test_without_the_pt_file_nothing_was_judged(release_copy: Path) -> None:
    def edit(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        rest = tuple(row for row in two.artifacts if row.format != "pt")
        return replace(manifest, models=(one, replace(two, artifacts=rest)))

    (release_copy / "rnet.pt").unlink()
    reseal(release_copy, edit)
    assert "rnet: has no .pt file of all its weights" in wrong(release_copy)


def test_sums_that_say_something_else(release_copy: Path) -> None:
    sums = release_copy / SUMS
    sums.write_text(sums.read_text().replace("a", "b", 1))
    assert wrong(release_copy) == f"{SUMS}: not what the manifest says"


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


def test_memory_is_given_back_after_each_tensor(
    small_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[int] = []
    monkeypatch.setattr(MappedFile, "release", lambda _, size: released.append(size))
    check(small_release, NOTHING)
    assert len(released) > 20
    weights = sum(path.stat().st_size for path in small_release.glob("*.safetensors"))
    assert weights < sum(released) < 2 * weights  # in both formats, without their headers


def test_a_part_holds_the_tensors_of_the_whole(release_maker: Any, tmp_path: Path) -> None:
    model = release_maker(tmp_path / "r").models[0]
    rows = [Artifact(f"{part}.pt", part, "pt", None, "x") for part in ("all", "features")]
    model = replace(model, artifacts=tuple(rows))
    contents = Contents(tmp_path)
    contents._tensors = {"all.pt": {"a": "1", "b": "2"}, "features.pt": {"a": "1"}}
    assert list(contents.compare(model)) == []
    for other in ({"a": "2"}, {"c": "1"}):
        contents._tensors["features.pt"] = other
        assert list(contents.compare(model)) == ["features.pt: not the weights that all.pt has"]


def test_places_without_a_release(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="no release here"):
            check(place, NOTHING)
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(UsageError, match="no plain file"):
        check(tmp_path, NOTHING)


def test_parts_must_be_parts_of_the_whole(release_copy: Path) -> None:
    """A `features` file that holds the whole network, or other tensors, is none."""

    def edit(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        main, other = two.artifacts
        return replace(
            manifest,
            models=(one, replace(two, artifacts=(main, replace(other, part="features")))),
        )

    reseal(release_copy, edit)
    assert "rnet.safetensors: all of rnet.pt, not features alone" in wrong(release_copy)
    assert parse((release_copy / MANIFEST).read_bytes()).models[1].artifacts[1].part == "features"
