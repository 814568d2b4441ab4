"""Files that appear whole under their name, or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from facenet_models.errors import OutputError, UsageError


def check_target(target: Path, *, overwrite: bool) -> None:
    """UsageError unless the file `target` can be created, before any work is done."""
    if not target.absolute().parent.is_dir():
        raise UsageError(
            "the output's folder does not exist",
            file=target.absolute().parent,
            next_step=f"mkdir -p {target.absolute().parent}",
        )
    if target.is_dir():
        raise UsageError("the output is a folder", file=target, next_step="name a file in it")
    if os.path.lexists(target) and not overwrite:
        raise UsageError(
            "the output exists already",
            file=target,
            next_step="choose another name, or pass overwrite=True to replace it",
        )


def write_atomically(target: Path, data: bytes) -> None:
    """Write `data` to a hidden file beside `target`, flush it to the disk, and rename it.

    Raises:
        OutputError: The disk is full or the folder can't be written; nothing is left behind.
    """
    partial = target.absolute().with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        raise OutputError(
            "the output could not be written; nothing was left behind",
            file=target,
            found=error.strerror or str(error),
            next_step="check the folder and the space on the disk, and try again",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
