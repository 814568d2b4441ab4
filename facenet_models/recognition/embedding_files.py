"""Embeddings in files: ``.npz`` (NumPy) and ``.parquet`` (pyarrow).

npz: ``format``, ``names`` and ``vectors``; ``miss_names`` and ``miss_reasons``.
Parquet: a row for each image: ``name``, ``label``, ``vector`` (null for a miss) and ``miss``
(null for an embedding); misses come last.
"""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from facenet_common.atomic import check_target as check_file_target
from facenet_common.atomic import write_file
from facenet_common.errors import FacenetError, UsageError
from facenet_common.optional import require
from facenet_common.text import check_path
from facenet_models.recognition.embeddings import Embeddings, Miss

FORMAT = "facenet-embeddings-1"
_RATIO = 1032  # deflate can't shrink further (zlib's technical notes)


def save(embeddings: Embeddings, path: Path, *, overwrite: bool) -> None:
    """See `Embeddings.save`."""
    store = _store(path)
    check_target(path, overwrite=overwrite)
    buffer = io.BytesIO()
    store.write(embeddings, buffer)
    write_file(path, buffer.getvalue())


def load(path: Path) -> Embeddings:
    """See `Embeddings.load`."""
    store = _store(path)
    if not path.is_file():
        raise UsageError("no such file", file=path, next_step=check_path(path))
    try:
        with path.open("rb") as file:
            return store.read(file)
    except _ForeignError as error:
        raise FacenetError(
            "not a file of embeddings, or damaged",
            file=path,
            found=str(error),
            next_step="write it again: facenet embed",
        ) from error
    except FacenetError as error:  # Embeddings' own checks
        raise FacenetError(
            error.problem, file=path, expected=error.expected, found=error.found
        ) from error


def check_target(path: Path, *, overwrite: bool) -> None:
    """UsageError unless `path` can be written, before any work is done.

    Raises:
        ImportError: it ends in ``.parquet``, and pyarrow is not installed.
    """
    _store(path).check()
    check_file_target(path, overwrite=overwrite)


class _ForeignError(Exception):
    """Why a file is none of ours."""


class _Store(NamedTuple):
    """A file format."""

    check: Callable[[], object]  # raises ImportError where a package is missing
    write: Callable[[Embeddings, IO[bytes]], None]
    read: Callable[[IO[bytes]], Embeddings]


def _write_npz(embeddings: Embeddings, file: IO[bytes]) -> None:
    np.savez(
        file,
        format=np.array(FORMAT),
        names=np.array(embeddings.names, dtype=np.str_),
        vectors=embeddings.vectors,
        miss_names=np.array([miss.name for miss in embeddings.misses], dtype=np.str_),
        miss_reasons=np.array([miss.reason for miss in embeddings.misses], dtype=np.str_),
    )


def _read_npz(file: IO[bytes]) -> Embeddings:
    try:
        with zipfile.ZipFile(file) as archive:
            mark = _read_npy(archive, "format.npy", file)
            vectors = _read_npy(archive, "vectors.npy", file)
            texts = [
                _as_text(key, _read_npy(archive, f"{key}.npy", file))
                for key in ("names", "miss_names", "miss_reasons")
            ]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise _ForeignError(str(error)) from error
    except (RuntimeError, OSError) as error:  # encrypted or packed oddly; offsets to nowhere
        raise _ForeignError(str(error)) from error
    if not np.array_equal(mark, np.array(FORMAT)):
        raise _ForeignError(f"not marked as {FORMAT}")
    names, missed, reasons = texts
    if len(missed) != len(reasons):
        raise _ForeignError("misses and their reasons differ in number")
    return Embeddings(names, vectors, tuple(map(Miss, missed, reasons)))


def _as_text(key: str, array: np.ndarray) -> tuple[str, ...]:
    """The strings of an array, whose characters NumPy itself does not check."""
    if array.ndim != 1 or array.dtype.kind != "U" or not array.dtype.isnative:
        raise _ForeignError(f"{key} is no list of text")
    if array.nbytes and np.ascontiguousarray(array).view(np.uint32).max() > sys.maxunicode:
        raise _ForeignError(f"{key} holds what is no character")
    return tuple(array.tolist())


def _read_npy(archive: zipfile.ZipFile, name: str, file: IO[bytes]) -> np.ndarray:
    """One array. The sizes that the file declares are checked before memory is taken."""
    info = archive.getinfo(name)
    packed = 1 if info.compress_type == zipfile.ZIP_STORED else _RATIO
    size = os.fstat(file.fileno()).st_size
    if info.compress_size > size or info.file_size > info.compress_size * packed:
        raise _ForeignError(f"{name} declares {info.file_size} bytes, the whole file has {size}")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise _ForeignError(f"{name} is in npy format {version}, expected (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if stream.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise _ForeignError(f"{name} has another size than its header declares")
    with archive.open(info) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _pyarrow() -> tuple[Any, Any]:
    purpose = "reading and writing Parquet"
    return (
        require("pyarrow", purpose),
        require("pyarrow.parquet", purpose),
    )


def _write_parquet(embeddings: Embeddings, file: IO[bytes]) -> None:
    pa, parquet = _pyarrow()
    misses = embeddings.misses
    names = [*embeddings.names, *(miss.name for miss in misses)]
    flat = pa.array(embeddings.vectors.ravel())
    size = max(1, embeddings.vectors.shape[1])  # 0 where all are misses; Arrow wants 1
    vectors = pa.FixedSizeListArray.from_arrays(flat, size)
    try:
        table = pa.table(
            {
                "name": pa.array(names, pa.string()),
                "label": pa.array([*embeddings.labels, *([None] * len(misses))], pa.string()),
                "vector": pa.concat_arrays([vectors, pa.nulls(len(misses), vectors.type)]),
                "miss": pa.array(
                    [*([None] * len(embeddings)), *(miss.reason for miss in misses)], pa.string()
                ),
            },
            metadata={"format": FORMAT},
        )
    except UnicodeEncodeError as error:
        raise UsageError(
            "Parquet keeps names in UTF-8, and this one can't be encoded",
            found=repr(error.object),
            next_step="rename the image, or write .npz",
        ) from error
    parquet.write_table(table, file)


def _read_parquet(file: IO[bytes]) -> Embeddings:
    pa, parquet = _pyarrow()
    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise _ForeignError(str(error)) from error
    if (table.schema.metadata or {}).get(b"format") != FORMAT.encode():
        raise _ForeignError(f"not marked as {FORMAT}")
    try:
        names, vectors, reasons = (table.column(name) for name in ("name", "vector", "miss"))
    except KeyError as error:
        raise _ForeignError(f"no column {error}") from error
    if not pa.types.is_string(names.type) or not pa.types.is_string(reasons.type):
        raise _ForeignError("names or reasons that are no text")
    if not pa.types.is_fixed_size_list(vectors.type) or vectors.type.value_type != pa.float32():
        raise _ForeignError(f"vectors of type {vectors.type}")
    embedded = [i for i, reason in enumerate(reasons.to_pylist()) if reason is None]
    if embedded != list(range(len(embedded))) or vectors.null_count != len(table) - len(embedded):
        raise _ForeignError("misses that don't come last, or have an embedding too")
    kept = vectors.slice(0, len(embedded)).combine_chunks()
    numbers = kept.flatten()
    if kept.null_count or numbers.null_count:
        raise _ForeignError("an embedding that is null, or holds nulls")
    matrix = numbers.to_numpy().reshape(len(embedded), vectors.type.list_size)
    all_names = names.to_pylist()
    misses = map(Miss, all_names[len(embedded) :], reasons.to_pylist()[len(embedded) :])
    return Embeddings(tuple(all_names[: len(embedded)]), matrix.copy(), tuple(misses))


_STORES = {
    ".npz": _Store(lambda: None, _write_npz, _read_npz),
    ".parquet": _Store(_pyarrow, _write_parquet, _read_parquet),
}


def _store(path: Path) -> _Store:
    try:
        return _STORES[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            "the file's ending does not say its format",
            file=path,
            expected=" or ".join(_STORES),
        ) from None
