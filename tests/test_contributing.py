"""CONTRIBUTING.md: the files that it names are there, and so are the names in them."""

from __future__ import annotations

import re

import pytest
from support.pages import ROOT, page, section

PAGE = "CONTRIBUTING.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in section(PAGE, "Where things go").splitlines()
    if line.startswith("| a")
]
# Files and folders of this repository. What else stands in backticks are names and commands.
PATHS = sorted(set(re.findall(r"`(\.?\w[\w./-]*(?:/|\.(?:py|md|toml|yml|txt)))`", page(PAGE))))


def test_the_map_is_read() -> None:
    assert len(ROWS) > 15
    assert all(len(row) == 4 for row in ROWS)
    assert len(PATHS) > 40


def is_there(path: str) -> bool:
    """A bare name may lie in any folder that the page names; NAME stands for a new one."""
    if "NAME" in path:
        return (ROOT / path).parent.is_dir()
    folders = [ROOT, *((ROOT / other).parent for other in PATHS if "/" in other)]
    return any((folder / path).exists() for folder in (folders if "/" not in path else [ROOT]))


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_there(path: str) -> None:
    assert is_there(path)


@pytest.mark.parametrize("path", ["converter/nowhere.py", "nowhere.py", "nowhere/NAME.py"])
def test_a_path_that_leads_nowhere_is_caught(path: str) -> None:
    assert not is_there(path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_is_named_in_a_file_is_in_it(row: list[str]) -> None:
    """As in "a line in `FORMATS` of `converter/sources/__init__.py`"."""
    for name, file in re.findall(r"`(\w+)` of `([^`]+\.py)`", " | ".join(row)):
        assert re.search(rf"^{name}\b", page(file), re.MULTILINE), f"{file} has no {name}"
    if row[2].startswith("its "):
        (name,) = re.findall(r"`(\w+)`", row[2])
        assert name in page(row[1].strip("`"))
