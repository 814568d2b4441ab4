"""The published models: what is said about their input, and the names of early 2017."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import fakes
from support.commands import run

from converter.convert import Request, convert
from converter.demo import write_demo
from converter.resolve import resolve
from converter.sandberg import FIXED, MODELS, PER_IMAGE, RENAMED


def _published_in_2017(folder: Path) -> tuple[Path, Path]:
    """Write the demo network twice: by today's names, and by those of February 2017."""
    write_demo(folder / "today", embedding=4, classes=3)
    arrays = {name: ref.load() for name, ref in resolve(str(folder / "today")).open().items()}
    old = {new: old for old, new in RENAMED.items()}
    renamed = {old.get(name, name): array for name, array in arrays.items()}
    name = "20170216-091149"
    fakes.write_bundle(folder / name, renamed, f"model-{name}.ckpt-250000")
    return folder / "today", folder / name


def test_the_bottleneck_outside_the_scope(tmp_path: Path) -> None:
    today, old = _published_in_2017(tmp_path)
    assert {"Bottleneck/weights", "Bottleneck/BatchNorm/beta"} < RENAMED.keys()
    one = convert(Request(str(today), str(tmp_path / "today.pt")))
    two = convert(Request(str(old), str(tmp_path / "old.pt")))
    assert one.digest == two.digest
    notes = json.loads(run("inspect", old, "--json").stdout)["notes"]
    assert notes == list(two.plan.notes)
    assert "4 tensors Bottleneck/… lie outside" in notes[1]
    assert PER_IMAGE in notes[0]
    assert one.plan.notes == ()


def test_both_names_of_a_tensor_are_no_renaming(tmp_path: Path) -> None:
    """One of today's names is there already: the others are missing, not renamed."""
    _, old = _published_in_2017(tmp_path)
    arrays = {name: ref.load() for name, ref in resolve(str(old)).open().items()}
    extra = arrays | {"Bottleneck/weights": np.zeros((1792, 4), np.float32)}
    prefix = fakes.write_bundle(tmp_path / "both", extra)
    assert "Bottleneck/weights" in resolve(str(prefix)).open()


@pytest.mark.parametrize("name", MODELS)
def test_each_published_model_says_what_it_was_fed(name: str, tmp_path: Path) -> None:
    prefix = fakes.write_bundle(tmp_path / name, fakes.pnet_arrays(), f"model-{name}.ckpt-1")
    (graph,) = [tmp_path / f"{name}.pb"]
    graph.write_bytes(fakes.frozen_graph(fakes.pnet_arrays()))
    wanted = FIXED if name.startswith("2018") else PER_IMAGE
    for source in (prefix, graph):
        notes = resolve(str(source)).open().notes
        assert sum(note.endswith(f"trained on this input: {wanted}") for note in notes) == 1
        assert f"the model of the name {name} (" in " ".join(notes)
    assert MODELS[name].embedding == (512 if name.startswith("2018") else 128)
