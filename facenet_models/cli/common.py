"""What the commands share: errors as messages and exit codes, and JSON.

The twin of ``converter.cli.common``, which this package may not import.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from facenet_models.errors import ModelsError, UsageError

if TYPE_CHECKING:
    import torch

Command = TypeVar("Command", bound=Callable[..., Any])
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Modules that are imported without a check of their own, and the extra that brings each.
EXTRAS = {
    "PIL": "torch",
    "av": "video",
    "filelock": "torch",
    "matplotlib": "plot",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "pooch": "torch",
    "pyarrow": "parquet",
    "requests": "torch",  # pooch needs it
    "safetensors": "torch",
    "torch": "torch",
}

# What a message says to callers of Python, and the option that does it here.
OPTIONS = {"overwrite=True": "--overwrite"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def reports_errors(command: Command) -> Command:
    """Print a ModelsError as one message (as JSON with ``--json``) and exit with its code.

    So too a missing library that one of this package's extras brings (`EXTRAS`), and an
    ImportError that says itself what to install. Any other missing module is a bug: a traceback.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ModelsError as error:
            for said, option in OPTIONS.items():
                error.next_step = error.next_step and error.next_step.replace(said, option)
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
            missing = isinstance(error, ModuleNotFoundError)
            _fail(_install(error) if missing else str(error), as_json=kwargs.get("as_json", False))
        except MemoryError:
            _fail("out of memory", as_json=kwargs.get("as_json", False))
        except KeyboardInterrupt:
            click.echo("\nInterrupted", err=True)
            sys.exit(INTERRUPTED)

    return run  # type: ignore[return-value] # the wrapper has the command's own parameters


def find_device(name: str) -> torch.device:
    """torch's device of that name.

    Raises:
        UsageError: There is no such thing, or not on this machine.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            "there is no such kind of device", expected="cpu, cuda, cuda:1, mps …", found=name
        ) from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # whatever it lacks
        raise UsageError(
            f"torch {torch.__version__} has no device {name!r} here",
            next_step="leave --device out, or install a torch that is built for it",
        ) from error
    return device


def count(number: int, one: str, more: str | None = None) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {one if number == 1 else more or one + 's'}"


def print_json(data: object) -> None:
    """Print `data` as JSON, indented, keys in their order, in ASCII: names may hold anything."""
    click.echo(json.dumps(data, indent=2))


def _install(error: ImportError) -> str:
    """What to install; raises `error` again where no extra brings what is missing."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        raise error
    name = click.get_current_context().info_name
    extra = EXTRAS[module]
    return f'{name} needs {module}, which is not installed: pip install "facenet-parity[{extra}]"'


def _fail(problem: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"error": "Error", "problem": problem})
    else:
        click.echo(f"Error: {problem}", err=True)
    sys.exit(1)
