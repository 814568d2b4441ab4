"""Read and write files of embeddings; the suffix of the path selects the format."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType

from facenet_common import atomic
from facenet_common.errors import FacenetError, UsageError
from facenet_common.text import check_path
from facenet_models.recognition.formats import npz, parquet
from facenet_models.recognition.formats.table import InvalidFileError, Table

FORMATS: dict[str, ModuleType] = {".npz": npz, ".parquet": parquet}


def save(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write `table` to `path`; raises as `check_target`, and OutputError."""
    file_format = _format_of(path)
    check_target(path, overwrite=overwrite)
    buffer = io.BytesIO()
    file_format.write(table, buffer)
    atomic.write_file(path, buffer.getvalue())


def load(path: Path) -> Table:
    """Read what `save` wrote.

    Raises:
        UsageError: The suffix is unknown, or there is no such file.
        FacenetError: The file is damaged, or of another kind.
    """
    file_format = _format_of(path)
    if not path.is_file():
        raise UsageError("no such file", file=path, next_step=check_path(path))
    try:
        with path.open("rb") as file:
            table: Table = file_format.read(file)
    except InvalidFileError as error:
        raise FacenetError(
            "expected a file of embeddings; this one is of another kind, or damaged",
            file=path,
            found=str(error),
            next_step="write it again with facenet embed",
        ) from error
    return table


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check that `path` can be written, before any work is done.

    Raises:
        UsageError: The suffix is unknown, the folder does not exist, or the file exists and
            `overwrite` is not set.
        MissingPackageError: The suffix is ``.parquet``, and pyarrow is not installed.
    """
    _format_of(path).check_packages()
    atomic.check_target(path, overwrite=overwrite)


def _format_of(path: Path) -> ModuleType:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            "unknown suffix for a file of embeddings", file=path, expected=" or ".join(FORMATS)
        ) from None
