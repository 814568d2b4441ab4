"""docs/migrate.md: its code runs in order, and what it says of the names is so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from support.pages import blocks, run_page, section, shell

MIGRATE = "docs/migrate.md"


@pytest.fixture
def folder(
    stand_in_weights: Path, reference_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where the page's code runs: a photograph, trained nets, a state_dict of one's own."""
    monkeypatch.setenv("FACENET_WEIGHTS", str(stand_in_weights))
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    (tmp_path / "mine.pt").symlink_to(stand_in_weights / "20180402-114759-vggface2.pt")
    (tmp_path / "multiface.jpg").symlink_to(reference_dir / "images" / "multiface.jpg")
    return tmp_path


def test_the_code_runs_in_order(folder: Path) -> None:
    names = run_page(MIGRATE, folder)
    assert tuple(names["embeddings"].shape) == (1, 512)  # type: ignore[attr-defined] # a tensor
    assert (folder / "boxes.json").is_file()


def test_the_refusal_shown_is_one(folder: Path) -> None:
    """The page catches an error; without one its example would show nothing."""
    pythons = [block for block in blocks(MIGRATE) if block.language == "python"]
    assert any("except FacenetError" in block.text for block in pythons)
    code = "\n".join(block.text for block in pythons[:-1]).replace("    print(error)", "    raise")
    (folder / "code.py").write_text(code)
    shell("! python code.py 2> trace && grep -q 'fractions of 1' trace", folder)


def test_every_name_that_is_promised_is_there() -> None:
    pytest.importorskip("torch", reason="the networks need torch")
    rows = section(MIGRATE, "Change the import")
    promised = re.findall(r"\| `facenet_models\.(.+?)` \|?", rows)
    names = [name for row in promised for name in re.findall(r"\w+", row)]
    assert {"PNet", "extract_face", "fixed_image_standardization"} <= set(names)
    for name in [*names, "training"]:
        assert hasattr(importlib.import_module("facenet_models"), name), name


def test_every_name_that_is_left_was_there() -> None:
    """The left column names what facenet-pytorch has, as far as the alias knows it."""
    from facenet_models.compat import ALIASES

    rows = section(MIGRATE, "Change the import")
    left = re.findall(r"^\| `(facenet_pytorch\.[\w.]+)\.(\w+)`", rows, re.MULTILINE)
    assert len(left) >= 3
    for module, name in left:
        assert name in ALIASES[module], f"{module}.{name}"
