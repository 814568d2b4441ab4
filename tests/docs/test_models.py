"""docs/models.md: its code runs, its outputs are what is printed, its tables are complete."""

from __future__ import annotations

import os
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from support.pages import (
    ROOT,
    Block,
    assert_output,
    blocks,
    page,
    python,
    section,
    shell,
)

from facenet_models.weights.registry import Pretrained

PAGE = "docs/models.md"
DOCS = page(PAGE)
BLOCKS = blocks(PAGE)
SHELL = [block for block in BLOCKS if block.language == "sh"]
EXEMPT = {"pip install": "installs from a package registry"}  # a block's start, and the reason


def exempt(block: Block) -> bool:
    return any(block.text.startswith(start) for start in EXEMPT)


# --- The code -------------------------------------------------------------------------------------


@pytest.fixture
def folder(
    stand_in_weights: Path, reference_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working folder that the page assumes: photographs, people, a small LFW, a script."""
    monkeypatch.setenv("FACENET_WEIGHTS", str(stand_in_weights))
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), "/bin:/usr/bin"]))
    monkeypatch.chdir(tmp_path)
    images = reference_dir / "images"
    Path("video.mp4").symlink_to(reference_dir / "video" / "video.mp4")
    Path("multiface.jpg").symlink_to(images / "multiface.jpg")
    Path("20180402-114759-vggface2.pt").symlink_to(stand_in_weights / "20180402-114759-vggface2.pt")
    people = {"Ann": "multiface", "Bob": "Anthony_Hopkins_000"}
    for name, file in people.items():
        for number in (1, 2):
            source = images / f"{file}{number if name == 'Bob' else ''}.jpg"
            for link in (
                Path("people", name, f"{number}.jpg"),
                Path("lfw", name, f"{name}_000{number}.jpg"),
            ):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
    fold = "Ann\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t1\nAnn\t2\tBob\t2\n"
    Path("pairs.txt").write_text("10\t2\n" + 10 * fold)
    Path("script.py").write_text("import sys, facenet_pytorch\nprint(sys.argv[1:])\n")
    return tmp_path


def test_the_python_code_runs_in_order(folder: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the page says what optimize does with it")
    pytest.importorskip("av", reason="the page reads a video")
    names: dict[str, object] = {}
    before = set(sys.modules)
    try:
        for block in BLOCKS:
            if block.language == "python":
                python(block.text, PAGE, names)
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "facenet_pytorch":
                del sys.modules[name]
    assert {"face.png", "all.png", "all_2.png", "one.png", "gallery.npz"} <= {
        path.name for path in folder.iterdir()
    }
    assert names["nearest"].label == "Ann"  # type: ignore[attr-defined] # a Match
    assert names["img_embedding"].shape == (1, 512)  # type: ignore[attr-defined] # a tensor


@pytest.mark.parametrize("block", [b for b in SHELL if not exempt(b)], ids=lambda b: b.text[:20])
def test_the_commands_run(block: Block, folder: Path) -> None:
    for module in ("onnxruntime", "matplotlib", "av"):
        pytest.importorskip(module, reason=f"the commands of the page need {module}")
    output = shell(block.text, folder)
    after = BLOCKS[BLOCKS.index(block) + 1]
    if after.language == "text":
        assert_output(after.text, output)


def test_every_block_is_tested() -> None:
    assert {block.language for block in BLOCKS} == {"python", "sh", "text"}
    for before, block in pairwise(BLOCKS):
        assert block.language != "text" or before.language == "sh"
    for start in EXEMPT:
        assert any(block.text.startswith(start) for block in SHELL), start


# --- The tables -----------------------------------------------------------------------------------


def test_every_weight_file_is_documented() -> None:
    shown = section(PAGE, "Weights")
    for weights in (entry.value for entry in Pretrained):
        classes, accuracy = weights.classes or "", weights.lfw_accuracy or ""
        row = f"| `{weights.name}` | `{weights.file}` | {weights.training_set} |"
        assert f"{row} {classes} | {accuracy} |".replace("  ", " ") in shown


@pytest.mark.parametrize("variable", ["WEIGHTS", "MIRROR", "OFFLINE"])
def test_every_variable_is_documented(variable: str) -> None:
    assert f"`FACENET_{variable}" in DOCS


def test_no_variable_is_missing() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "facenet_models").rglob("*.py"))
    named = {name for source in sources for name in re.findall(r'"(FACENET_\w+)"', source)}
    assert named == {"FACENET_WEIGHTS", "FACENET_MIRROR", "FACENET_OFFLINE"}
