"""Code in Markdown pages: found, run as a reader would, and compared with the output shown."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str


def page(name: str) -> str:
    """The text of a page, by its path in the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def fenced(text: str) -> list[Block]:
    """The fenced blocks of a text."""
    return [Block(*match) for match in _BLOCK.findall(text)]


def blocks(name: str) -> list[Block]:
    """The fenced blocks of a page."""
    return fenced(page(name))


def prose(name: str) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page(name))


def section(name: str, title: str) -> str:
    """Return the text below this heading of the second level."""
    heading, rest = f"\n## {title}\n", page(name)
    assert heading in rest, f"{name} has no section {title!r}"
    return rest.partition(heading)[2].partition("\n## ")[0]


def run_page(
    name: str, folder: Path, *, exits: Mapping[str, int] | None = None
) -> dict[str, object]:
    """Run every block of a page, as `run_blocks`; gives the names of its Python blocks."""
    return run_blocks(blocks(name), name, folder, exits=exits)[0]


def run_blocks(
    found: Iterable[Block], name: str, folder: Path, *, exits: Mapping[str, int] | None = None
) -> tuple[dict[str, object], str]:
    """Run blocks of the page `name` in order, in `folder`: Python's names, what was printed last.

    The Python blocks share their names. A text block must be what the block before it printed, as
    `assert_output` compares. `exits` has the exit codes of blocks that are meant to fail.
    """
    names: dict[str, object] = {}
    output = ""
    for block in found:
        if block.language == "sh":
            output = shell(block.text, folder, (exits or {}).get(block.text.strip(), 0))
        elif block.language == "python":
            with inside(folder):
                output = python(block.text, name, names)
        else:
            assert block.language == "text", f"{name} has a block of {block.language}"
            assert_output(block.text, output)
    return names, output


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The working folder, for a while; `contextlib.chdir` needs Python 3.11."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def shell(text: str, folder: Path, code: int = 0) -> str:
    """Run a block with bash, this Python's scripts first on the path; return what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    call = ["bash", "-euo", "pipefail", "-c", text]
    env = os.environ | {"PATH": path}
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def python(text: str, name: str, names: dict[str, object]) -> str:
    """Run a block here; return what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, name, "exec"), names)
    return printed.getvalue()


def assert_output(shown: str, printed: str) -> None:
    """A line that is ``…`` stands for any lines, and one that has it for anything in that place."""
    lines = (
        r"(?:.*\n)+" if line == "…" else re.escape(line).replace("…", ".+") + r"\n"
        for line in shown.splitlines()
    )
    assert re.fullmatch("".join(lines), printed), f"{shown}\n--- is now ---\n{printed}"


def outputs_follow_code(name: str) -> bool:
    """Whether each text block of the page stands behind code."""
    return all(
        block.language != "text" or before.language in ("sh", "python")
        for before, block in pairwise([Block("", ""), *blocks(name)])
    )
