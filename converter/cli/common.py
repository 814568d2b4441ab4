"""What the commands share: errors as messages and exit codes, JSON, progress on a terminal."""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from converter.errors import FacenetError
from converter.progress import Listener

Command = TypeVar("Command", bound=Callable[..., Any])
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
step_option = click.option(
    "--step",
    type=click.IntRange(min=0),
    help="Which of a folder's checkpoints: the number at the end of its name. Default: the one "
    "that the file `checkpoint` names, else the latest.",
)


def reports_errors(command: Command) -> Command:
    """Print a FacenetError as one message (as JSON with ``--json``) and exit with its code."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except FacenetError as error:
            if kwargs.get("as_json"):
                print_json(error.to_json())
            else:
                click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:  # click's business: the reader has left
            raise
        except OSError as error:
            click.echo(f"Error: {error.strerror or error}", err=True)
            sys.exit(1)
        except MemoryError:
            click.echo("Error: out of memory; nothing was written", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("\nInterrupted; nothing was written", err=True)
            sys.exit(INTERRUPTED)

    return run  # type: ignore[return-value] # the wrapper has the command's own parameters


def hurries(command: Command) -> Command:
    """Save a tenth of a short command's time. Not for those that run networks.

    Nothing multiplies matrices, but OpenBLAS, once NumPy is imported, starts threads that wait
    busily for it. And there is no garbage in cycles to be collected, not even at the end.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        atexit.register(gc.freeze)
        gc.disable()
        try:
            return command(*args, **kwargs)
        finally:
            gc.enable()

    return run  # type: ignore[return-value] # the wrapper has the command's own parameters


def print_json(data: object) -> None:
    """Print `data` as JSON, indented, keys in their order, in ASCII: names may hold anything."""
    click.echo(json.dumps(data, indent=2))


class TerminalListener(Listener):
    """A progress bar on standard error, if that is a terminal; rich is imported only then.

    Sizes are bytes, or with `counted` numbers of things.
    """

    def __init__(self, *, counted: bool = False) -> None:
        self._counted = counted
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> TerminalListener:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                MofNCompleteColumn() if self._counted else DownloadColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def stage(self, name: str, total: int) -> None:
        if self._progress is not None:
            self._task = self._progress.add_task(name, total=total)

    def say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.print(f"{text} …")

    def advance(self, size: int) -> None:
        if self._progress is not None:
            self._progress.advance(self._task, size)
