"""The pages of docs/ that have no test of their own: their code runs, their tables are complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.pages import (
    ROOT,
    Block,
    assert_output,
    blocks,
    outputs_follow_code,
    page,
    run_blocks,
    run_page,
    section,
    shell,
)

TUTORIAL = "docs/tutorial.md"
TROUBLESHOOTING = "docs/troubleshooting.md"

# Pages whose code other tests run, or that have none; a new page belongs here or into a test below.
ELSEWHERE = {
    "ci.md": "commands of verify.md; its snippet is run by tests/parity_tests/test_plugin.py",
    "convert.md": "tests/test_docs.py",
    "docker.md": "tests/test_docker.py",
    "index.md": "the first commands of the README, which tests/test_readme.py runs",
    "migrate.md": "tests/test_docs_migrate.py",
    "models.md": "tests/test_docs_models.py",
    "parity-report.md": "tests/parity_tests/test_report.py",
    "release.md": "tests/facenet_release",
    "verify.md": "commands of the README, which tests/test_readme.py runs",
}
HERE = {
    TUTORIAL,
    TROUBLESHOOTING,
    "docs/messages.md",
    "docs/offline.md",
    "docs/shell.md",
    "docs/explanation/bundles.md",
    "docs/reference/converter.md",
    "docs/reference/parity_tests.md",
}


def test_every_page_with_code_is_tested() -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT).as_posix()
        if name.removeprefix("docs/") not in ELSEWHERE and name not in HERE:
            assert not blocks(name), name


# --- the tutorial ---------------------------------------------------------------------------------


@pytest.mark.tensorflow
def test_the_tutorial_and_the_reference_of_the_api(tmp_path: Path) -> None:
    """What the tutorial leaves behind is what the samples of the reference begin with."""
    names = run_page(TUTORIAL, tmp_path, exits={"facenet verify reference.h5 broken.pt": 1})
    assert tuple(names["embedding"].shape) == (1, 512)  # type: ignore[attr-defined] # a tensor
    assert (tmp_path / "report.html").is_file()
    assert run_page("docs/reference/converter.md", tmp_path)["receipt"]
    report = run_page("docs/reference/parity_tests.md", tmp_path)["report"]
    assert report.passed  # type: ignore[attr-defined] # a ParityReport


@pytest.mark.parametrize("name", sorted(HERE))
def test_every_output_is_compared(name: str) -> None:
    assert outputs_follow_code(name)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("a …\n", "b a\n"), ("a b\nc\n", "a b\n"), ("a …\n", "a b\nc\n"), ("a …\n", "a \n")],
)
def test_another_output_is_caught(shown: str, printed: str) -> None:
    with pytest.raises(AssertionError):
        assert_output(shown, printed)


def test_a_line_of_dots_stands_for_lines() -> None:
    assert_output("a\n…\nd …\n", "a\nb\nc\nd e\n")


@pytest.mark.parametrize("wrong", [Block("text", "2\n"), Block("json", "1\n")])
def test_a_block_that_does_not_follow_is_caught(wrong: Block, tmp_path: Path) -> None:
    code, right = Block("python", "print(1)\n"), Block("text", "1\n")
    assert run_blocks([code, right], "a page", tmp_path)[1] == "1\n"
    with pytest.raises(AssertionError):
        run_blocks([code, right, wrong], "a page", tmp_path)


def test_the_bundle_read_by_hand(tmp_path: Path) -> None:
    names = run_page("docs/explanation/bundles.md", tmp_path)
    assert names["kernel"].shape == (3, 3, 3, 32)  # type: ignore[attr-defined] # an array


# --- offline --------------------------------------------------------------------------------------


def test_offline(stand_in_weights: Path, reference_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to(stand_in_weights)
    (tmp_path / "multiface.jpg").symlink_to(reference_dir / "images" / "multiface.jpg")
    weights, *install = [block for block in blocks("docs/offline.md") if block.language == "sh"]
    shell(weights.text, tmp_path)
    assert json.loads((tmp_path / "faces.json").read_text())
    for block in install:  # they install from a registry, or from what they have fetched
        assert block.text.startswith("pip ")
        assert '[parity]"' in block.text


# --- the shell ------------------------------------------------------------------------------------


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


# --- troubleshooting ------------------------------------------------------------------------------


def test_the_exit_codes_are_those_of_the_readme() -> None:
    rows = [
        set(re.findall(r"^\| (\d+) \|", page(name), re.MULTILINE))
        for name in ("README.md", TROUBLESHOOTING)
    ]
    assert rows[0] == rows[1] == {"0", "1", "2", "130"}


def test_a_block_that_fails_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        shell("false\ntrue\n", tmp_path)
