"""Import TensorFlow and torch on first use.

Both take seconds to import and are optional, so no module of parity_tests imports them at its top.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from facenet_common.optional import require


def tensorflow() -> Any:
    """Return the ``tensorflow`` module.

    ``TF_CPP_MIN_LOG_LEVEL`` is set to 2 (errors only) unless the user has set it. Two notes, on
    oneDNN and on CUDA, still appear on stderr: TensorFlow 2.21 logs them before it reads that
    variable. Hiding them would also hide why an import crashed.

    Raises:
        MissingPackageError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return require("tensorflow", "running the original graph")


def torch() -> Any:
    """Return the ``torch`` module.

    Raises:
        MissingPackageError: torch is not installed.
    """
    return require("torch", "running the converted weights")


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Silence the deprecation notices of TensorFlow's Python API; errors are still logged.

    Every function that runs a TF1 graph is deprecated and logs that on each call.
    """
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
