"""The ``facenet`` group: commands, help, mistyped names, and completion in the shell."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

import pytest
from support.absent import run_without
from support.commands import run

from converter.cli.main import COMMANDS

# Libraries that take long to import; completion must not.
HEAVY = {"torch", "tensorflow", "h5py", "onnxruntime", "rich"}
CODE = """
    from converter.cli.main import facenet
    facenet(prog_name="facenet")
"""


def complete(line: str, shell: str = "bash") -> list[str]:
    """Return the completions that `shell` gets for the last word of `line`."""
    words = line.split(" ")
    env = os.environ | {
        "_FACENET_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
    }
    done = run_without(HEAVY, CODE, env=env)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands_are_offered() -> None:
    offered = [line.removeprefix("plain,") for line in complete("facenet ")]
    assert offered == sorted(point.name for point in entry_points(group=COMMANDS))
    assert {"convert", "verify", "detect"} <= set(offered)


def test_the_beginning_of_a_command_chooses() -> None:
    assert complete("facenet ver") == ["plain,verify"]


def test_options_are_offered() -> None:
    offered = complete("facenet verify --")
    assert {"plain,--json", "plain,--html", "plain,--help"} <= set(offered)


def test_values_of_an_option_are_offered() -> None:
    assert complete("facenet convert --part ") == ["plain,all", "plain,features", "plain,logits"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_help_too(shell: str) -> None:
    offered = "\n".join(complete("facenet ", shell))
    assert "verify" in offered
    assert "List the contents of a weight file." in offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell: str) -> None:
    env = os.environ | {"_FACENET_COMPLETE": f"{shell}_source"}
    done = run_without(HEAVY, CODE, env=env)
    assert done.returncode == 0, done.stderr
    assert "_FACENET_COMPLETE=" + shell + "_complete" in done.stdout


# --- help and mistyped names


@pytest.mark.parametrize("command", ["convert", "inspect", "diff"])
def test_help_has_examples(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("verfy", " Did you mean 'verify'?"), ("Convert", " Did you mean 'convert'?"), ("xyz", "")],
)
def test_a_mistyped_command_is_guessed_without_importing_any(
    typed: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.EntryPoint.load", lambda _: pytest.fail("imported"))
    result = run(typed)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: No such command {typed!r}.{meant}\n")


def test_the_group_lists_its_commands() -> None:
    listed = run("--help").stdout
    assert all(command in listed for command in ("convert", "inspect", "diff"))
    assert run("no-such-command").exit_code == 2
    assert run("--version").stdout.startswith("facenet, version ")
