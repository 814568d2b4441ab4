"""TensorFlow checkpoints of version 1: one sorted table of slices, without an ``.index``.

`tf.train.Saver` wrote them until TensorFlow 0.12, and later with ``write_version=SaverDef.V1``: a
file ``model.ckpt-1000``, or with ``sharded=True`` several, ``model.ckpt-1000-00000-of-00002``.
Sources: tensorflow/core/util/saved_tensor_slice.proto and tensor_slice_writer.cc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import BY_TENSORFLOW, STRING, DType
from converter.sources import archive
from converter.sources.mapped_file import MappedFile, release_all
from converter.sources.tensorflow import protobuf, tensor_proto
from converter.sources.tensorflow.index import DOWNLOAD_AGAIN, extents_of, tensor_shape
from converter.sources.tensorflow.partitioned import Extent, assemble, check_tiling, slice_key
from converter.sources.tensorflow.protobuf import DecodeError
from converter.sources.tensorflow.sstable import ends_like_a_table, read_table
from facenet_common.errors import FormatError

FORMAT = "tensorflow-saver-v1"
NAMING: Naming = "tensorflow"

_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
_NOT_OURS = (".index", ".meta")  # an index of version 2 is a table as well


def recognises(path: Path) -> bool:
    """Return whether `path` is such a file, one of several, or their name without the number."""
    if archive.is_file(path):
        return is_part(path)
    return any(map(is_part, _shards(path)))


def is_part(path: Path) -> bool:
    """Return whether `path` is a file of such a checkpoint, by its last bytes."""
    return path.suffix not in _NOT_OURS and ends_like_a_table(path)


def prefix_of(path: Path) -> Path:
    """Return the name of the checkpoint to which the file `path` belongs.

    Examples:
        >>> prefix_of(Path("faces/model.ckpt-7-00000-of-00002")).name
        'model.ckpt-7'
    """
    shard = _SHARD.fullmatch(path.name)
    return path.with_name(shard[1]) if shard else path


def open(path: Path) -> Catalog:
    """Return the checkpoint's tensors. Values are decoded when they are loaded.

    The CRC-32C of every block, and so of every byte, is verified now.

    Raises:
        FormatError: The checkpoint is damaged or incomplete.
    """
    files = [MappedFile(part) for part in _files(prefix_of(path))]
    tensors: dict[str, TensorRef] = {}
    for file in files:
        try:
            found = _tensors(file)
        except DecodeError as error:
            raise FormatError(
                "the checkpoint is damaged", file=file.path, found=error, next_step=DOWNLOAD_AGAIN
            ) from error
        finally:
            file.release(file.size)  # its pages, not its values
        if twice := sorted(found.keys() & tensors):
            raise FormatError(
                "two files of the checkpoint hold the same tensor",
                file=file.path,
                tensor=twice[0],
                next_step="convert each file by itself, or save the model without sharding",
            )
        tensors |= found
    return Catalog(
        tensors,
        format=FORMAT,
        naming=NAMING,
        files=tuple(file.path for file in files),
        release=partial(release_all, files),
    )


def _shards(prefix: Path) -> list[Path]:
    if not archive.is_folder(prefix.parent):
        return []
    parts = [(path, _SHARD.fullmatch(path.name)) for path in archive.paths_in(prefix.parent)]
    return [path for path, match in parts if match and match[1] == prefix.name]


def _files(prefix: Path) -> list[Path]:
    if archive.is_file(prefix):
        return [prefix]
    found = _shards(prefix)
    count = int(found[0].name[-5:])
    wanted = [f"{prefix.name}-{n:05d}-of-{count:05d}" for n in range(min(count, 1000))]
    if [path.name for path in found] != wanted:
        raise FormatError(
            "the files of the checkpoint are not one complete set",
            file=prefix,
            expected=f"{count} files, {wanted[0] if wanted else ''} and so on",
            found=", ".join(path.name for path in found[:10]),
            next_step="copy every file of the checkpoint into the same folder, and no others",
        )
    return found


@dataclass(frozen=True)
class _Variable:
    """A SavedSliceMeta: a tensor's name, type, shape, and the extents of each stored slice."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    slices: tuple[tuple[Extent, ...], ...]


def _tensors(file: MappedFile) -> dict[str, TensorRef]:
    table = read_table(file, "checkpoint")
    variables = list(_variables(table.pop(b"", memoryview(b""))))
    tensors = {}
    for variable in variables:
        if variable.name in tensors:
            raise DecodeError(f"two tensors have the name {variable.name[:80]}")
        tensors[variable.name] = _tensor(variable, table, file)
    if table:
        raise DecodeError(f"{len(table)} slices belong to no tensor")
    return tensors


def _variables(header: memoryview) -> Iterator[_Variable]:
    """Yield the tensors that the first value of the table lists."""
    if not header:
        raise DecodeError("the list of tensors is missing")
    for number, meta in protobuf.fields(header):
        if number != 1:
            raise DecodeError("the list of tensors has other data")
        for kind, field in protobuf.fields(protobuf.view(meta)):
            if kind == 1:
                yield _variable(protobuf.view(field))
            elif kind == 2:
                versions = dict(protobuf.fields(protobuf.view(field)))
                if protobuf.integer(versions.get(2, 0)) > 1:
                    raise DecodeError("the file requires a reader of a later version")


def _variable(message: memoryview) -> _Variable:
    name, code, slices = "", 0, []
    shape: tuple[int, ...] = ()
    for number, field in protobuf.fields(message):
        if number == 1:
            name = protobuf.text(field)
        elif number == 2:
            shape = tensor_shape(protobuf.view(field))
        elif number == 3:
            code = protobuf.integer(field)
        elif number == 4:
            slices.append(extents_of(protobuf.view(field)))
    if code not in BY_TENSORFLOW:
        raise DecodeError(f"tensor {name[:80]} has the unknown element type {code}")
    if not slices or any(len(extents) != len(shape) for extents in slices):
        raise DecodeError(f"tensor {name[:80]} has slices of another number of axes, or none")
    return _Variable(name, BY_TENSORFLOW[code], shape, tuple(slices))


def _tensor(variable: _Variable, table: dict[bytes, memoryview], file: MappedFile) -> TensorRef:
    """Return a tensor, and take its slices out of `table`."""
    name, dtype = variable.name, variable.dtype
    values = []
    for extents in variable.slices:
        stored = table.pop(slice_key(name, extents), None)
        if stored is None:
            raise DecodeError(f"a slice of tensor {name[:80]} is missing")
        values.append(_slice_values(variable, extents, stored))
    if dtype is STRING:
        refuse = partial(tensor_proto.load, values[0], file, name, dtype, variable.shape)
        return TensorRef(name, dtype, variable.shape, refuse, lambda: None)  # verified already
    shapes = [_slice_shape(extents, variable.shape) for extents in variable.slices]
    parts = list(zip(variable.slices, shapes, strict=True))
    boxes = check_tiling(name, variable.shape, parts, file.path)
    loads = [
        partial(tensor_proto.load, value, file, name, dtype, shape, may_repeat=False)
        for value, shape in zip(values, shapes, strict=True)
    ]
    whole = partial(assemble, variable.shape, dtype, boxes, loads)
    return TensorRef(name, dtype, variable.shape, loads[0] if len(loads) == 1 else whole)


def _slice_shape(extents: tuple[Extent, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = zip(extents, shape, strict=True)
    return tuple(size if length < 0 else length for (_, length), size in axes)


def _slice_values(
    variable: _Variable, extents: tuple[Extent, ...], stored: memoryview
) -> memoryview:
    """Return the TensorProto of a slice, which repeats the tensor's name and its own extents."""
    for number, field in protobuf.fields(stored):
        if number != 2:
            continue
        parts = dict(protobuf.fields(protobuf.view(field)))
        name, extent, values = (protobuf.view(parts.get(n, memoryview(b""))) for n in (1, 2, 3))
        if bytes(name) == variable.name.encode() and extents_of(extent) == extents:
            return values
    raise DecodeError(f"a slice of tensor {variable.name[:80]} has another name or place")
