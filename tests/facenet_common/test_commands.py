"""Commands: errors become one message, as text or JSON, with an exit code."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner, Result

from facenet_common.commands import INTERRUPTED, json_option, reports_errors
from facenet_common.errors import FacenetError, UsageError


def run(error: BaseException, *arguments: str) -> Result:
    """Run a command that raises `error`."""

    @click.command("test")
    @json_option
    @reports_errors
    def command(as_json: bool) -> None:  # noqa: ARG001 # `reports_errors` reads it
        raise error

    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FacenetError("it failed"), 1, "it failed"),
        (UsageError("it is wrong"), 2, "it is wrong"),
        (PermissionError(13, "Permission denied", "x.pt"), 1, "x.pt: Permission denied"),
        (ModuleNotFoundError("No module named torch", name="torch.nn"), 1, "test needs torch"),
        (MemoryError(), 1, "out of memory"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_message_and_a_code(error: Exception, code: int, message: str) -> None:
    as_text = run(error)
    assert as_text.exit_code == code
    assert as_text.stdout == ""
    assert as_text.stderr.startswith(f"Error: {message}")
    as_json = run(error, "--json")
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["problem"].startswith(message)


def test_ctrl_c_has_the_code_of_shells() -> None:
    result = run(KeyboardInterrupt())
    assert result.exit_code == INTERRUPTED
    assert "Interrupted" in result.stderr


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), ModuleNotFoundError("No module named x", name="x")]
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    assert run(error).exception is error
