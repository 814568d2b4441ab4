"""The site builds with warnings as errors, holds everything, and asks nobody else for anything."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from support.pages import ROOT, blocks, page

import facenet_models

PACKAGES = ("converter", "facenet_common", "facenet_models", "facenet_release", "parity_tests")
PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks")  # pages that don't lie in docs/
# Shown to explain the format; nobody should build upon them.
INTERNAL = {"converter.sources.tensorflow.index", "converter.sources.mapped_file"}


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of the project in `root` as its documentation says, into `out`."""
    if find_spec("material") is None or find_spec("mkdocstrings_handlers") is None:
        pytest.skip('MkDocs is absent: pip install "facenet-parity[docs]"')
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # of another program, in every build
    return subprocess.run(call, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


def html(site: Path, name: str) -> str:
    return (site / name).read_text(encoding="utf-8")


def anchors(site: Path, folder: str) -> set[str]:
    found: set[str] = set()
    for path in (site / folder).rglob("*.html"):
        found |= set(re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8")))
    return found


# --- it is strict ---------------------------------------------------------------------------------


HARM = {  # what is added to which page, and what the build must say of it
    "links": {
        "offline.md": ("[a](nowhere.md) [b](models.md#no-anchor)", ["nowhere.md", "#no-anchor"]),
        "shell.md": ("[c](../README.md#gone) [d](../docs/gone.md)", ["#gone", "gone.md"]),
        "new.md": ("# A page that is in no menu", ["new.md"]),
    },
    "modules": {"reference/converter.md": ("::: converter.nowhere", ["converter.nowhere"])},
}


@pytest.mark.parametrize("harm", HARM)
def test_what_leads_nowhere_is_an_error(harm: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("README.md", "mkdocs.yml", *PROJECT, *PACKAGES):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    for name, (text, _) in HARM[harm].items():
        add(tmp_path / "docs" / name, text)
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for _, reports in HARM[harm].values():
        for report in reports:
            assert report in done.stderr


def add(path: Path, text: str) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{before}\n{text}\n", encoding="utf-8")


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    fetching = re.compile(
        r'<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]+)"'
    )
    for path in pages:
        assert fetching.findall(path.read_text(encoding="utf-8")) == [], path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")), path


# --- it is complete -------------------------------------------------------------------------------


def test_every_command_and_option_is_there(site: Path) -> None:
    text = html(site, "reference/cli.html")
    for point in entry_points(group="facenet.commands"):
        for name, command in commands(point.name, point.load()):
            anchor = f'id="{name.replace(" ", "-")}"'
            assert anchor in text
            section = text.partition(anchor)[2].partition("<h2")[0]
            for parameter in command.params:
                for option in getattr(parameter, "secondary_opts", []) + list(parameter.opts):
                    if option.startswith("--"):
                        assert re.search(rf"\W{option}\W", section), f"{name} {option}"


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield f"facenet {name}", command
    for child, below in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {child}", below)


def test_commands_below_commands_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason='MkDocs is absent: pip install "facenet-parity[docs]"')
    group = click.Group("a", commands=[click.Group("b", commands=[click.Command("c")])])
    assert [name for name, _ in commands("a", group)] == [
        "facenet a",
        "facenet a b",
        "facenet a b c",
    ]
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    hooks = runpy.run_path(str(ROOT / "docs" / "site" / "hooks.py"))
    assert [text.splitlines()[0] for text in hooks["sections"]("a", group)] == [
        "## facenet a",
        "## facenet a b",
        "## facenet a b c",
    ]


def test_the_help_is_shown_whole(site: Path) -> None:
    text = unescape(re.sub(r"<[^>]+>", "", html(site, "reference/cli.html")))
    assert "[all|features|logits]" in text
    assert "facenet verify REFERENCE CANDIDATE" in text.replace(" [OPTIONS]", "")
    assert "\\" not in re.sub(r"\\x|\\u", "", text.partition("facenet capture")[2][:20_000])


def test_every_public_name_is_there(site: Path) -> None:
    found = anchors(site, "reference")
    for name in facenet_models.__all__:
        assert any(re.fullmatch(rf"facenet_models\.(\w+\.)*{name}", anchor) for anchor in found), (
            name
        )


def test_every_name_that_a_page_imports_is_there(site: Path) -> None:
    found = anchors(site, "reference")
    imported = {
        (module, name.strip())
        for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for block in blocks(path.relative_to(ROOT).as_posix())
        if block.language == "python"
        for module, names in re.findall(r"^from ([\w.]+) import (.+)$", block.text, re.MULTILINE)
        if module.partition(".")[0] in PACKAGES and module not in INTERNAL
        for name in names.split(",")
    }
    assert ("converter.convert", "Request") in imported
    for module, name in imported:
        pattern = rf"{re.escape(module)}\.(\w+\.)*{name}"
        assert any(re.fullmatch(pattern, anchor) for anchor in found), f"{module}.{name}"


def test_every_class_of_errors_is_there(site: Path) -> None:
    found = anchors(site, "reference")
    for package in ("facenet_common", "facenet_release"):
        source = page(f"{package}/errors.py")
        for name in re.findall(r"^class ([A-Z]\w+Error)\b", source, re.MULTILINE):
            assert f"{package}.errors.{name}" in found


def test_every_message_is_on_one_page(site: Path) -> None:
    text = html(site, "messages.html")
    for name in ("UsageError", "FormatError", "ParityError", "CheckFailedError"):
        assert f'id="{name.lower()}"' in text
    assert text.count("<tr>") > 300


def test_the_readme_is_the_first_page(site: Path) -> None:
    """Links to the README lead to the site's own first page, and to no file outside."""
    text = html(site, "convert.html")
    assert '<a href="index.html">README</a>' in text
    for path in site.rglob("*.html"):
        assert not re.search(r'href="[^"#]+\.md[#"]', path.read_text(encoding="utf-8")), path
