"""Files deleted, whatever they are."""

from __future__ import annotations

import shutil
from pathlib import Path

from facenet_common.atomic import output_error


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder, if it is there. Raises OutputError."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
