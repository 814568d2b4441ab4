"""Embeddings in Parquet, through pyarrow (the extra ``parquet``).

One row for each image: ``name``, ``label``, ``vector`` (null for a miss) and ``miss``, its reason
(null for an embedding). Misses come last. The file's metadata has the mark under ``format``.
"""

from __future__ import annotations

from typing import IO, Any

from facenet_common.errors import UsageError
from facenet_common.optional import require
from facenet_models.recognition.formats.table import FORMAT, InvalidFileError, Miss, Table


def _pyarrow() -> tuple[Any, Any]:
    purpose = "reading and writing Parquet"
    return (
        require("pyarrow", purpose),
        require("pyarrow.parquet", purpose),
    )


def check_packages() -> None:
    """Raise MissingPackageError if pyarrow is not installed."""
    _pyarrow()


def write(table: Table, file: IO[bytes]) -> None:
    """Write `table` to a binary file.

    Raises:
        UsageError: A name can't be encoded as UTF-8.
    """
    pa, parquet = _pyarrow()
    misses = table.misses
    names = [*table.names, *(miss.name for miss in misses)]
    flat = pa.array(table.vectors.ravel())
    size = max(1, table.vectors.shape[1])  # 0 without any embedding; Arrow needs at least 1
    vectors = pa.FixedSizeListArray.from_arrays(flat, size)
    try:
        rows = pa.table(
            {
                "name": pa.array(names, pa.string()),
                "label": pa.array([*table.labels, *([None] * len(misses))], pa.string()),
                "vector": pa.concat_arrays([vectors, pa.nulls(len(misses), vectors.type)]),
                "miss": pa.array(
                    [*([None] * len(table.names)), *(miss.reason for miss in misses)], pa.string()
                ),
            },
            metadata={"format": FORMAT},
        )
    except UnicodeEncodeError as error:
        raise UsageError(
            "Parquet stores names as UTF-8, and this one can't be encoded",
            found=repr(error.object),
            next_step="rename the image, or write .npz",
        ) from error
    parquet.write_table(rows, file)


def read(file: IO[bytes]) -> Table:
    """Read what `write` wrote.

    Raises:
        InvalidFileError: The file is damaged, or of another kind.
    """
    pa, parquet = _pyarrow()
    try:
        rows = parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise InvalidFileError(str(error)) from error
    if (rows.schema.metadata or {}).get(b"format") != FORMAT.encode():
        raise InvalidFileError(f"the mark {FORMAT} is missing")
    try:
        names, vectors, reasons = (rows.column(name) for name in ("name", "vector", "miss"))
    except KeyError as error:
        raise InvalidFileError(f"the column {error} is missing") from error
    if not pa.types.is_string(names.type) or not pa.types.is_string(reasons.type):
        raise InvalidFileError("names or reasons are not strings")
    if not pa.types.is_fixed_size_list(vectors.type) or vectors.type.value_type != pa.float32():
        raise InvalidFileError(f"the vectors have the type {vectors.type}")
    embedded = [i for i, reason in enumerate(reasons.to_pylist()) if reason is None]
    if embedded != list(range(len(embedded))) or vectors.null_count != len(rows) - len(embedded):
        raise InvalidFileError("a miss has an embedding, or does not come last")
    kept = vectors.slice(0, len(embedded)).combine_chunks()
    numbers = kept.flatten()
    if kept.null_count or numbers.null_count:
        raise InvalidFileError("an embedding is null or contains nulls")
    matrix = numbers.to_numpy().reshape(len(embedded), vectors.type.list_size)
    all_names = names.to_pylist()
    misses = map(Miss, all_names[len(embedded) :], reasons.to_pylist()[len(embedded) :])
    return Table(tuple(all_names[: len(embedded)]), (), matrix.copy(), tuple(misses))
