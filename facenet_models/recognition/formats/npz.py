"""Embeddings in NumPy's ``.npz``.

Arrays: ``format`` (the mark), ``names``, ``vectors``, ``miss_names`` and ``miss_reasons``.
"""

from __future__ import annotations

import math
import os
import sys
import zipfile
import zlib
from typing import IO

import numpy as np

from facenet_models.recognition.formats.table import FORMAT, InvalidFileError, Miss, Table

# Deflate can't compress further: https://zlib.net/zlib_tech.html, "Maximum Compression Factor".
_MAX_RATIO = 1032


def check_packages() -> None:
    """Do nothing: the format needs NumPy only."""


def write(table: Table, file: IO[bytes]) -> None:
    """Write `table` to a binary file."""
    np.savez(
        file,
        format=np.array(FORMAT),
        names=np.array(table.names, dtype=np.str_),
        vectors=table.vectors,
        miss_names=np.array([miss.name for miss in table.misses], dtype=np.str_),
        miss_reasons=np.array([miss.reason for miss in table.misses], dtype=np.str_),
    )


def read(file: IO[bytes]) -> Table:
    """Read what `write` wrote.

    Raises:
        InvalidFileError: The file is damaged, or of another kind.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            format_mark = _read_npy(archive, "format.npy", file)
            vectors = _read_npy(archive, "vectors.npy", file)
            texts = [
                _as_text(key, _read_npy(archive, f"{key}.npy", file))
                for key in ("names", "miss_names", "miss_reasons")
            ]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise InvalidFileError(str(error)) from error
    except (RuntimeError, OSError) as error:  # encrypted; offsets outside the file
        raise InvalidFileError(str(error)) from error
    if not np.array_equal(format_mark, np.array(FORMAT)):
        raise InvalidFileError(f"the mark {FORMAT} is missing")
    names, missed, reasons = texts
    if len(missed) != len(reasons):
        raise InvalidFileError("the numbers of misses and of reasons differ")
    return Table(names, (), vectors, tuple(map(Miss, missed, reasons)))


def _as_text(key: str, array: np.ndarray) -> tuple[str, ...]:
    """Return the strings of an array after checking its characters, which NumPy does not do."""
    if array.ndim != 1 or array.dtype.kind != "U" or not array.dtype.isnative:
        raise InvalidFileError(f"{key} is not a list of strings")
    if array.nbytes and np.ascontiguousarray(array).view(np.uint32).max() > sys.maxunicode:
        raise InvalidFileError(f"{key} contains an invalid character")
    return tuple(array.tolist())


def _read_npy(archive: zipfile.ZipFile, name: str, file: IO[bytes]) -> np.ndarray:
    """Read one array; check the sizes that the file declares before allocating memory."""
    info = archive.getinfo(name)
    ratio = 1 if info.compress_type == zipfile.ZIP_STORED else _MAX_RATIO
    size = os.fstat(file.fileno()).st_size
    if info.compress_size > size or info.file_size > info.compress_size * ratio:
        raise InvalidFileError(
            f"{name} declares {info.file_size} bytes, but the whole file has {size}"
        )
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise InvalidFileError(f"{name} has npy format {version}, expected (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if stream.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise InvalidFileError(
                f"the size of {name} differs from the one that its header declares"
            )
    with archive.open(info) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        return array
