"""The check of weight files and their evidence finds forgeries in which all hashes agree."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import release_data as data
from support.small_release import findings as wrong
from support.small_release import reseal

from converter.digest import Digest, tensor_sha256
from converter.sources import open_source
from converter.sources.mapped_file import MappedFile
from facenet_release.checking.check import CheckOptions, check
from facenet_release.checking.models import WeightFiles
from facenet_release.documents.manifest import MANIFEST, Artifact, Manifest, parse
from facenet_release.errors import CheckFailedError

pytestmark = pytest.mark.tensorflow
FINDING = {"layer": "conv1", "what": "differs", "expected": "", "found": ""}


def write_weights(path: Path, tensors: dict[str, float]) -> str | None:
    """Write a weight file of tensors of one number each; return its digest, None for ONNX."""
    arrays = {name: np.array([value], np.float32) for name, value in tensors.items()}
    if path.suffix == ".onnx":
        path.write_bytes(b"which is not read")
        return None
    if path.suffix == ".pt":
        torch = pytest.importorskip("torch", reason='pip install "facenet-parity[torch]"')
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    else:
        files = pytest.importorskip("safetensors.numpy", reason="comes with the extra torch")
        files.save_file(arrays, path)
    digest = Digest()
    for ref in open_source(path).values():
        digest.add(ref, tensor_sha256(ref.load()))
    return digest.hexdigest()


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
    assert "rnet.pt: expected tensor digest" in said
    assert "rnet.safetensors: its tensors differ from those of rnet.pt" in said
    assert "rnet.parity.json: it judged" in said
    assert "rnet.conversion.json: rnet.pt differs from the manifest" in said


def test_a_file_of_another_network_or_format_is_noticed(release_copy: Path) -> None:
    (release_copy / "rnet.pt").write_bytes((release_copy / "pnet.pt").read_bytes())
    (release_copy / "pnet.safetensors").write_bytes((release_copy / "pnet.pt").read_bytes())
    reseal(release_copy)
    said = wrong(release_copy)
    assert "rnet.pt: expected RNet, found PNet" in said
    assert "pnet.safetensors: expected format safetensors, found torch-zip" in said


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


@pytest.mark.parametrize(
    ("file", "edit", "finding"),
    [
        (
            "rnet.parity.json",
            set_in("candidate", "rnet.pt"),
            "it judged rnet.pt, not rnet.pt",
        ),
        ("rnet.parity.json", set_in("architecture", "pnet"), "expected RNet, found PNet"),
        ("rnet.parity.json", set_in("dims", {"embedding": 5}), "expected embedding None, found 5"),
        ("rnet.parity.json", set_in("dims", {"other": 5}), "expected other None, found 5"),
        ("pnet.onnx.parity.json", set_in("dims", {"classes": 5}), "expected classes None, found 5"),
        ("rnet.parity.json", set_in("partial", True), "rnet.parity.json"),
        ("rnet.parity.json", set_in("gates", 0, "status", "skipped"), "gate weights did not pass"),
        ("rnet.parity.json", set_in("gates", 1, "name", "other"), "gate float64 did not pass"),
        ("rnet.parity.json", set_in("gates", 2, "name", "other"), "gate float32 did not pass"),
        ("pnet.onnx.parity.json", set_in("gates", 2, "name", "x"), "gate float32 did not pass"),
        ("rnet.parity.json", set_in("passed", False), "rnet.parity.json"),
        (
            "rnet.parity.json",
            set_in("gates", 1, "measured", 5.0),
            "float64 is marked as passed",
        ),
        (
            "rnet.parity.json",
            set_in("gates", 1, "measured", "NaN"),
            "float64 is marked as passed",
        ),
        (
            "rnet.parity.json",
            set_in("gates", 0, "findings", [FINDING]),
            "weights is marked as passed",
        ),
        ("rnet.parity.json", set_in("command", "\ud800"), "surrogates not allowed"),
        ("pnet.onnx.parity.json", set_in("candidate", "x"), "not pnet.onnx of this release"),
        ("rnet.conversion.json", set_in("sources", {"det2.npy": "0" * 64}), "its sources differ"),
        ("rnet.conversion.json", set_in("schema", "x"), "not the conversion record"),
        ("rnet.conversion.json", set_in("model", "pnet"), "not the conversion record"),
        ("rnet.conversion.json", set_in("conversions", {}), "rnet.pt differs"),
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
    assert "rnet.parity.json: the report did not pass" in wrong(release_copy)


def test_a_report_must_say_the_sizes_that_the_manifest_says(release_copy: Path) -> None:
    def edit(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        return replace(manifest, models=(one, replace(two, embedding_size=7)))

    reseal(release_copy, edit)
    said = wrong(release_copy)
    assert "rnet.parity.json: expected embedding 7, found None" in said
    assert "rnet.parity.json: the gate task did not pass" in said


def test_evidence_of_one_model_does_not_serve_another(release_copy: Path) -> None:
    def swapped(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        artifacts = tuple(replace(row, evidence=one.evidence) for row in two.artifacts)
        return replace(
            manifest, models=(one, replace(two, artifacts=artifacts, evidence=one.evidence))
        )

    reseal(release_copy, swapped)
    assert "not rnet.pt of this release" in wrong(release_copy)


@pytest.mark.parametrize(
    ("part", "format", "dims", "finding"),
    [
        ("all", "pt", {"embedding": 128, "classes": 100}, ""),
        ("features", "pt", {"embedding": 128}, ""),
        ("logits", "safetensors", {"embedding": 128, "classes": 100}, ""),
        ("all", "onnx", {"embedding": 128}, ""),
        ("all", "pt", {"embedding": 128}, "expected classes 100, found None"),
        ("logits", "pt", {"embedding": 128}, "expected classes 100, found None"),
        ("features", "pt", {"embedding": 128, "classes": 100}, "expected classes None, found 100"),
        ("all", "pt", {"classes": 100}, "expected embedding 128, found None"),
        ("all", "onnx", {"embedding": 64}, "expected embedding 128, found 64"),
        ("all", "onnx", {"embedding": 128, "classes": 9}, "expected classes 100, found 9"),
    ],
)
def test_a_part_has_the_sizes_of_that_part(
    part: str,
    format: str,
    dims: dict[str, int],
    finding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file of two tensors stands for the network whose sizes are given."""
    architecture = SimpleNamespace(name="inception_resnet_v1")
    plan = SimpleNamespace(architecture=architecture, dims=dims)
    monkeypatch.setattr("facenet_release.checking.models.make_plan", lambda *_, **__: plan)
    monkeypatch.setattr(
        "parity_tests.candidate.onnx.facts.onnx_facts", lambda *_: (architecture.name, dims)
    )
    digest = write_weights(tmp_path / f"x.{format}", {"a": 1.0})
    artifact = Artifact(f"x.{format}", part, format, digest, "x")
    model = replace(data.FACE, embedding_size=128, classes=100, artifacts=(artifact,))
    found = WeightFiles(tmp_path).check(model, artifact)
    assert found == ([f"x.{format}: {finding}"] if finding else [])


def test_an_unknown_architecture_is_refused(release_copy: Path) -> None:
    def edit(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        return replace(manifest, models=(one, replace(two, architecture="VGG16")))

    reseal(release_copy, edit)
    with pytest.raises(CheckFailedError, match=r"expected an architecture among .*, found VGG16"):
        parse((release_copy / MANIFEST).read_bytes())


def test_what_the_manifest_says_of_a_network_is_held_against_it(release_copy: Path) -> None:
    def edit(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        return replace(manifest, models=(one, replace(two, architecture="ONet")))

    reseal(release_copy, edit)
    assert "rnet.pt: expected ONet, found RNet" in wrong(release_copy)


def test_without_the_pt_file_nothing_was_judged(release_copy: Path) -> None:
    def edit(manifest: Manifest) -> Manifest:
        one, two = manifest.models
        rest = tuple(row for row in two.artifacts if row.format != "pt")
        return replace(manifest, models=(one, replace(two, artifacts=rest)))

    (release_copy / "rnet.pt").unlink()
    reseal(release_copy, edit)
    assert "rnet: no .pt file of the whole network" in wrong(release_copy)


def test_memory_is_given_back_after_each_tensor(
    small_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[int] = []
    monkeypatch.setattr(MappedFile, "release", lambda _, size: released.append(size))
    check(small_release, CheckOptions())
    assert len(released) > 20
    weights = sum(path.stat().st_size for path in small_release.glob("*.safetensors"))
    assert weights < sum(released) < 2 * weights  # in both formats, without their headers


@pytest.mark.parametrize(
    ("tensors", "finding"),
    [
        ({"a": 1.0}, ""),
        ({"a": 2.0}, "its tensors differ from those of all.safetensors"),
        ({"c": 1.0}, "its tensors differ from those of all.safetensors"),
        ({"a": 1.0, "b": 2.0}, "holds all tensors of all.safetensors, expected only features"),
    ],
)
def test_a_part_holds_the_tensors_of_the_whole(
    tensors: dict[str, float], finding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = SimpleNamespace(architecture=SimpleNamespace(name="inception_resnet_v1"), dims={})
    monkeypatch.setattr("facenet_release.checking.models.make_plan", lambda *_, **__: plan)
    artifacts = []
    for part, rows in (("all", {"a": 1.0, "b": 2.0}), ("features", tensors)):
        name = f"{part}.safetensors"
        digest = write_weights(tmp_path / name, rows)
        artifacts.append(Artifact(name, part, "safetensors", digest, "x"))
    model = replace(data.FACE, embedding_size=None, classes=None, artifacts=tuple(artifacts))
    files = WeightFiles(tmp_path)
    assert [files.check(model, artifact) for artifact in artifacts] == [[], []]
    found = files.compare(model)
    assert found == ([f"features.safetensors: {finding}"] if finding else [])


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
    assert "rnet.safetensors: holds all tensors of rnet.pt, expected only features" in wrong(
        release_copy
    )
    assert parse((release_copy / MANIFEST).read_bytes()).models[1].artifacts[1].part == "features"
