"""TensorFlow checkpoints of version 2, "bundles": PREFIX.index and PREFIX.data-NNNNN-of-NNNNN.

Those of `tf.train.Checkpoint` ("object-based") have an object graph with the variables' names. The
index is a sorted table of protocol buffers with the place of each tensor in the data files.
Sources: tensorflow/core/protobuf/tensor_bundle.proto and
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from converter.catalog import Catalog, Naming, TensorRef
from converter.checksums import crc32c
from converter.dtypes import STRING, Array
from converter.sources import archive
from converter.sources.mapped_file import MappedFile, release_all
from converter.sources.tensorflow import object_graph, protobuf
from converter.sources.tensorflow.index import DOWNLOAD_AGAIN, Entry, read_entries
from converter.sources.tensorflow.partitioned import Extent, assemble, check_tiling, slice_key
from converter.sources.tensorflow.sstable import masked
from facenet_common.errors import FormatError

FORMAT = "tensorflow-bundle"
OBJECT_BASED = "tensorflow-object-checkpoint"
NAMING: Naming = "tensorflow"


def recognises(path: Path) -> bool:
    """Return whether `path` is the prefix of a checkpoint: its name without ``.index``."""
    return archive.is_file(index_path(path))


def index_path(prefix: Path) -> Path:
    """Return the path of the index of the checkpoint `prefix`.

    Examples:
        >>> str(index_path(Path("faces/model.ckpt")))
        'faces/model.ckpt.index'
    """
    return prefix.with_name(prefix.name + ".index")


def shard_path(prefix: Path, shard: int, shards: int) -> Path:
    """Return the path of data file number `shard` of `shards`.

    Examples:
        >>> str(shard_path(Path("faces/model.ckpt"), 0, 1))
        'faces/model.ckpt.data-00000-of-00001'
    """
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def open(prefix: Path) -> Catalog:
    """Return the checkpoint's tensors. Values are read when they are loaded.

    The CRC-32C of the index is verified now, that of each tensor when it is loaded. Every byte of
    the data files must belong to exactly one tensor, or be zero padding.

    Raises:
        FormatError: The checkpoint is damaged or incomplete.
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
    graph = entries.get(object_graph.KEY.encode())
    notes: tuple[str, ...] = ()
    if graph is not None:
        tensors, notes = _by_own_names(tensors, _one_string(graph, files[graph.shard]), index.path)
    return Catalog(
        tensors,
        format=FORMAT if graph is None else OBJECT_BASED,
        naming=NAMING,
        files=(index.path, *(file.path for file in files)),
        notes=notes,
        release=partial(release_all, files),
    )


def _by_own_names(
    tensors: dict[str, TensorRef], graph: memoryview, path: Path
) -> tuple[dict[str, TensorRef], tuple[str, ...]]:
    """Return the variables of an object-based checkpoint by their own names, and the notes."""
    try:
        names = object_graph.variable_names(graph)
    except protobuf.DecodeError as error:
        raise FormatError(
            "the checkpoint's object graph is damaged",
            file=path,
            found=error,
            next_step=DOWNLOAD_AGAIN,
        ) from error
    found: dict[str, TensorRef] = {}
    notes = ["the names are those of the variables in the checkpoint's object graph"]
    for key, ref in tensors.items():
        name = names.get(key, key)
        if key == object_graph.KEY:
            continue
        if name in object_graph.BOOKKEEPING:
            ref.verify()
            notes.append(f"left out {name}: {object_graph.BOOKKEEPING[name]}")
        elif name in found:
            raise FormatError(
                "two variables of the checkpoint have the same name", file=path, tensor=name
            )
        else:
            found[name] = replace(ref, name=name)
    return found, tuple(notes)


def _one_string(entry: Entry, file: MappedFile) -> memoryview:
    """Return the content of a tensor of one string. It is verified."""
    data = _stored(entry, file)
    try:
        size, start = protobuf.varint(data, 0)
    except protobuf.DecodeError:
        size = start = len(data)
    if entry.dtype is not STRING or entry.shape or len(data) != start + 4 + size:
        raise FormatError(
            "the checkpoint's object graph is damaged",
            file=file.path,
            tensor=entry.name,
            expected="one string",
            found=f"{entry.dtype} {list(entry.shape)} in {len(data)} bytes",
            next_step=DOWNLOAD_AGAIN,
        )
    _check(entry, file)
    return data[start + 4 :]


def _open_shards(prefix: Path, shards: int) -> tuple[MappedFile, ...]:
    paths = [shard_path(prefix, number, shards) for number in range(shards)]
    files = []
    for path in paths:
        if not archive.is_file(path):
            others = [p.name for p in archive.paths_in(prefix.parent) if ".data-" in p.name]
            raise FormatError(
                "a data file of the checkpoint is missing",
                file=path,
                expected=f"{shards} data file{'s' * (shards != 1)} beside {prefix.name}.index",
                found=", ".join(others[:10]) or "none",
                next_step="copy every .data-… file of the checkpoint into the same folder",
            )
        files.append(MappedFile(path, may_be_empty=True))  # all tensors may be empty
    return tuple(files)


def _check_coverage(file: MappedFile, entries: list[Entry]) -> None:
    """Check that tensors don't overlap, and that all bytes between and after them are zero."""
    position = 0
    for entry in sorted(entries, key=lambda e: (e.offset, e.size)):
        file.check(entry.offset, entry.size, f"tensor {entry.name}")
        if entry.offset < position and entry.size:
            raise FormatError(
                "two tensors overlap in the data file",
                file=file.path,
                tensor=entry.name,
                expected=f"an offset of at least {position}",
                found=f"offset {entry.offset}",
                next_step=DOWNLOAD_AGAIN,
            )
        _check_padding(file, position, entry.offset)
        position = max(position, entry.offset + entry.size)
    if position != file.size:
        raise FormatError(
            "the data file does not match the index",
            file=file.path,
            expected=f"{position} bytes",
            found=f"{file.size} bytes",
            next_step=DOWNLOAD_AGAIN,
        )


def _check_padding(file: MappedFile, start: int, end: int) -> None:
    if end > start and np.frombuffer(file.view(start, end - start), np.uint8).any():
        raise FormatError(
            "the data file has bytes that belong to no tensor",
            file=file.path,
            found=f"bytes other than 0 from {start} to {end}",
            next_step=DOWNLOAD_AGAIN,
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
                "a slice of a partitioned variable is missing or has another type",
                file=files[0].path,
                tensor=entry.name,
                expected=f"a {entry.dtype} slice {_extents_text(extents)}",
                next_step=DOWNLOAD_AGAIN,
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


def _extents_text(extents: Iterable[Extent]) -> str:
    return ":".join("-" if length < 0 else f"{start},{length}" for start, length in extents)


def _stored(entry: Entry, file: MappedFile) -> memoryview:
    return file.view(entry.offset, entry.size, f"tensor {entry.name}")


def _load(entry: Entry, file: MappedFile) -> Array:
    if entry.dtype is STRING:
        raise FormatError(
            "strings can be listed, but not converted", file=file.path, tensor=entry.name
        )
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
            next_step=DOWNLOAD_AGAIN,
        )


def _string_crc(entry: Entry, data: memoryview) -> int:
    """Return the CRC-32C of strings: their lengths (varints), its checksum, then their bytes.

    It covers each length as a uint32 (uint64 if necessary), not as the stored varint:
    WriteStringTensor in tensor_bundle.cc. If the lengths are cut off, return the checksum of all
    bytes, which is not the valid one.
    """
    crc = position = 0
    try:
        for _ in range(prod(entry.shape)):
            length, position = protobuf.varint(data, position)
            crc = crc32c(length.to_bytes(4 if length < 1 << 32 else 8, "little"), crc)
    except protobuf.DecodeError:
        return crc32c(data)
    return crc32c(data[position:], crc)
