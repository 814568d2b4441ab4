"""Recipes: their defaults, and all that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_release import recipe_of, write_recipe

from facenet_common.errors import UsageError
from facenet_release.documents.recipe import MAX_BYTES, read
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


def test_all_errors_are_reported_at_once_with_the_paths_of_their_keys(tmp_path: Path) -> None:
    found = findings(WRONG, tmp_path)
    assert [row.partition(":")[0] for row in found] == [
        *("model[1].formats[2]", *["model[2]"] * 3, "model[2].sha256.x"),
        *("model[3]", "model[3].name", "model[3].parts", "model[3].published"),
        *("release", "release.name"),
    ]
    assert "'exe' is not one of" in found[0]
    assert all(key in " ".join(found[1:4]) for key in ("source", "training_set", "licence"))
    assert "'12' does not match" in found[4]
    assert "'colour' was unexpected" in found[5]
    assert "'pnet' is used twice" in found[6]
    assert "'sha256' is a required property" in found[8]
    assert "'version' is a required property" in found[9]


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


def test_two_models_may_not_make_one_file(inputs: Path) -> None:
    recipe = write_recipe(inputs, ("pnet",))
    recipe.write_text(
        recipe.read_text()
        + '[[model]]\nname = "PNet-x"\nsource = "det1.npy"\ntraining_set="x"\nlicence="y"\n'
        + '[[model]]\nname = "pnet-X"\nsource = "det1.npy"\ntraining_set="x"\nlicence="y"\n'
    )
    with pytest.raises(RecipeError, match="used twice"):
        read(recipe)
