"""TensorFlow checkpoints of version 2, a "bundle": PREFIX.index and PREFIX.data-NNNNN-of-NNNNN.

The index is a sorted table of protocol buffers that say where in the data shards each tensor
lies. Sources: tensorflow/core/protobuf/tensor_bundle.proto and
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from crc32c import crc32c

from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import STRING, Array
from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow import protobuf
from converter.sources.tensorflow.index import FETCH_AGAIN, Entry, read_entries
from converter.sources.tensorflow.partitioned import Extent, assemble, check_tiling, slice_key
from converter.sources.tensorflow.sstable import masked
from facenet_common.errors import FormatError

FORMAT = "tensorflow-bundle"
NAMING: Naming = "tensorflow"


def recognises(path: Path) -> bool:
    """Whether `path` is a bundle's prefix (its name without ``.index``)."""
    return index_path(path).is_file()


def index_path(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def shard_path(prefix: Path, shard: int, shards: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def open(prefix: Path) -> Catalog:
    """The bundle's tensors; values stay on disk until loaded.

    Each index block is checked against its CRC-32C now, each tensor when it is loaded. Every byte
    of the data files must belong to exactly one tensor, or be zero padding. Raises FormatError.
    """
    index = MappedFile(index_path(prefix))
    entries, shards = read_entries(index)
    files = _open_shards(prefix, shards)
    stored = [entry for entry in entries.values() if not entry.slices]
    for number, file in enumerate(files):
        _check_coverage(file, [entry for entry in stored if entry.shard == number])
    tensors = {
        key.decode(): _tensor(entry, entries, files)
        for key, entry in entries.items()
        if not key.startswith(b"\0")
    }
    return Catalog(
        tensors,
        format=FORMAT,
        naming=NAMING,
        files=(index.path, *(file.path for file in files)),
        release=partial(_release, files),
    )


def _open_shards(prefix: Path, shards: int) -> tuple[MappedFile, ...]:
    paths = [shard_path(prefix, number, shards) for number in range(shards)]
    files = []
    for path in paths:
        if not path.is_file():
            there = sorted(p.name for p in prefix.parent.glob("*.data-*"))
            raise FormatError(
                "a data file of the checkpoint is missing",
                file=path,
                expected=f"{shards} data file{'s' * (shards != 1)} beside {prefix.name}.index",
                found=", ".join(there[:10]) or "none",
                next_step="copy every .data-… file of the checkpoint into the same folder",
            )
        files.append(MappedFile(path, may_be_empty=True))  # if it holds but empty tensors
    return tuple(files)


def _release(files: tuple[MappedFile, ...], touched: int) -> None:
    for file in files:
        file.release(touched)


def _check_coverage(file: MappedFile, entries: list[Entry]) -> None:
    """Tensors must not overlap, and what lies between or behind them must be zero padding."""
    position = 0
    for entry in sorted(entries, key=lambda e: (e.offset, e.size)):
        file.view(entry.offset, entry.size, f"tensor {entry.name}")
        if entry.offset < position and entry.size:
            raise FormatError(
                "two tensors lie on the same bytes",
                file=file.path,
                tensor=entry.name,
                expected=f"an offset of at least {position}",
                found=f"offset {entry.offset}",
                next_step=FETCH_AGAIN,
            )
        _check_padding(file, position, entry.offset)
        position = max(position, entry.offset + entry.size)
    if position != file.size:
        raise FormatError(
            "the data file doesn't belong to this index",
            file=file.path,
            expected=f"{position} bytes",
            found=f"{file.size} bytes",
            next_step=FETCH_AGAIN,
        )


def _check_padding(file: MappedFile, start: int, end: int) -> None:
    if end > start and np.frombuffer(file.view(start, end - start), np.uint8).any():
        raise FormatError(
            "bytes between two tensors are not zero",
            file=file.path,
            found=f"data that the index doesn't mention, in bytes {start} to {end}",
            next_step=FETCH_AGAIN,
        )


def _tensor(entry: Entry, entries: dict[bytes, Entry], files: tuple[MappedFile, ...]) -> TensorRef:
    if not entry.slices:
        file = files[entry.shard]
        load = partial(_load, entry, file)
        return TensorRef(entry.name, entry.dtype, entry.shape, load, partial(_check, entry, file))
    parts = []
    for extents in entry.slices:
        part = entries.get(slice_key(entry.name, extents))
        if part is None or part.dtype is not entry.dtype or part.slices:
            raise FormatError(
                "a slice of a partitioned variable is missing or of another type",
                file=files[0].path,
                tensor=entry.name,
                expected=f"a {entry.dtype} slice {_spell(extents)}",
                next_step=FETCH_AGAIN,
            )
        parts.append((extents, part))
    if entry.dtype is STRING:
        checks = [partial(_check, part, files[part.shard]) for _, part in parts]
        refuse = partial(_load, entry, files[0])
        return TensorRef(entry.name, STRING, entry.shape, refuse, partial(_check_all, checks))
    boxes = check_tiling(entry.name, entry.shape, [(e, p.shape) for e, p in parts], files[0].path)
    loads = [partial(_load, part, files[part.shard]) for _, part in parts]
    load = partial(assemble, entry.shape, entry.dtype, boxes, loads)
    return TensorRef(entry.name, entry.dtype, entry.shape, load)


def _check_all(checks: Iterable[Callable[[], None]]) -> None:
    for check in checks:
        check()


def _spell(extents: Iterable[Extent]) -> str:
    return ":".join("-" if length < 0 else f"{start},{length}" for start, length in extents)


def _stored(entry: Entry, file: MappedFile) -> memoryview:
    return file.view(entry.offset, entry.size, f"tensor {entry.name}")


def _load(entry: Entry, file: MappedFile) -> Array:
    if entry.dtype is STRING:
        raise FormatError("strings are listed, not read", file=file.path, tensor=entry.name)
    _check(entry, file)
    return np.frombuffer(_stored(entry, file), entry.dtype.numpy).reshape(entry.shape)


def _check(entry: Entry, file: MappedFile) -> None:
    data = _stored(entry, file)
    found = masked(_string_crc(entry, data) if entry.dtype is STRING else crc32c(data))
    if found != entry.checksum:
        raise FormatError(
            "checksum mismatch: the data is damaged",
            file=file.path,
            tensor=entry.name,
            expected=f"masked CRC-32C {entry.checksum:#010x}",
            found=f"{found:#010x} over bytes {entry.offset} to {entry.offset + entry.size}",
            next_step=FETCH_AGAIN,
        )


def _string_crc(entry: Entry, data: memoryview) -> int:
    """Strings are lengths (varints), a checksum of the lengths, then the bytes.

    The checksum covers each length not as stored but as a uint32 (uint64 where it needs one).
    Where the lengths are cut off, all bytes are covered, which matches no valid checksum.
    """
    crc = position = 0
    try:
        for _ in range(prod(entry.shape)):
            length, position = protobuf.varint(data, position)
            crc = crc32c(length.to_bytes(4 if length < 1 << 32 else 8, "little"), crc)
    except protobuf.DecodeError:
        return crc32c(data)
    return crc32c(data[position:], crc)
