"""Shared parts of commands: errors as messages and exit codes, JSON, common options."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from facenet_common.errors import FacenetError
from facenet_common.optional import PACKAGES, missing_package

Command = TypeVar("Command", bound=Callable[..., Any])
INTERRUPTED = 130  # 128 + SIGINT, the exit code of shells

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def reports_errors(command: Command) -> Command:
    """Print errors as one message (as JSON with ``--json``) and exit with their code.

    This covers FacenetError, errors of the operating system, memory, Ctrl-C, and missing packages
    that an extra of this project installs. Any other exception is a bug: it ends in a traceback.

    Examples:
        >>> @click.command()
        ... @json_option
        ... @reports_errors
        ... def command(as_json: bool) -> None:
        ...     raise FacenetError("the disk is full")
        >>> from click.testing import CliRunner
        >>> CliRunner().invoke(command, ["--json"]).output
        '{\\n  "error": "FacenetError",\\n  "problem": "the disk is full"\\n}\\n'
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        as_json = kwargs.get("as_json", False)
        try:
            return command(*args, **kwargs)
        except FacenetError as error:
            _fail(error, as_json)
        except BrokenPipeError:  # click handles it: the reader has closed the pipe
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(FacenetError(f"{where}{error.strerror or error}"), as_json)
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module not in PACKAGES:
                raise
            name = click.get_current_context().info_name
            _fail(missing_package(module, name or "this command"), as_json)
        except MemoryError:
            exhausted = FacenetError(
                "out of memory; no unfinished output was left behind",
                next_step="close other programs, or give the command less at a time",
            )
            _fail(exhausted, as_json)
        except KeyboardInterrupt:
            click.echo("\nInterrupted; no unfinished output was left behind", err=True)
            sys.exit(INTERRUPTED)

    return run  # type: ignore[return-value] # the wrapper has the command's own parameters


def print_json(data: object) -> None:
    """Print `data` as indented JSON in ASCII: names may contain any characters.

    Examples:
        >>> print_json({"name": "é"})
        {
          "name": "\\u00e9"
        }
    """
    click.echo(json.dumps(data, indent=2))


def _fail(error: FacenetError, as_json: bool) -> None:
    if as_json:
        print_json(error.to_json())
    else:
        click.echo(f"Error: {error}", err=True)
    sys.exit(error.exit_code)
