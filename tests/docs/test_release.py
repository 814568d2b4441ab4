"""docs/release.md: its commands run and print what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pages import (
    ROOT,
    Block,
    blocks,
    run_blocks,
    section,
)

from facenet_release.documents.recipe import read

PAGE = "docs/release.md"
FORMS = ("facenet release check PLACE", "FACENET_WEIGHTS=oci://")  # text that shows what to type


def steps() -> list[Block]:
    return [block for block in blocks(PAGE) if not block.text.startswith(FORMS)]


@pytest.mark.tensorflow
@pytest.mark.timeout(1200)
def test_the_page_can_be_followed(tmp_path: Path) -> None:
    run_blocks(steps(), PAGE, tmp_path)
    assert (tmp_path / "published" / "model.sig").is_file()


def test_every_key_of_a_recipe_is_documented() -> None:
    import json

    schema = json.loads(
        (ROOT / "facenet_release" / "documents" / "recipe-1.schema.json").read_text()
    )
    rows = re.findall(r"^\| (`.*?`) \|", section(PAGE, "The recipe"), re.MULTILINE)
    keys = {key.strip("`") for row in rows for key in row.split(", ")}
    assert keys == set(schema["$defs"]["model"]["properties"])


def test_the_repositorys_own_recipe_is_one() -> None:
    recipe = read(ROOT / "release.toml")
    names = ["20180402-114759-vggface2", "20180408-102900-casia-webface", "pnet", "rnet", "onet"]
    assert [model.name for model in recipe.models] == names
