"""Options and decorators that the converter's commands share."""

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
