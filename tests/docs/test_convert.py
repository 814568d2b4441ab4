"""docs/convert.md says what the program says: its help, what it drops, its receipt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.pages import blocks, inside, page, python, section

from converter.architectures import INCEPTION_RESNET_V1
from converter.cli.convert import command
from converter.convert import Request, convert
from converter.demo import write_demo

PAGE = "docs/convert.md"
DOCS = page(PAGE)


def test_the_help_shown_is_the_help() -> None:
    shown = re.search(r"^```text\n(Usage: convert .*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    assert shown is not None
    run = CliRunner().invoke(command, ["--help"], prog_name="convert", terminal_width=80)
    assert shown[1].strip() == run.output.strip()


@pytest.mark.parametrize("drop", INCEPTION_RESNET_V1.leftovers, ids=lambda drop: drop.source)
def test_every_leftover_is_documented(drop: object) -> None:
    name = drop.source.replace("{variable}", "VARIABLE")  # type: ignore[attr-defined] # a Drop
    assert f"| `{name}` | {drop.reason} |" in DOCS  # type: ignore[attr-defined] # a Drop


def test_every_key_of_the_receipt_is_documented(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", embedding=4, classes=2)
    receipt = convert(Request(str(tmp_path / "demo"), str(tmp_path / "out.pt"))).to_json()
    shown = section(PAGE, "The receipt")
    rows = re.findall(r"^\| `(\w+)` \|", shown, re.MULTILINE)
    assert rows == list(receipt)
    assert f'"{receipt["schema"]}"' in shown
    for key in ("mapped", "synthesized"):
        (row,) = re.findall(rf"^\| `{key}` \| (.*) \|$", shown, re.MULTILINE)
        assert "{" + ", ".join(receipt[key][0]) + "}" in row  # type: ignore[index] # a list of objects


def test_the_tensor_digest_is_made_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the snippet loads weights with torch")
    write_demo(tmp_path / "demo", embedding=4, classes=2)
    receipt = convert(Request(str(tmp_path / "demo"), str(tmp_path / "vggface2.pt")))
    (snippet,) = (block for block in blocks(PAGE) if block.language == "python")
    with inside(tmp_path):
        assert python(snippet.text, PAGE, {}).strip() == receipt.digest
