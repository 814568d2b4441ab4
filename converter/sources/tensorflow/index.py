"""The index of a TensorFlow checkpoint: the type, shape and place of each tensor.

Sources: tensorflow/core/protobuf/tensor_bundle.proto, core/framework/tensor_shape.proto and
core/framework/tensor_slice.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from converter.dtypes import BY_TENSORFLOW, STRING, DType
from converter.sources.mapped_file import MappedFile
from converter.sources.shapes import shape_problem
from converter.sources.tensorflow import protobuf
from converter.sources.tensorflow.partitioned import Extent, slice_key
from converter.sources.tensorflow.protobuf import DecodeError
from converter.sources.tensorflow.sstable import read_table
from facenet_common.errors import FormatError

DOWNLOAD_AGAIN = "download all files of the checkpoint again: they belong together"
_MAX_SHARDS = 99_999  # five digits in the file name


@dataclass(frozen=True)
class Entry:
    """A checked BundleEntryProto.

    Args:
        name: The variable's name.
        dtype: The element type.
        shape: The size of each axis.
        shard: The number of the data file.
        offset: The start of the values in the data file, in bytes.
        size: The size of the values, in bytes.
        checksum: The masked CRC-32C of the values.
        slices: The extents of each slice if the variable is partitioned, else empty.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: tuple[tuple[Extent, ...], ...]


def read_entries(index: MappedFile) -> tuple[dict[bytes, Entry], int]:
    """Read the index.

    Returns:
        The entries by key, and the number of data files. A key is a variable's name, or the key of
        a slice, which starts with a zero byte.

    Raises:
        FormatError: The index is damaged, or of another version.
    """
    try:
        return _read_entries(index)
    except DecodeError as error:
        raise FormatError(
            "the index file is damaged", file=index.path, found=error, next_step=DOWNLOAD_AGAIN
        ) from error


def _read_entries(index: MappedFile) -> tuple[dict[bytes, Entry], int]:
    table = read_table(index)
    if b"" not in table:
        raise DecodeError("the header entry is missing")
    shards = _read_header(table.pop(b""), index.path)
    entries = {key: _read_entry(key, value, index.path, shards) for key, value in table.items()}
    claimed = {slice_key(e.name, extents) for e in entries.values() for extents in e.slices}
    orphans = [key for key in entries if key.startswith(b"\0") and key not in claimed]
    if orphans:
        raise DecodeError(f"{len(orphans)} slices belong to no variable")
    return entries, shards


def _read_header(value: memoryview, path: Path) -> int:
    shards = endianness = consumer = 0
    for number, field in protobuf.fields(value):
        if number == 1:
            shards = protobuf.integer(field)
        elif number == 2:
            endianness = protobuf.integer(field)
        elif number == 3:
            versions = dict(protobuf.fields(protobuf.view(field)))
            consumer = protobuf.integer(versions.get(2, 0))
    if endianness != 0:
        raise FormatError(
            "the checkpoint was written on a big-endian machine",
            file=path,
            expected="little-endian data",
            found="big-endian data",
            next_step="load it with TensorFlow, and save it again on a little-endian machine",
        )
    if consumer > 1:
        raise DecodeError(f"the file requires a reader of version {consumer}; this is version 1")
    if not 0 < shards <= _MAX_SHARDS:
        raise DecodeError(f"the header declares {shards} data files")
    return shards


def _read_entry(key: bytes, value: memoryview, path: Path, shards: int) -> Entry:
    name = key.decode("utf-8", "replace") if not key.startswith(b"\0") else "a slice"
    try:
        entry = _parse_entry(name, value)
        if not key.startswith(b"\0"):
            key.decode()
    except (DecodeError, UnicodeDecodeError) as error:
        raise FormatError(
            "the index describes an impossible tensor", file=path, tensor=name, found=error
        ) from error
    if entry.shard >= shards:
        raise FormatError(
            "the index names a data file that doesn't exist",
            file=path,
            tensor=name,
            expected=f"file 0 to {shards - 1}",
            found=f"file {entry.shard}",
            next_step=DOWNLOAD_AGAIN,
        )
    if not entry.slices and entry.dtype is not STRING:
        _check_size(entry, path)
    return entry


def _parse_entry(name: str, value: memoryview) -> Entry:
    code = shard = offset = size = checksum = 0
    shape: tuple[int, ...] = ()
    slices = []
    for number, field in protobuf.fields(value):
        if number == 1:
            code = protobuf.integer(field)
        elif number == 2:
            shape = tensor_shape(protobuf.view(field))
        elif number == 3:
            shard = protobuf.integer(field)
        elif number == 4:
            offset = protobuf.signed(field)
        elif number == 5:
            size = protobuf.signed(field)
        elif number == 6:
            checksum = protobuf.integer(field)
        elif number == 7:
            slices.append(extents_of(protobuf.view(field)))
    if code not in BY_TENSORFLOW:
        raise DecodeError(f"unknown element type {code}")
    if offset < 0 or size < 0:
        raise DecodeError(f"offset {offset} or size {size} is negative")
    if any(len(extents) != len(shape) for extents in slices):
        raise DecodeError("a slice and its variable have different numbers of axes")
    return Entry(name, BY_TENSORFLOW[code], shape, shard, offset, size, checksum, tuple(slices))


def tensor_shape(value: memoryview) -> tuple[int, ...]:
    """Decode a TensorShapeProto. Raises DecodeError for an unknown rank or impossible sizes."""
    shape = []
    for number, field in protobuf.fields(value):
        if number == 2:
            sizes = [protobuf.signed(v) for n, v in protobuf.fields(protobuf.view(field)) if n == 1]
            shape.append(sizes[-1] if sizes else 0)
        elif number == 3 and field:
            raise DecodeError("the shape is unknown")
    if wrong := shape_problem(shape):
        raise DecodeError(wrong)
    return tuple(shape)


def extents_of(value: memoryview) -> tuple[Extent, ...]:
    """Decode a TensorSliceProto: start and length per axis; no length is the whole axis (-1)."""
    extents = []
    for number, field in protobuf.fields(value):
        if number == 1:
            parts = {n: protobuf.signed(v) for n, v in protobuf.fields(protobuf.view(field))}
            extents.append((parts.get(1, 0), parts.get(2, -1)))
    return tuple(extents)


def _check_size(entry: Entry, path: Path) -> None:
    expected = prod(entry.shape) * entry.dtype.itemsize
    if entry.size != expected:
        raise FormatError(
            "a tensor's size in the index does not match its shape",
            file=path,
            tensor=entry.name,
            expected=f"{expected} bytes for {entry.dtype} {list(entry.shape)}",
            found=f"{entry.size} bytes",
            next_step=DOWNLOAD_AGAIN,
        )
