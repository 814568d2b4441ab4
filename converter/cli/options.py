"""Options and decorators of the converter's commands."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

step_option = click.option(
    "--step",
    type=click.IntRange(min=0),
    help="Which of a folder's checkpoints: the number at the end of its name. Default: the one "
    "that the file `checkpoint` names, else the latest.",
)


def short_command(command: Command) -> Command:
    """Run a command without garbage collection and OpenBLAS's threads. Not for running networks.

    Measured with `facenet inspect` (processor time, median of 35 runs on two busy cores): 449 ms;
    556 ms with garbage collection, most of it at exit, where no cycles are left that hold files;
    480 ms with OpenBLAS's threads, which wait busily for matrices that these commands never have.
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
