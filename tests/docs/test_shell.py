"""docs/shell.md: the versions, the doctor and the completion are as shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import CliRunner
from support.pages import ROOT, assert_output, blocks, page, section, shell


def test_the_versions_shown() -> None:
    version, shown, _doctor = blocks("docs/shell.md")
    assert_output(shown.text, shell(version.text, ROOT))


def test_the_doctor_is_healthy(tmp_path: Path) -> None:
    *_, doctor = blocks("docs/shell.md")
    assert shell(doctor.text, tmp_path).endswith("It works.\n")


def test_every_key_of_the_doctor_is_documented() -> None:
    from converter.cli.doctor import command

    facts = json.loads(CliRunner().invoke(command, ["--json"]).stdout)
    shown = section("docs/shell.md", "Doctor")
    rows = re.findall(r"^\| (`.+?`) \|", shown, re.MULTILINE)
    assert [key for row in rows for key in re.findall(r"`(\w+)`", row)] == list(facts)
    assert f'"{facts["schema"]}"' in shown
    assert "`{" + ", ".join(facts["checks"][0]) + "}`" in shown


def test_completion_is_switched_on_as_shown() -> None:
    (line,) = re.findall(r"^\| bash .* \| `(.+)` \|$", page("docs/shell.md"), re.MULTILINE)
    shown = shell(f"{line}\ncomplete -p facenet\n", ROOT)
    assert "complete" in shown
    assert shown.rstrip().endswith("facenet")
