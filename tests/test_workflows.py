"""The workflows: their commands exist, tokens reach only steps, nothing is put into a script."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from support.pages import ROOT, page

from converter.cli.main import facenet
from facenet_release.documents.recipe import read

yaml = pytest.importorskip("yaml", reason="needs PyYAML, which pre-commit brings")

FILES = [
    path.relative_to(ROOT).as_posix()
    for path in [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), ROOT / "action.yml"]
]
RELEASE = ".github/workflows/release.yml"
CHECK = ".github/workflows/check-release.yml"
READ = {"contents": "read"}
# What a job may do beside reading the repository. A new right belongs here, with its reason.
RIGHTS = {
    (RELEASE, "build"): {"id-token": "write", "attestations": "write"},  # the attestation
    (RELEASE, "publish"): {"contents": "write", "packages": "write"},  # where it publishes to
    (CHECK, "check"): {"attestations": "read", "packages": "read"},  # where they are private
}
GITHUBS_OWN = re.compile(r"actions/[\w-]+@v\d+|\./")  # by major version, and this repository
TOKEN = re.compile(r"\bsecrets\b|\bgithub\.token\b")
BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]  # as GitHub runs `shell: bash`


def jobs(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow; a composite Action is like one."""
    return document["jobs"] if "jobs" in document else {"action": document["runs"]}


def steps(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in jobs(document).values():
        yield from job["steps"]


def run_of(name: str, step: str) -> str:
    """The script of the step that is called so."""
    (found,) = (s for s in steps(yaml.safe_load(page(name))) if s.get("name") == step)
    return str(found["run"])


def leaves(
    value: object, path: tuple[object, ...] = ()
) -> Iterator[tuple[tuple[object, ...], str]]:
    """Every text in a document, and where it stands."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from leaves(below, (*path, index))
    else:
        yield path, str(value)


def faults(name: str, text: str) -> list[str]:
    """Return what is wrong with a workflow, by rules that GitHub doesn't enforce."""
    document = yaml.safe_load(text)
    found = []
    if "jobs" in document and document.get("permissions") != READ:
        found.append("without a word of its own a job may do more than read")
    for key, job in jobs(document).items():
        rights = {
            right for right in job.get("permissions", {}).items() if right not in READ.items()
        }
        if not rights <= set(RIGHTS.get((name, key), {}).items()):
            found.append(f"{key} may do too much")
        if "jobs" in document and "timeout-minutes" not in job:
            found.append(f"{key} may run for hours")
    for step in steps(document):
        script = step.get("run", "")
        if "${{" in script:
            found.append(f"a value becomes part of a script: {script}")
        if re.search(r"[^|]\|[^|]", script) and not piped_safely(document, step):
            found.append(f"without pipefail a failure is lost: {script}")
        if "uses" in step and not GITHUBS_OWN.fullmatch(step["uses"]):
            found.append(f"{step['uses']} is foreign, or has no major version")
    for path, value in leaves(document):
        if TOKEN.search(value) and not (len(path) == 6 and path[2] == "steps" and path[4] == "env"):
            found.append(f"a token outside a step's env: {value}")
    return found


def piped_safely(document: dict[str, Any], step: dict[str, Any]) -> bool:
    """Without a shell's name GitHub runs bash without pipefail."""
    default = document.get("defaults", {}).get("run", {}).get("shell")
    return bool(step.get("shell", default) == "bash")


@pytest.mark.parametrize("name", FILES)
def test_a_workflow_keeps_the_rules(name: str) -> None:
    assert faults(name, page(name)) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (RELEASE, "permissions:\n  contents: read\n", "permissions: write-all\n"),
        (RELEASE, "permissions:\n  contents: read\n", ""),
        (RELEASE, "id-token: write", "packages: write"),
        (RELEASE, "    timeout-minutes: 60\n", ""),
        (RELEASE, "$GITHUB_REF_NAME", "${{ github.ref_name }}"),
        (CHECK, "TAG:-", "{{ inputs.tag }}:-"),
        (CHECK, "    shell: bash", "    working-directory: ."),
        (CHECK, "  schedule:", "  env: ${{ secrets.GITHUB_TOKEN }}\n  schedule:"),
        (CHECK, "    timeout", "    env:\n      A: ${{ github.token }}\n    timeout"),
        (CHECK, "actions/checkout@v4", "actions/checkout@main"),
        (CHECK, "actions/checkout@v4", "somebody/checkout@v4"),
    ],
)
def test_a_workflow_that_breaks_a_rule_is_caught(name: str, old: str, new: str) -> None:
    text = page(name)
    assert old in text
    broken = text.replace(old, new).replace("${{{", "${{")
    assert faults(name, broken) != []


# --- linters --------------------------------------------------------------------------------------


def test_actionlint_is_content() -> None:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("actionlint is absent")
    call = [program, "-no-color", *(name for name in FILES if name != "action.yml")]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", FILES)
def test_shellcheck_is_content(name: str) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is absent")
    for step in steps(yaml.safe_load(page(name))):
        call = [program, "--shell=bash", "-"]
        script = "set -eo pipefail\n" + step.get("run", "")
        done = subprocess.run(call, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


# --- the commands ---------------------------------------------------------------------------------


def calls(script: str) -> Iterator[list[str]]:
    """The words of each simple command in a script; what a substitution runs is one of its own."""
    script = script.replace("\\\n", " ")
    for inner in re.findall(r"\$\(([^()]*)\)", script):
        yield from calls(inner)
    for line in re.sub(r"\$\([^()]*\)", "SUBSTITUTED", script).splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        call: list[str] = []
        for word in words:
            if set(word) <= set("();<>|&"):
                yield call
                call = []
            else:
                call.append(word)
        yield call


def wrong_call(call: list[str]) -> str | None:
    """Return what is wrong with a call of ``facenet`` or ``make``, if anything."""
    program = Path(call[0]).name
    if program == "make":
        target, *variables = call[1:]
        makefile = page("Makefile")
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
            return f"no target {target}"
        unknown = [v for v in variables if f"$({v.partition('=')[0]})" not in makefile]
        return f"no variables {unknown}" if unknown else None
    command: click.Command = facenet
    context, rest = click.Context(command, info_name=program), call[1:]
    while isinstance(command, click.Group):
        below = command.get_command(context, rest[0])
        if below is None:
            return f"no command {rest[0]}"
        command, rest = below, rest[1:]
        context = click.Context(command, parent=context)
    try:
        given, left, _ = command.make_parser(context).parse_args(list(rest))
    except click.UsageError as error:
        return error.format_message()
    missing = [
        p.name for p in command.params if p.required and not isinstance(given.get(p.name), str)
    ]
    return f"missing {missing}, too many {left}" if missing or left else None


def own_calls() -> list[list[str]]:
    """Every call of ``facenet`` and ``make`` in the workflows."""
    return [
        call
        for name in FILES
        for step in steps(yaml.safe_load(page(name)))
        for call in calls(step.get("run", ""))
        if call and Path(call[0]).name in ("facenet", "make")
    ]


def test_every_command_exists_with_its_options() -> None:
    found = own_calls()
    assert ["make", "release", "OUT=dist"] in found
    assert [".venv/bin/facenet", "release", "rebuild", "dist"] in found
    assert {call[2] for call in found if call[1] == "release" and len(call) > 3} >= {
        *("check", "publish", "rebuild", "sign"),
    }
    assert [wrong_call(call) for call in found] == [None] * len(found)


@pytest.mark.parametrize(
    "call",
    [
        "make relaese OUT=dist",
        "make release OUTPUT=dist",
        "facenet relaese check dist",
        "facenet release chek dist",
        "facenet release check",
        "facenet release check dist again",
        "facenet release check dist --manifest 00",
        "facenet release publish dist",
        "facenet release sign dist --private-key",
    ],
)
def test_a_command_that_does_not_exist_is_caught(call: str) -> None:
    assert wrong_call(shlex.split(call)) is not None


# --- scripts that are more than a command ---------------------------------------------------------


def script(text: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"GITHUB_ENV": str(folder / "env")} | variables
    return subprocess.run(
        [*BASH, text], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is absent")
def test_the_checkpoints_are_unpacked_and_nothing_else(tmp_path: Path) -> None:
    get = run_of(RELEASE, "Get the checkpoints")
    names = [m.source for m in read(ROOT / "release.toml").models if "/" not in m.source]
    archive, work = tmp_path / "a.tar", tmp_path / "work"
    work.mkdir()
    (work / "Makefile").write_text("ours")
    (tmp_path / "theirs").write_text("theirs")
    with tarfile.open(archive, "w") as tar:
        for name in ("Makefile", *(f"{name}/model.meta" for name in names)):
            tar.add(tmp_path / "theirs", name)
    done = script(get, work, URL=archive.as_uri())
    assert done.returncode == 0, done.stderr
    assert {path.name for path in work.iterdir()} == {"Makefile", *names}
    assert (work / "Makefile").read_text() == "ours"
    done = script(get, work, URL="")
    assert done.returncode == 1
    assert "CHECKPOINTS_URL" in done.stdout


NEWEST = '[{"tagName": "v9"}, {"tagName": "weights-v2"}, {"tagName": "weights-v1"}]'


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is absent")
@pytest.mark.parametrize(
    ("releases", "tag", "written"),
    [
        (NEWEST, "", "RELEASE_TAG=weights-v2\n"),
        (NEWEST, "weights-v1", "RELEASE_TAG=weights-v1\n"),
        ('[{"tagName": "v9"}]', "", ""),  # nothing is published: no failure
        ("[]", "", ""),
        (NEWEST, "v9", None),
        (NEWEST, "weights-v1\nBASH_ENV=evil", None),
        ("the server is out of order", "", None),
    ],
)
def test_the_newest_release_is_found(
    releases: str, tag: str, written: str | None, tmp_path: Path
) -> None:
    """`gh` is a stand-in that lists `releases`; `written` None is a step that fails."""
    program, out = tmp_path / "gh", tmp_path / "env"
    (tmp_path / "releases").write_text(releases)
    program.write_text('#!/bin/sh\nfor last; do :; done\njq --raw-output "$last" releases\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = script(run_of(CHECK, "Find the release"), tmp_path, PATH=path, TAG=tag)
    assert (done.returncode == 0) == (written is not None), done.stdout + done.stderr
    assert (out.read_text() if out.exists() else "") == (written or "")
