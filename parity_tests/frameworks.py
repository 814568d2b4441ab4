"""TensorFlow and torch, imported on first use, or with a message that says what to install.

Both take seconds to import and are optional, so nothing in parity_tests imports them at its top.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from facenet_common.errors import ParityError

_INSTALL = 'pip install "facenet-parity[parity]"'


def tensorflow() -> Any:
    """The ``tensorflow`` module.

    ``TF_CPP_MIN_LOG_LEVEL`` becomes 2 (errors only) unless the user has set it. Two notes, on
    oneDNN and on CUDA, still reach stderr: TensorFlow 2.21 logs them before it reads that
    variable. Hiding them would take hiding all of stderr, and with it why an import crashed.

    Raises:
        ParityError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return _load("tensorflow", "run the original's graph")


def torch() -> Any:
    """The ``torch`` module.

    Raises:
        ParityError: torch is not installed.
    """
    return _load("torch", "run the converted weights")


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Silence deprecation notices of TensorFlow's Python side; errors are still logged.

    Everything that runs a TF1 graph is deprecated, and TensorFlow says so on every call.
    """
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _load(name: str, purpose: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # installed but broken: its own message says more
            raise
        raise ParityError(
            f"{name} is needed to {purpose}, and it is not installed: {_INSTALL}"
        ) from error
