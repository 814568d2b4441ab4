"""Small files of every format, made without TensorFlow or torch: whole ones, and ones that lie.

Builders take exactly what a test wants to say and fill in the rest, checksums included, so that a
hostile file reaches the check that it is meant for instead of stumbling over an earlier one.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from converter import dtypes
from converter.architectures import PNET
from converter.catalog import Catalog, TensorRef
from converter.dtypes import Array, DType
from converter.sources.pytorch.legacy import MAGIC as LEGACY_MAGIC
from converter.sources.tensorflow import bundle as bundle_source
from converter.sources.tensorflow.partitioned import slice_key
from converter.sources.tensorflow.protobuf import encode, encode_varint
from converter.sources.tensorflow.sstable import MAGIC as TABLE_MAGIC
from converter.sources.tensorflow.sstable import masked
from converter.writers import bundle, safetensors, torch_zip

Compress = Callable[[bytes], bytes]


def no_progress(ref: TensorRef) -> None:
    """A progress hook that doesn't care."""


# --- tensors


def dtype_of(array: Array) -> DType:
    """The converter's name for the array's type; ml_dtypes' bfloat16 too."""
    return dtypes.BY_NAME[array.dtype.name]


def ref(name: str, array: Array, dtype: DType | None = None) -> TensorRef:
    """`array` as a tensor of a catalog. `dtype` BFLOAT16 goes with uint16 bits."""
    dtype = dtype or dtype_of(array)
    return TensorRef(name, dtype, array.shape, lambda: array)


def refs(arrays: Mapping[str, Array]) -> list[TensorRef]:
    return [ref(name, array) for name, array in arrays.items()]


def some_arrays() -> dict[str, Array]:
    """A few tensors of several types and ranks; small enough to flip every byte of their file."""
    return {
        "a/weights": np.arange(6, dtype="<f4").reshape(2, 3) - 2.5,
        "a/biases": np.array([1.5, -0.0, np.inf], "<f2"),
        "empty": np.zeros((0, 3), "<f4"),
        "step": np.array(7, "<i8"),
        "switch": np.array([True, False]),
    }


def pnet_arrays(seed: int = 0) -> dict[str, Array]:
    """Every tensor of P-Net by TensorFlow's name; a whole model in 27 KB."""
    rng = np.random.default_rng(seed)
    return {row.source: rng.random(row.shape, np.float32) for row in PNET.rows}


def loaded(catalog: Catalog) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Everything that a catalog yields: type, shape and bytes by name. Strings are checked only."""
    found = {}
    for name, tensor in catalog.items():
        if tensor.dtype.storage is None:
            tensor.verify()
            found[name] = (tensor.dtype.name, tensor.shape, b"")
            continue
        array = tensor.load()
        assert array.shape == tensor.shape, "the shape that was announced"
        assert array.dtype == tensor.dtype.numpy, "the type that was announced"
        found[name] = (tensor.dtype.name, array.shape, array.tobytes())
    return found


def expected(arrays: Mapping[str, Array]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return what `loaded` must give for `arrays`."""
    return {
        name: (dtype_of(array).name, array.shape, array.tobytes()) for name, array in arrays.items()
    }


# --- TensorFlow bundles


def write_bundle(folder: Path, arrays: Mapping[str, Array], name: str = "model.ckpt-1") -> Path:
    """A bundle by the project's own writer; returns its prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle.write(folder, refs(arrays), no_progress)
    (folder / "checkpoint").unlink()
    prefix = folder / name
    old = folder / bundle.PREFIX
    bundle_source.index_path(old).rename(bundle_source.index_path(prefix))
    bundle_source.shard_path(old, 0, 1).rename(bundle_source.shard_path(prefix, 0, 1))
    return prefix


def shape_proto(shape: Iterable[int]) -> bytes:
    return b"".join(map(_axis_proto, shape))


@cache
def _axis_proto(size: int) -> bytes:  # kept: hostile shapes have 300,000 axes of one size
    return encode(2, encode(1, size))


def slice_proto(extents: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(encode(1, encode(1, start) + encode(2, size)) for start, size in extents)


def entry_proto(
    shape: Sequence[int] = (),
    *,
    dtype: int = 1,
    shard: int = 0,
    offset: int = 0,
    size: int = 4,
    checksum: int = 0,
    slices: Iterable[Iterable[tuple[int, int]]] = (),
) -> bytes:
    """BundleEntryProto, whatever it says."""
    return b"".join(
        [
            encode(1, dtype),
            encode(2, shape_proto(shape)),
            encode(3, shard),
            encode(4, offset),
            encode(5, size),
            encode(6, checksum, fixed32=True),
            *(encode(7, slice_proto(extents)) for extents in slices),
        ]
    )


def header_proto(shards: int = 1, endianness: int = 0, consumer: int = 0) -> bytes:
    return encode(1, shards) + encode(2, endianness) + encode(3, encode(1, 1) + encode(2, consumer))


def data_checksum(data: bytes) -> int:
    return masked(crc32c(data))


def block_bytes(entries: Sequence[tuple[bytes, bytes]], shared: Sequence[int] = ()) -> bytes:
    """A table's block without compression; `shared` says how much of the key before is reused."""
    out = bytearray()
    for number, (key, value) in enumerate(entries):
        reuse = shared[number] if shared else 0
        out += encode_varint(reuse) + encode_varint(len(key)) + encode_varint(len(value))
        out += key + value
    return bytes(out) + struct.pack("<II", 0, 1)


def table_bytes(
    blocks: Sequence[bytes],
    *,
    compression: int = 0,
    compress: Compress = lambda x: x,
    between: bytes = b"",
) -> bytes:
    """A table of ready-made data blocks, with right checksums; `between` them lies something."""
    out = bytearray()

    def append(block: bytes) -> bytes:
        handle = encode_varint(len(out)) + encode_varint(len(block) - 1)
        out.extend(block + struct.pack("<I", masked(crc32c(block))))
        return handle

    packed = [compress(block) + bytes([compression]) for block in blocks]
    index = [(b"%08d" % n, append(block)) for n, block in enumerate(packed)]
    out.extend(between)
    metaindex = append(block_bytes([]) + b"\0")
    handles = metaindex + append(compress(block_bytes(index)) + bytes([compression]))
    return bytes(out) + handles.ljust(40, b"\0") + struct.pack("<Q", TABLE_MAGIC)


def write_index(
    prefix: Path, entries: Mapping[bytes, bytes], data: bytes = bytes(64), shards: int = 1
) -> Path:
    """A bundle of exactly these index entries and one data file."""
    pairs = sorted({b"": header_proto(shards), **entries}.items())
    prefix.parent.mkdir(parents=True, exist_ok=True)
    bundle_source.index_path(prefix).write_bytes(table_bytes([block_bytes(pairs)]))
    bundle_source.shard_path(prefix, 0, shards).write_bytes(data)
    return prefix


# --- TensorFlow checkpoints of version 1


def typed_tensor_proto(array: Array) -> bytes:
    """A TensorProto as a saver of version 1 fills it: values in the field of their type alone."""
    number = {"<f4": 5, "<f8": 6, "<f2": 13, "<i8": 10, "|b1": 11}.get(array.dtype.str, 7)
    if number in (5, 6):
        return encode(number, array.tobytes())
    plain = array.reshape(-1).view("<u2") if number == 13 else array.reshape(-1)
    return encode(number, b"".join(encode_varint(int(value)) for value in plain))


def saved_meta(name: str, shape: Sequence[int], dtype: int = 1, slices: int = 1) -> bytes:
    """SavedSliceMeta of a tensor that is stored whole, `slices` times."""
    whole = encode(4, b"".join(encode(1, b"") for _ in shape))
    return (
        encode(1, name.encode()) + encode(2, shape_proto(shape)) + encode(3, dtype) + whole * slices
    )


def saved_slice(name: str, rank: int, values: bytes, data: bool = True) -> bytes:
    """SavedTensorSlices with the values of a whole tensor."""
    whole = b"".join(encode(1, b"") for _ in range(rank))
    parts = encode(1, name.encode()) + encode(2, whole) + encode(3, values)
    return encode(2 if data else 3, parts)


def saver_v1(metas: Iterable[bytes], slices: Mapping[bytes, bytes]) -> bytes:
    """A checkpoint of version 1 with exactly these entries."""
    header = encode(1, b"".join(encode(1, meta) for meta in metas) + encode(2, encode(1, 1)))
    return table_bytes([block_bytes(sorted({b"": header, **slices}.items()))])


def whole_key(name: str, rank: int) -> bytes:
    return slice_key(name, [(0, -1)] * rank)


def saver_v1_of(arrays: Mapping[str, Array]) -> bytes:
    """`arrays` as a checkpoint of version 1."""
    return saver_v1(
        [saved_meta(n, a.shape, dtype_of(a).tensorflow or 0) for n, a in arrays.items()],
        {
            whole_key(n, a.ndim): saved_slice(n, a.ndim, typed_tensor_proto(a))
            for n, a in arrays.items()
        },
    )


# --- frozen graphs


def tensor_proto(
    shape: Iterable[int] = (), *, dtype: int = 1, content: bytes = b"", extra: bytes = b""
) -> bytes:
    return encode(1, dtype) + encode(2, shape_proto(shape)) + encode(4, content) + extra


def node_proto(name: str, op: str, tensor: bytes | None = None, source: str = "") -> bytes:
    out = encode(1, name.encode()) + encode(2, op.encode())
    if source:
        out += encode(3, source.encode())
    if tensor is not None:
        out += encode(5, encode(1, b"value") + encode(2, encode(8, tensor)))
    return encode(1, out)


def graph_bytes(tensors: Mapping[str, bytes]) -> bytes:
    """A GraphDef in which every tensor is a frozen variable."""
    return b"".join(
        node_proto(name, "Const", tensor) + node_proto(f"{name}/read", "Identity", source=name)
        for name, tensor in tensors.items()
    )


def frozen_graph(arrays: Mapping[str, Array]) -> bytes:
    return graph_bytes(
        {
            name: tensor_proto(
                array.shape, dtype=dtype_of(array).tensorflow or 0, content=array.tobytes()
            )
            for name, array in arrays.items()
        }
    )


# --- pickles and what carries them


def npy_of_pickle(body: bytes) -> bytes:
    """A .npy file of one object, whose pickle is `body`."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def mtcnn_npy(arrays: Mapping[str, Array], protocol: int = 2) -> bytes:
    """`arrays` by ``layer/parameter`` as det1.npy holds them."""
    layers: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        layer, _, parameter = name.rpartition("/")
        layers.setdefault(layer, {})[parameter] = array
    holder = np.empty((), object)
    holder[()] = layers
    return npy_of_pickle(pickle.dumps(holder, protocol=protocol))


def pt_zip(pickled: bytes, records: Mapping[str, bytes] | None = None, root: str = "x") -> bytes:
    """A .pt archive with this ``data.pkl`` and these further records."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{root}/data.pkl", pickled)
        archive.writestr(f"{root}/byteorder", b"little")
        for name, data in (records or {}).items():
            archive.writestr(f"{root}/{name}", data)
        archive.writestr(f"{root}/version", b"3\n")
    return out.getvalue()


def legacy_preamble() -> bytes:
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    return b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, system))


def pt_legacy(pickled: bytes, keys: Sequence[str] = (), storages: bytes = b"") -> bytes:
    """A .pt of the old kind: `pickled` is the object's pickle."""
    return legacy_preamble() + pickled + pickle.dumps(list(keys), 2) + storages


def tensor_pickle(
    storage_count: int,
    shape: Sequence[int],
    strides: Sequence[int],
    *,
    offset: int = 0,
    kind: str = "FloatStorage",
    legacy: bool = False,
    tail: bytes = b"",
) -> bytes:
    """Pickle code that leaves one tensor on the stack. `tail` are further arguments' code."""
    numbers = [b"(" + b"".join(map(pickled_int, part)) + b"t" for part in (shape, strides)]
    view = b"N" if legacy else b""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + pickled_text("storage")
        + f"ctorch\n{kind}\n".encode()
        + pickled_text("0") + pickled_text("cpu") + pickled_int(storage_count) + view + b"tQ"
        + pickled_int(offset) + numbers[0] + numbers[1]
        + b"\x89ccollections\nOrderedDict\n)R" + tail + b"tR"
    )  # fmt: skip


def one_tensor(code: bytes, name: str = "w") -> bytes:
    """The pickle of ``{name: tensor}``."""
    return b"\x80\x02}" + pickled_text(name) + code + b"s."


def pickled_int(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def pickled_text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


# --- safetensors


def safetensors_bytes(header: Mapping[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one_safetensor(shape: Any, begin: Any, end: Any, dtype: Any = "F32", name: str = "w") -> bytes:
    return safetensors_bytes(
        {name: {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}, bytes(64)
    )


# --- whole files, by the project's own writers


def write_pt(path: Path, arrays: Mapping[str, Array]) -> Path:
    torch_zip.write(path, refs(arrays), no_progress)
    return path


def write_safetensors(path: Path, arrays: Mapping[str, Array]) -> Path:
    safetensors.write(path, refs(arrays), no_progress)
    return path


# --- snappy


def snappy_literal(data: bytes) -> bytes:
    size = len(data) - 1
    if size < 60:
        return bytes([size << 2]) + data
    width = (size.bit_length() + 7) // 8
    return bytes([(59 + width) << 2]) + size.to_bytes(width, "little") + data


def snappy_copy(offset: int, size: int, wide: bool = False) -> bytes:
    """A copy of 1 to 64 bytes in the shortest form, or with a 4-byte offset if `wide`."""
    if wide or offset >= 1 << 16:
        return bytes([(size - 1) << 2 | 3]) + offset.to_bytes(4, "little")
    if 4 <= size <= 11 and offset < 1 << 11:
        return bytes([(offset >> 8) << 5 | (size - 4) << 2 | 1, offset & 0xFF])
    return bytes([(size - 1) << 2 | 2]) + offset.to_bytes(2, "little")


def snappy_compress(data: bytes) -> bytes:
    """A greedy compressor: the last place where the next four bytes stood, else a literal."""
    out = bytearray(encode_varint(len(data)))
    seen: dict[bytes, int] = {}
    position = start = 0
    while position < len(data):
        word = data[position : position + 4]
        before = seen.get(word) if len(word) == 4 else None
        seen[word] = position
        if before is None:
            position += 1
            continue
        size = 4
        while (
            size < 64
            and data[before + size : before + size + 1]
            == data[position + size : position + size + 1]
            != b""
        ):
            size += 1
        if start < position:
            out += snappy_literal(data[start:position])
        out += snappy_copy(position - before, size)
        position += size
        start = position
    if start < len(data):
        out += snappy_literal(data[start:])
    return bytes(out)
