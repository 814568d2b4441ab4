"""Run ``facenet`` in this process, and write checkpoints for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from converter.catalog import TensorRef
from converter.cli.main import facenet
from converter.dtypes import FLOAT32
from converter.writers import bundle

SHARD = "model.ckpt.data-00000-of-00001"


def run(*arguments: object) -> Result:
    """Run ``facenet …``; a traceback is a failure of the test."""
    result = CliRunner().invoke(facenet, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def write(folder: Path, values: dict[str, np.ndarray]) -> Path:
    """Write float32 tensors as a TensorFlow checkpoint."""
    folder.mkdir(exist_ok=True)
    refs = [TensorRef(n, FLOAT32, v.shape, lambda v=v: v) for n, v in values.items()]
    bundle.write(folder, refs, lambda _: None)
    return folder
