"""docs/site/messages.py finds every message in the code, and each has an explanation."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from support.pages import ROOT

MESSAGES = runpy.run_path(str(ROOT / "docs" / "site" / "messages.py"))

ERRORS = '''
class FacenetError(Exception):
    """The root."""
    exit_code = 1

class UsageError(FacenetError):
    """The call is wrong."""
    exit_code = 2

class FormatError(FacenetError):
    """A file is wrong.

    Fetch the file again.
    """

class LocalError(FormatError):
    """A file of a kind."""
'''
RAISES = """
AGAIN = "try again later"

def refuse(what: str) -> UsageError:
    return UsageError(f"the server {what}", next_step=AGAIN)

def failed(problem: str, kind: type[UsageError] = UsageError) -> UsageError:
    return kind(problem)

def use(path: str, count: int) -> None:
    raise errors.LocalError(f"{path!r} is damaged" if count else "there is nothing", file=path)
    raise FormatError(f"{path}: {count}")
    raise refuse("is busy")
    raise ValueError("this is no message")
    raise UsageError("count", expected=f"1 to {count} files")
    raise UsageError(f"{len(path)} files are too many", next_step=None)
    raise failed("this way is closed")
"""


@pytest.fixture
def found(tmp_path: Path) -> list[Any]:
    """The messages of a package made for the test."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "errors.py").write_text(ERRORS)
    (tmp_path / "package" / "raises.py").write_text(RAISES)
    return list(MESSAGES["Sources"](tmp_path, ["package"]).messages())


def test_every_message_is_explained() -> None:
    """Give the call a `next_step` or an `expected`, or the class a second paragraph."""
    messages = MESSAGES["Sources"]().messages()
    assert len(messages) > 300
    assert {message.module.partition(".")[0] for message in messages} == {*MESSAGES["PACKAGES"]}
    assert [f"{m.module}: {m.text}" for m in messages if not m.explained] == []


def test_every_package_is_searched() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == {*MESSAGES["PACKAGES"]}


def test_messages_are_found_with_their_classes_and_advice(found: list[Any]) -> None:
    assert [(m.kind.name, m.text, m.advice) for m in found] == [
        ("LocalError", "PATH is damaged", ""),
        ("LocalError", "there is nothing", ""),
        ("UsageError", "count", "Expected: 1 to COUNT files"),
        ("UsageError", "the server is busy", "try again later"),
        ("UsageError", "this way is closed", ""),
        ("UsageError", "… files are too many", ""),
    ]
    assert {m.module for m in found} == {"package.raises"}
    assert {m.kind.name: m.kind.exit_code for m in found} == {"LocalError": 1, "UsageError": 2}


def test_a_message_without_explanation_is_caught(found: list[Any]) -> None:
    """A class inherits the advice of its base."""
    assert {m.text for m in found if not m.explained} == {
        "this way is closed",
        "… files are too many",
    }


def test_the_tables(found: list[Any]) -> None:
    shown = MESSAGES["tables"](found)
    assert "## LocalError\n\n`package`, exit code 1.\n\nA file of a kind.\n\nFetch the" in shown
    assert "| the server is busy | try again later | `package.raises` |" in shown
    wild = found[0]._replace(text="a_b | <c> `d_e`")
    assert r"| a\_b \| \<c\> `d_e` |" in MESSAGES["tables"]([wild])
