"""What the commands share: errors as messages and exit codes, and JSON.

The twin of ``converter.cli.common``, which this package may not import.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from facenet_models.errors import ModelsError

Command = TypeVar("Command", bound=Callable[..., Any])
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def reports_errors(command: Command) -> Command:
    """Print a ModelsError as one message (as JSON with ``--json``) and exit with its code.

    So too a missing dependency, whose ImportError says what to install.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ModelsError as error:
            if kwargs.get("as_json"):
                print_json(error.to_json())
            else:
                click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:  # click's business: the reader has left
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror or error}", as_json=kwargs.get("as_json", False))
        except ImportError as error:
            _fail(str(error), as_json=kwargs.get("as_json", False))
        except MemoryError:
            _fail("out of memory", as_json=kwargs.get("as_json", False))
        except KeyboardInterrupt:
            click.echo("\nInterrupted", err=True)
            sys.exit(INTERRUPTED)

    return run  # type: ignore[return-value] # the wrapper has the command's own parameters


def print_json(data: object) -> None:
    """Print `data` as JSON, indented, keys in their order, in ASCII: names may hold anything."""
    click.echo(json.dumps(data, indent=2))


def _fail(problem: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"error": "Error", "problem": problem})
    else:
        click.echo(f"Error: {problem}", err=True)
    sys.exit(1)
