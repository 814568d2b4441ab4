"""docs/convert.md says what the program says: its help, its errors, what it drops, its receipt."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from converter import errors
from converter.architectures import INCEPTION_RESNET_V1
from converter.cli.convert import command
from converter.convert import Request, convert
from converter.demo import write_demo

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "convert.md").read_text(encoding="utf-8")
RAISED = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.FacenetError)
}
SHORT = 6  # characters; a shorter piece of an f-string, such as "the ", shows nothing


def messages() -> Iterator[tuple[str, list[str]]]:
    """Every first argument of an error raised in converter: where, and its fixed pieces."""
    for path in sorted((ROOT / "converter").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id in RAISED and node.args:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", pieces(node.args[0])


def pieces(message: ast.expr) -> list[str]:
    values = message.values if isinstance(message, ast.JoinedStr) else [message]
    texts = [str(v.value).strip() for v in values if isinstance(v, ast.Constant)]
    return [text.strip(" :!'\"") for text in texts]


def undocumented(docs: str) -> list[str]:
    return [
        f"{where}: {piece}"
        for where, found in messages()
        for piece in found
        if len(piece) >= SHORT and piece not in docs
    ]


def test_every_error_is_documented() -> None:
    assert len(list(messages())) > 40
    assert undocumented(DOCS) == []


def test_an_undocumented_error_is_caught() -> None:
    assert undocumented(DOCS.replace("the file is empty", "")) != []


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
    section = DOCS.partition("## The receipt")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert rows == list(receipt)
    assert f'"{receipt["schema"]}"' in section
    for key in ("mapped", "synthesized"):
        (row,) = re.findall(rf"^\| `{key}` \| (.*) \|$", section, re.MULTILINE)
        assert "{" + ", ".join(receipt[key][0]) + "}" in row  # type: ignore[index] # a list of objects
