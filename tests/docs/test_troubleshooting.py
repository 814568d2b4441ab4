"""docs/troubleshooting.md: its exit codes are those of the README."""

from __future__ import annotations

import re

from support.pages import page


def test_the_exit_codes_are_those_of_the_readme() -> None:
    rows = [
        set(re.findall(r"^\| (\d+) \|", page(name), re.MULTILINE))
        for name in ("README.md", "docs/troubleshooting.md")
    ]
    assert rows[0] == rows[1] == {"0", "1", "2", "130"}
