"""Recipes: what they say, what is wrong with them and in which line, and what they stand for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_release import alter, recipe_of, write_recipe

from converter.demo import write_demo
from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_release.building.inputs import _altered, find_inputs
from facenet_release.documents.manifest import Source
from facenet_release.documents.recipe import MAX_BYTES, _model, read, tomllib
from facenet_release.documents.recipe_lines import line_of, lines
from facenet_release.errors import RecipeError

WRONG = """\
# a comment
[release]
name = "a b"

[[model]]
name = "pnet"
formats = [
  "pt",
  "exe",
]

[[model]]
name = "mine"
sha256 = { "x" = "12" }
[[model]]
name = "pnet"
parts = ["features"]
colour = 1
[model.published]
file = "x"
"""


def findings(text: str, folder: Path) -> list[str]:
    with pytest.raises(RecipeError) as error:
        recipe_of(folder, text)
    assert error.value.exit_code == 2
    return [str(finding) for finding in error.value.findings]


def test_everything_that_is_wrong_is_said_at_once_with_its_line(tmp_path: Path) -> None:
    found = findings(WRONG, tmp_path)
    assert [row.partition(":")[0] for row in found] == [
        *("line 2", "line 3", "line 7"),
        *["line 12"] * 3,
        *("line 14", "line 15", "line 16", "line 17", "line 19"),
    ]
    assert "'version' is a required property" in found[0]
    assert "release.name" in found[1]
    assert "model[1].formats[2]: 'exe'" in found[2]
    assert all(key in " ".join(found[3:6]) for key in ("source", "training_set", "licence"))
    assert "model[2].sha256.x" in found[6]
    assert "'colour' was unexpected" in found[7]
    assert "'pnet' is used twice" in found[8]
    assert "model[3].parts" in found[9]


def test_what_is_no_toml_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "line 2" in findings("[release]\nname = \n", tmp_path)[0]
    (tmp_path / "r.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(RecipeError, match="not TOML"):
        read(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match="too large"):
        read(tmp_path / "r.toml")
    with pytest.raises(UsageError, match="can't be read"):
        read(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 20_000,
        "x = " + "[" * 200 + "]" * 200,
        "a" + ".a" * 3000 + " = 1",
        "x = 1" + "0" * 5000,
    ],
)
def test_what_only_a_forger_would_write_is_refused(text: str, tmp_path: Path) -> None:
    assert findings(text, tmp_path)


def test_lines_end_where_toml_has_them_end(tmp_path: Path) -> None:
    text = "# a\u2028b\x85c\r\n[release]\r\nname = 3\r\n"
    assert "line 3: release.name" in "".join(findings(text, tmp_path))


@pytest.mark.parametrize(
    "text", ["", "model = 3\nrelease = 4", "[[release]]\n[model]", "model = [1]"]
)
def test_the_wrong_kinds_of_values_are_findings_too(text: str, tmp_path: Path) -> None:
    assert findings(text, tmp_path)


def test_published_models_have_defaults(inputs: Path) -> None:
    recipe = recipe_of(
        inputs,
        '[release]\nname = "r"\nversion = "1"\n[[model]]\nname = "20180402-114759-vggface2"\n'
        '[[model]]\nname = "onet"\nnotes = "mine"\n',
    )
    large, small = recipe.models
    assert (large.source, large.classes, large.embedding_size) == ("20180402-114759", 8631, 512)
    assert large.training_set == "VGGFace2"
    assert "MIT" in large.licence
    assert large.sha256 == {}
    assert (small.source, small.image_size, small.notes) == ("det3.npy", (48, 48), "mine")
    assert list(small.sha256) == ["det3.npy"]


# --- inputs


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
    assert "line 7: pnet: det1.npy is altered" in said
    assert "line 15: onet: found no checkpoint" in said
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
    assert "embedding_size 512 was expected, the source has 128" in said
    assert "classes 8631 was expected, the source has None" in said
    assert "'logits': the source has no parts" in said
    assert "other has a hash, but is not among the source's files" in said
    assert "no hash of what it starts from" in said


def test_the_graph_beside_a_checkpoint_is_one_of_its_files(tmp_path: Path) -> None:
    write_demo(tmp_path / "small", embedding=128, classes=0)
    (tmp_path / "small" / "model.ckpt.meta").write_bytes(b"x")
    text = '[release]\nname = "r"\nversion = "1"\n[[model]]\nname = "small"\nsource = "small"\n'
    text += 'training_set = "x"\nlicence = "y"\nclasses = 0\n'  # zero is what it has
    (tmp_path / "release.toml").write_text(text)
    said = wrong_inputs(tmp_path / "release.toml")
    assert f'"model.ckpt.meta" = "{hashlib.sha256(b"x").hexdigest()}"' in said
    assert "was expected" not in said


def test_published_weights_must_be_the_ones_named(inputs: Path) -> None:
    more = 'published = { file = "det2.npy", sha256 = "%s" }'
    said = wrong_inputs(write_recipe(inputs, ("pnet",), {"pnet": more % ("0" * 64)}))
    assert "det2.npy is altered" in said
    said = wrong_inputs(
        write_recipe(inputs, ("pnet",), {"pnet": more.replace("det2", "no") % ("0" * 64)})
    )
    assert "no such file" in said


def test_weights_for_pytorch_are_no_source(inputs: Path) -> None:
    from converter.convert import Request, convert

    convert(Request(str(inputs / "det1.npy"), str(inputs / "x.pt")))
    recipe = write_recipe(inputs, ("pnet",), {"pnet": 'source = "x.pt"'})
    assert "starts from TensorFlow's weights" in wrong_inputs(recipe)


def test_two_models_may_not_make_one_file(inputs: Path) -> None:
    recipe = write_recipe(inputs, ("pnet",))
    recipe.write_text(
        recipe.read_text()
        + '[[model]]\nname = "PNet-x"\nsource = "det1.npy"\ntraining_set="x"\nlicence="y"\n'
        + '[[model]]\nname = "pnet-X"\nsource = "det1.npy"\ntraining_set="x"\nlicence="y"\n'
    )
    with pytest.raises(RecipeError, match="used twice"):
        read(recipe)


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
    assert f"{file} would be of " in wrong_inputs(inputs / "release.toml")


def test_hashes_that_must_be_written_are_shown_whole() -> None:
    """Those of the published checkpoints, whose files have long names."""
    names = ["model-20180402-114759.ckpt-275." + end for end in ("data-00000-of-00001", "index")]
    files = tuple(Source(name, 1, "0" * 63 + str(i)) for i, name in enumerate([*names, "x.meta"]))
    text = '[release]\nname = "r"\nversion = "1"\n[[model]]\nname = "20180402-114759-vggface2"\n'
    recipe = tomllib.loads(text)["model"][0]
    (finding,) = _altered(_model(recipe), files)
    said = str(RecipeError("wrong", [f"line 4: {recipe['name']}: {finding}"]))
    for file in files:
        assert f'"{file.name}" = "{file.sha256}"' in said


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


# --- lines

names = st.from_regex(r"[a-c]", fullmatch=True)
values = st.sampled_from(["1", '"x"', "[\n 1,\n 2,\n]", '"""a\n\nb"""', "{ q = 1, r = [2] }"])


@given(st.lists(st.tuples(st.integers(0, 3), names, st.lists(values, max_size=3))))
def test_lines_are_those_of_the_text(tables: list[tuple[int, str, list[str]]]) -> None:
    text, expected = "", {}
    counts: dict[str, int] = {}
    for blank, name, given_values in tables:
        text += "# note\n" * blank
        counts[name] = counts.get(name, -1) + 1
        place = (name, counts[name])
        expected[place] = text.count("\n") + 1
        text += f"[[{name}]]\n"
        for i, value in enumerate(given_values):
            expected[(*place, f"k{i}")] = text.count("\n") + 1
            text += f"k{i} = {value}\n\n"
    found = lines(text)
    assert expected.items() <= found.items()
    for place, line in expected.items():
        assert line_of(found, (*place, "absent", 7)) == line
