"""The build of one model: its steps, its gates, its comparison with published weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.small_release import write_recipe

from facenet_common.errors import ParityFailedError
from facenet_common.hashing import sha256_file
from facenet_release.building.build import build
from facenet_release.building.inputs import ModelInput, find_inputs
from facenet_release.building.job import Job
from facenet_release.building.staging import Staging
from facenet_release.documents.recipe import read

pytestmark = pytest.mark.tensorflow


def test_a_step_is_known_by_all_that_it_depends_on(inputs: Path) -> None:
    (one,) = find_inputs(read(write_recipe(inputs, ("rnet",))))

    def key(given: ModelInput) -> str:
        return Job(given, Staging(inputs / "dist")).conversions()[0].key

    altered = replace(one, files=(replace(one.files[0], sha256="0" * 64),))
    renamed = replace(one, model=replace(one.model, name="other"))
    part = replace(one, outputs=(replace(one.outputs[0], part="features"),))
    assert len({key(given) for given in (one, replace(one), altered, renamed, part)}) == 4


@pytest.mark.usefixtures("in_process")
def test_weights_that_fail_a_gate_are_not_released(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parity_tests import verify as verifying

    before = verifying.verify

    def failing(*args: Any, **kwargs: Any) -> Any:
        report = before(*args, **kwargs)
        if "rnet" not in str(args[1]):
            return report
        gates = [replace(report.gates[0], status="failed"), *report.gates[1:]]
        return replace(report, gates=tuple(gates))

    monkeypatch.setattr(verifying, "verify", failing)
    out = inputs / "dist"
    with pytest.raises(ParityFailedError, match="rnet failed a gate") as error:
        build(read(write_recipe(inputs)), out)
    assert not out.exists()
    page = Path(str(error.value.file))
    assert page.parent == Staging(out).failed
    assert "failed" in page.read_text(encoding="utf-8")
    assert not (Staging(out).release / "rnet.parity.json").exists()


@pytest.mark.usefixtures("in_process")
def test_comparison_with_what_was_published(inputs: Path) -> None:
    import torch

    from converter.convert import Request, convert

    convert(Request(str(inputs / "det1.npy"), str(inputs / "old.pt")))
    convert(Request(str(inputs / "det2.npy"), str(inputs / "other.pt")))
    state = torch.load(inputs / "other.pt", weights_only=True)
    bits = state["conv1.bias"].view(torch.int32)
    bits[0] += 3
    state["conv2.bias"].view(torch.int32)[1] += 1
    torch.save(state, inputs / "other.pt")
    more = {
        net: f'published = {{ file = "{file}", sha256 = "{sha256_file(inputs / file)}" }}'
        for net, file in (("pnet", "old.pt"), ("rnet", "other.pt"), ("onet", "old.pt"))
    }
    recipe = read(write_recipe(inputs, ("pnet", "rnet", "onet"), more))  # O-Net's is of another net
    built = build(recipe, inputs / "dist")
    assert built.jobs is not None
    verdicts = [job.result.comparison for job in built.jobs]
    assert verdicts == ["identical", "<= 3 ULP", "differs"]
    said = json.loads((inputs / "dist" / "rnet.conversion.json").read_bytes())["published"]
    kinds = {row["name"]: row["kind"] for row in said["tensors"]}
    assert [kinds.pop(f"conv{i}.bias") for i in (1, 2)] == ["differs"] * 2
    assert set(kinds.values()) == {"identical"}


@pytest.mark.usefixtures("in_process")
def test_another_comparison_is_made_anew(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from converter.convert import Request, convert

    convert(Request(str(inputs / "det2.npy"), str(inputs / "old.pt")))
    more = f'published = {{ file = "old.pt", sha256 = "{sha256_file(inputs / "old.pt")}" }}'
    recipe = read(write_recipe(inputs, ("rnet",)))
    with monkeypatch.context() as patch:
        patch.setattr(
            "facenet_release.building.build.assemble", None
        )  # so all steps are done, and kept
        with pytest.raises(TypeError):
            build(recipe, inputs / "dist")
    built = build(read(write_recipe(inputs, ("rnet",), {"rnet": more})), inputs / "dist")
    assert built.jobs is not None
    assert [done.result.comparison for done in built.jobs] == ["identical"]
