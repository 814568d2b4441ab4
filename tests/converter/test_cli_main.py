"""Completion in the shell: docs/shell.md's lines work, and commands and options are listed."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

import pytest
from support.absent import run_without

from converter.cli.main import COMMANDS

# Libraries that take long to import; completion must not.
HEAVY = {"torch", "tensorflow", "h5py", "onnxruntime", "rich"}
CODE = """
    from converter.cli.main import facenet
    facenet(prog_name="facenet")
"""


def complete(line: str, shell: str = "bash") -> list[str]:
    """What `shell` is offered for the last word of `line`."""
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
    assert "Show what a weight file holds." in offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell: str) -> None:
    env = os.environ | {"_FACENET_COMPLETE": f"{shell}_source"}
    done = run_without(HEAVY, CODE, env=env)
    assert done.returncode == 0, done.stderr
    assert "_FACENET_COMPLETE=" + shell + "_complete" in done.stdout
