"""The inputs of a build: found, hashed and compared with the recipe, with all findings at once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.pages import ROOT
from support.small_release import alter, recipe_of, write_recipe

from converter.demo import write_demo
from facenet_common.hashing import sha256_file
from facenet_common.published import FILES
from facenet_release.building.inputs import find_inputs
from facenet_release.documents.recipe import read
from facenet_release.errors import RecipeError, ReleaseError


def wrong_inputs(path: Path, base: Path | None = None) -> str:
    with pytest.raises(RecipeError) as error:
        find_inputs(read(path, base))
    return "\n".join(map(str, error.value.findings))


def test_inputs_are_found_hashed_and_planned(inputs: Path) -> None:
    one, two = find_inputs(read(write_recipe(inputs)))
    assert (one.architecture, dict(one.dims), two.architecture) == ("pnet", {}, "rnet")
    assert [output.file for output in one.outputs] == ["pnet.pt", "pnet.safetensors"]
    data = (inputs / "det1.npy").read_bytes()
    assert [(f.name, f.size, f.sha256) for f in one.files] == [
        ("det1.npy", len(data), hashlib.sha256(data).hexdigest())
    ]


def test_altered_and_missing_inputs_are_all_said_with_their_lines(inputs: Path) -> None:
    recipe = write_recipe(inputs, ("pnet", "rnet", "onet"))
    alter(inputs / "det1.npy")
    (inputs / "det3.npy").unlink()
    said = wrong_inputs(recipe)
    assert "model[1].sha256: pnet: det1.npy is altered" in said
    assert "model[3].source: onet: found no checkpoint" in said
    assert f"nothing at {inputs / 'det3.npy'}" in said
    assert "rnet" not in said


def test_a_missing_hash_is_said_as_it_must_be_written(inputs: Path) -> None:
    text = (
        '[release]\nname = "r"\nversion = "1"\n[[model]]\nname = "mine"\nsource = "det1.npy"\n'
        'training_set = "x"\nlicence = "MIT"\n'
    )
    with pytest.raises(RecipeError) as error:
        find_inputs(recipe_of(inputs, text))
    said = str(error.value.findings[0])
    addition = said.partition(":\n")[2]
    assert "[model.sha256]" in addition
    (one,) = find_inputs(recipe_of(inputs, text + addition))
    assert one.main.file == "mine.pt"


def test_what_a_recipe_says_of_the_network_is_held_against_it(tmp_path: Path) -> None:
    write_demo(tmp_path / "small", embedding=128, classes=0)
    text = '[release]\nname = "r"\nversion = "1"\n[[model]]\nname = "20180402-114759-vggface2"\n'
    text += f'source = "small"\nparts = ["all", "logits"]\nsha256 = {{"other" = "{"0" * 64}"}}\n'
    (tmp_path / "release.toml").write_text(text)
    said = wrong_inputs(tmp_path / "release.toml")
    assert "expected embedding_size 512, found 128 in the source" in said
    assert "expected classes 8631, found None in the source" in said
    assert "the source has no part 'logits'" in said
    assert "other has a hash, but is not among the source's files" in said
    assert "hashes are missing" in said


def test_the_graph_beside_a_checkpoint_is_one_of_its_files(tmp_path: Path) -> None:
    write_demo(tmp_path / "small", embedding=128, classes=0)
    (tmp_path / "small" / "model.ckpt.meta").write_bytes(b"x")
    text = '[release]\nname = "r"\nversion = "1"\n[[model]]\nname = "small"\nsource = "small"\n'
    text += 'training_set = "x"\nlicence = "y"\nclasses = 0\n'  # zero is what it has
    (tmp_path / "release.toml").write_text(text)
    said = wrong_inputs(tmp_path / "release.toml")
    assert f'"model.ckpt.meta" = "{hashlib.sha256(b"x").hexdigest()}"' in said
    assert "expected" not in said


def test_published_weights_must_be_the_ones_named(inputs: Path) -> None:
    more = 'published = { file = "det2.npy", sha256 = "%s" }'
    said = wrong_inputs(write_recipe(inputs, ("pnet",), {"pnet": more % ("0" * 64)}))
    assert "det2.npy is altered" in said
    said = wrong_inputs(
        write_recipe(inputs, ("pnet",), {"pnet": more.replace("det2", "no") % ("0" * 64)})
    )
    assert "the file does not exist" in said


def test_weights_for_pytorch_are_no_source(inputs: Path) -> None:
    from converter.convert import Request, convert

    convert(Request(str(inputs / "det1.npy"), str(inputs / "x.pt")))
    recipe = write_recipe(inputs, ("pnet",), {"pnet": 'source = "x.pt"'})
    assert "expected TensorFlow weights, found torch-zip" in wrong_inputs(recipe)


@pytest.mark.parametrize(
    ("one", "other", "file"),
    [
        ("readme", "other", "readme.md"),  # the release's own, where case makes no difference
        ("a", "A.onnx", "A.onnx.parity.json"),
        ("a", "a.onnx", "a.onnx.parity.html"),
    ],
)
def test_no_model_takes_the_name_of_another_file(
    one: str, other: str, file: str, inputs: Path
) -> None:
    sha256 = sha256_file(inputs / "det1.npy")
    text = '[release]\nname = "r"\nversion = "1"\n'
    for name in (one, other):
        text += f'[[model]]\nname = "{name}"\nsource = "det1.npy"\ntraining_set = "x"\n'
        text += f'licence = "y"\nsha256 = {{ "det1.npy" = "{sha256}" }}\n'
        text += 'formats = ["pt", "onnx"]\n' if name == "a" else ""
    (inputs / "release.toml").write_text(text)
    assert f"{file} would belong to both " in wrong_inputs(inputs / "release.toml")


def test_hashes_that_must_be_added_are_shown_whole(tmp_path: Path) -> None:
    """Those of the published checkpoints, whose files have long names."""
    write_demo(tmp_path / "small", embedding=128, classes=0)
    folder = tmp_path / "20180402-114759"
    folder.mkdir()
    for file in (tmp_path / "small").iterdir():
        name = file.name.replace("model.ckpt", "model-20180402-114759.ckpt-275")
        file.rename(folder / name)
    (folder / "model-20180402-114759.meta").write_bytes(b"x")
    text = '[release]\nname = "r"\nversion = "1"\n[[model]]\nname = "20180402-114759-vggface2"\n'
    with pytest.raises(RecipeError) as error:
        find_inputs(recipe_of(tmp_path, text))
    files = [file for file in folder.iterdir() if file.name.startswith("model-")]
    assert len(files) == 3
    for file in files:
        assert f'"{file.name}" = "{sha256_file(file)}"' in str(error.value)


def test_paths_start_from_the_recipe_or_from_the_folder_that_is_given(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(inputs)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = elsewhere / "r.toml"
    moved.write_bytes(recipe.read_bytes())
    monkeypatch.chdir(elsewhere)
    assert "no checkpoint" in wrong_inputs(moved)
    assert len(find_inputs(read(moved, inputs))) == 2
    monkeypatch.setenv("FACENET_CHECKPOINTS", str(inputs))
    assert len(find_inputs(read(moved))) == 2


def test_all_that_a_model_is_made_of_must_stay_as_it_was(inputs: Path) -> None:
    sha256 = sha256_file(inputs / "det3.npy")
    more = {"rnet": f'published = {{ file = "det3.npy", sha256 = "{sha256}" }}'}
    (one,) = find_inputs(read(write_recipe(inputs, ("rnet",), more)))
    one.require_unchanged()
    for name in ("det2.npy", "det3.npy"):
        data = (inputs / name).read_bytes()
        (inputs / name).write_bytes(data + b"x")
        with pytest.raises(ReleaseError, match="changed during"):
            one.require_unchanged()
        (inputs / name).unlink()
        with pytest.raises(ReleaseError, match="changed during"):
            one.require_unchanged()
        (inputs / name).write_bytes(data)


def test_the_recipe_of_this_repository_has_the_published_hashes() -> None:
    models = read(ROOT / "release.toml").models
    hashes = {name: sha256 for model in models for name, sha256 in model.sha256.items()}
    known = {name: FILES[name].sha256 for name in hashes if name in FILES}
    assert len(known) == 6
    assert {name: sha256 for name, sha256 in hashes.items() if name in known} == known
    assert {name for name in hashes if name not in known} == {"det1.npy", "det2.npy", "det3.npy"}
