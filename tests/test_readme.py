"""Everything that the READMEs tell a user to type works, and both READMEs tell the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from converter.architectures import PNET
from converter.digest import digest
from converter.resolve import resolve

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CHINESE = ROOT / "README_cn.md"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)\)")

# Blocks that are not run here, by how they start, with the reason.
EXEMPT = {
    "make convert": "installs from a package registry; what it runs then is tested below",
    "make test": "runs this test",
}


class Block(NamedTuple):
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    return [Block(*match) for match in BLOCK.findall(path.read_text(encoding="utf-8"))]


def prose(path: Path) -> str:
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


def exempt(block: Block) -> bool:
    return any(block.text.startswith(start) for start in EXEMPT)


def needs_torch(block: Block) -> bool:
    return "import torch" in block.text


def run(block: Block, folder: Path) -> str:
    """Run a block in `folder` with this Python's scripts first on the path; return its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    call = {
        "sh": ["bash", "-euo", "pipefail", "-c", block.text],
        "python": [sys.executable, "-c", block.text],
    }[block.language]
    done = subprocess.run(
        call,
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README names: stand-ins of full size."""
    folder = tmp_path_factory.mktemp("readme")
    write = [sys.executable, "-m", "converter.demo", str(folder / "20180402-114759")]
    subprocess.run(write, check=True, capture_output=True)
    layers: dict[str, dict[str, np.ndarray]] = {}
    for rule in PNET.rules:
        layer, parameter = rule.source.split("/")
        layers.setdefault(layer, {})[parameter] = np.ones(rule.shape, np.float32)  # type: ignore[arg-type] # P-Net has no named sizes
    np.save(folder / "det1.npy", layers, allow_pickle=True)  # type: ignore[arg-type] # a dict, as in det1.npy
    return folder


@pytest.fixture
def folder(demo: Path, tmp_path: Path) -> Path:
    """A fresh folder with links to the README's files."""
    for file in demo.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_commands_and_snippets_run_in_order(folder: Path) -> None:
    for block in blocks(README):
        elsewhere = exempt(block) or needs_torch(block) or "verify" in block.text
        if block.language in ("sh", "python") and not elsewhere:
            run(block, folder)
    assert (folder / "vggface2.pt").is_file()


def test_snippets_with_torch(folder: Path) -> None:
    pytest.importorskip("torch")
    convert, *_ = (b for b in blocks(README) if b.text.startswith("convert"))
    run(convert, folder)
    use, own_digest = (b for b in blocks(README) if needs_torch(b))
    assert run(use, folder).strip() == "torch.Size([1, 512])"
    expected = digest(resolve(str(folder / "vggface2.pt")).open())
    assert run(own_digest, folder).strip() == expected


@pytest.mark.tensorflow
def test_the_commands_that_verify(folder: Path) -> None:
    convert, verify, record = (
        b for b in blocks(README) if b.language == "sh" and "verify" in b.text
    )
    assert "5 of 5 embeddings" in run(convert, folder)
    (folder / "verified.pt").rename(folder / "vggface2.pt")
    assert run(verify, folder).startswith("PASSED")
    assert "PASSED" in run(record, folder)
    assert (folder / "report.html").is_file()
    assert (folder / "parity.xml").is_file()


def test_the_output_shown_is_the_output(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "20180402-demo").symlink_to(demo / "20180402-114759")
    call = "convert --checkpoint demo/20180402-demo --out demo/20180402-demo.pt"
    (shown,) = (b.text for b in blocks(README) if b.language == "text")
    pattern = re.escape(shown).replace("…", ".+")
    printed = run(Block("sh", call), tmp_path)
    assert re.fullmatch(pattern, printed), f"{shown}\n--- is now ---\n{printed}"


@pytest.mark.parametrize("block", [b for b in blocks(README) if b.language not in ("sh", "python")])
def test_blocks_that_are_not_run_are_output(block: Block) -> None:
    assert block.language == "text"


def test_every_exemption_is_used() -> None:
    for start in EXEMPT:
        assert any(block.text.startswith(start) for block in blocks(README)), start


def test_a_block_that_fails_is_caught(tmp_path: Path) -> None:
    for block in (Block("sh", "false\ntrue\n"), Block("python", "raise SystemExit(3)\n")):
        with pytest.raises(AssertionError):
            run(block, tmp_path)


# --- the Chinese README


def test_both_have_the_same_blocks() -> None:
    assert blocks(CHINESE) == blocks(README)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(HEADING.findall, id="headings"),
        pytest.param(re.compile(r"^\|", re.MULTILINE).findall, id="table rows"),
        pytest.param(re.compile(r"^- ", re.MULTILINE).findall, id="list items"),
        pytest.param(lambda text: sorted(set(re.findall(r"`[^`\n]+`", text))), id="code"),
    ],
)
def test_both_have_the_same_structure(part: Callable[[str], list[str]]) -> None:
    assert part(prose(CHINESE)) == part(prose(README))


def links() -> Iterator[tuple[Path, str]]:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        yield from ((path, target) for target in LINK.findall(path.read_text(encoding="utf-8")))


def test_links_within_the_project_lead_somewhere() -> None:
    for path, target in links():
        assert (path.parent / target).exists(), f"{path.name}: {target}"
