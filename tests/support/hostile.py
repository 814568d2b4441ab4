"""Bad input: every file here must be refused, quickly, in little memory, with one message.

A case writes what it needs into an empty folder and returns what a user would name. Checksums are
right unless the case is about a wrong one: a hostile file gets past them.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from converter.sources.tensorflow.protobuf import encode, encode_varint
from support import fakes, keras_files
from support.fakes import (
    block_bytes,
    data_checksum,
    entry_proto,
    graph_bytes,
    header_proto,
    npy_of_pickle,
    one_safetensor,
    one_tensor,
    pickled_int,
    pickled_text,
    pt_legacy,
    pt_zip,
    safetensors_bytes,
    saved_meta,
    saved_slice,
    saver_v1,
    table_bytes,
    tensor_pickle,
    tensor_proto,
    whole_key,
    write_index,
)

Case = Callable[[Path], Path]
GIB = 1 << 30
MANY = 300_000  # entries of a list that invites quadratic time


def _file(name: str, data: bytes) -> Case:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def _index(entries: dict[bytes, bytes], data: bytes = bytes(64), shards: int = 1) -> Case:
    return lambda folder: write_index(folder / "m", entries, data, shards)


def _sliced(count: int, *, missing: bool) -> Case:
    return lambda folder: write_index(folder / "m", _slices(count, missing))


def _table(blocks: list[bytes], **how: object) -> Case:
    def write(folder: Path) -> Path:
        write_index(folder / "m", {})
        (folder / "m.index").write_bytes(table_bytes(blocks, **how))  # type: ignore[arg-type]
        return folder / "m"

    return write


# --- not what it should be

_FOREIGN = {
    "empty": b"",
    "zeros": bytes(4096),
    "html": b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n",
    "gzip": gzip.compress(b"weights", mtime=0),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "xml": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "text": b"not found\n",
    "noise": bytes(np.random.default_rng(5).integers(0, 256, 4096, np.uint8)),
    "pickle": pickle.dumps({"w": [1.0]}, 2),
    "zip of other things": b"PK\x03\x04" + bytes(200),
}
FOREIGN: dict[str, Case] = {
    f"{kind} as x{suffix}": _file(f"x{suffix}", data)
    for kind, data in _FOREIGN.items()
    for suffix in (".pt", ".pb", ".npy", ".safetensors", "")
}


def _bundle_with(part: str, data: bytes) -> Case:
    def write(folder: Path) -> Path:
        prefix = fakes.write_bundle(folder, fakes.pnet_arrays())
        (folder / f"{prefix.name}.{part}").write_bytes(data)
        return prefix

    return write


FOREIGN |= {
    f"{kind} as {part}": _bundle_with(part, data)
    for kind, data in _FOREIGN.items()
    for part in ("index", "data-00000-of-00001")
}


# --- sizes that lie, and time that explodes

_HUGE = {"2^63": 1 << 63, "2^63-1": (1 << 63) - 1, "32 GiB": 8 * GIB, "2^62": 1 << 62}
_ZERO_BUT_HUGE = (1 << 62, 1 << 62, 0)  # no elements, yet no array can have this shape


def _keys_that_share(count: int, size: int) -> bytes:
    """A block of `count` keys in 5 bytes each, all of which begin with the same `size` bytes."""
    entries = [(b"k" * size, b"")] + [(b"k", b"")] * count
    return block_bytes(entries, [0, *range(size, size + count)])


def _slices(count: int, missing: bool) -> dict[bytes, bytes]:
    from converter.sources.tensorflow.partitioned import slice_key

    boxes = [[(n, 1)] for n in range(count)]
    entries = {b"v": entry_proto([count], size=0, slices=boxes)}
    if not missing:
        entries |= {slice_key("v", box): entry_proto([1], offset=0) for box in boxes}
    return entries


BUNDLE_LIES: dict[str, Case] = {
    **{
        f"bundle: shape [{word}]": _index({b"w": entry_proto([size], size=4)})
        for word, size in _HUGE.items()
    },
    "bundle: 32 GiB in both": _index({b"w": entry_proto([8 * GIB], size=32 * GIB)}),
    "bundle: negative size": _index({b"w": entry_proto([1], size=-4)}),
    "bundle: negative offset": _index({b"w": entry_proto([1], offset=-4)}),
    "bundle: negative axis": _index({b"w": entry_proto([-1, -1])}),
    "bundle: offset past the end": _index({b"w": entry_proto([1], offset=1 << 40)}),
    "bundle: offset 2^63-1": _index({b"w": entry_proto([1], offset=(1 << 63) - 1)}),
    "bundle: 300 axes of 2^62": _index({b"w": entry_proto([1 << 62] * 300)}),
    "bundle: many axes of 2^62": _index({b"w": entry_proto([1 << 62] * MANY)}),
    "bundle: many axes of 1": _index({b"w": entry_proto([1] * MANY)}),
    "bundle: 0 elements of a huge shape": _index({b"w": entry_proto(_ZERO_BUT_HUGE, size=0)}, b""),
    "bundle: strings without number": _index(
        {b"w": entry_proto([1 << 62], dtype=7, size=64)}, b"\1" * 64
    ),
    "bundle: file 7 of 1": _index({b"w": entry_proto([1], shard=7)}),
    "bundle: 99,999 files": _index({b"w": entry_proto([1])}, shards=99_999),
    "bundle: 2^40 files": _index({b"": header_proto(1 << 40)}),
    "bundle: no files": _index({b"": header_proto(0)}),
    "bundle: big-endian": _index({b"": header_proto(1, endianness=1)}),
    "bundle: of a later version": _index({b"": header_proto(1, consumer=2)}),
    "bundle: type 99": _index({b"w": entry_proto([1], dtype=99)}),
    "bundle: name that is not UTF-8": _index({b"w\xff": entry_proto([1])}),
    "bundle: two on the same bytes": _index(
        {
            b"v": entry_proto([16], size=64, checksum=data_checksum(bytes(64))),
            b"w": entry_proto([16], size=64, checksum=data_checksum(bytes(64))),
        }
    ),
    "bundle: bytes of no tensor": _index(
        {b"w": entry_proto([16], size=64, checksum=data_checksum(bytes(64)))}, bytes(65)
    ),
    "bundle: partitioned, 32 GiB of nothing": _index(
        {b"v": entry_proto([8 * GIB], size=0, slices=[[(0, -1)]])}
    ),
    "bundle: partitioned, parts missing": _sliced(50_000, missing=True),
    "bundle: partitioned, too many parts": _sliced(20_000, missing=False),
    "bundle: partitioned, empty parts of a huge whole": _index(
        {b"v": entry_proto(_ZERO_BUT_HUGE, size=0, slices=[])}, b""
    ),
    "bundle: keys that share a megabyte": lambda folder: _table(
        [_keys_that_share(200_000, 1 << 20)]
    )(folder),
    "bundle: snappy, 2^62 bytes": _table(
        [block_bytes([])], compression=1, compress=lambda _: encode_varint(1 << 62) + b"\0x"
    ),
    "bundle: snappy, 32 GiB": _table(
        [block_bytes([])], compression=1, compress=lambda _: encode_varint(32 * GIB) + bytes(1024)
    ),
    "bundle: compression 2": _table([block_bytes([])], compression=2),
    "bundle: 2^32-1 restart points": _table([b"\xff" * 4]),
    "bundle: keys out of order": _table(
        [block_bytes([(b"", header_proto()), (b"w", b""), (b"v", b"")])]
    ),
    "bundle: a key twice": _table([block_bytes([(b"", header_proto()), (b"w", b""), (b"w", b"")])]),
}


def _v1(shape: list[int] | tuple[int, ...], values: bytes, slices: int = 1) -> Case:
    stored = {whole_key("w", len(shape)): saved_slice("w", len(shape), values)}
    return _file("m.ckpt", saver_v1([saved_meta("w", shape, slices=slices)], stored))


_ONE = encode(5, bytes(4))  # TensorProto of one float
SAVER_V1_LIES: dict[str, Case] = {
    **{f"saver v1: shape [{word}]": _v1([size], _ONE) for word, size in _HUGE.items()},
    "saver v1: negative axis": _v1([-1], _ONE),
    "saver v1: many axes of 2^62": _v1([1 << 62] * 5_000, _ONE),
    "saver v1: 0 elements of a huge shape": _v1(_ZERO_BUT_HUGE, b""),
    "saver v1: one value for a megabyte": _v1([1 << 18], _ONE),
    "saver v1: one slice twice": _v1([1], _ONE, slices=2),
    "saver v1: no slice": _v1([1], _ONE, slices=0),
    "saver v1: type 99": _file(
        "m.ckpt",
        saver_v1([saved_meta("w", [1], 99)], {whole_key("w", 1): saved_slice("w", 1, _ONE)}),
    ),
    "saver v1: the slice of another": _file(
        "m.ckpt", saver_v1([saved_meta("w", [1])], {whole_key("w", 1): saved_slice("v", 1, _ONE)})
    ),
    "saver v1: a slice without data": _file(
        "m.ckpt",
        saver_v1([saved_meta("w", [1])], {whole_key("w", 1): saved_slice("w", 1, _ONE, False)}),
    ),
    "saver v1: a slice that nobody lists": _file(
        "m.ckpt",
        saver_v1(
            [saved_meta("w", [1])],
            {whole_key(n, 1): saved_slice(n, 1, _ONE) for n in ("w", "v")},
        ),
    ),
    "saver v1: a name twice": _file(
        "m.ckpt",
        saver_v1([saved_meta("w", [1])] * 2, {whole_key("w", 1): saved_slice("w", 1, _ONE)}),
    ),
    "saver v1: an index of version 2": _file("m.ckpt", table_bytes([block_bytes([(b"", b"")])])),
}


def _zip_of(name: str, data: bytes, *, lie: dict[int, bytes] | None = None, **how: Any) -> Case:
    """A zip archive of one file; `lie` overwrites bytes of its directory's entry."""

    def write(folder: Path) -> Path:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data, **how)
        content = bytearray(out.getvalue())
        entry = content.rindex(b"PK\x01\x02")
        for place, value in (lie or {}).items():
            content[entry + place : entry + place + len(value)] = value
        (folder / "a.zip").write_bytes(content)
        return folder / "a.zip" / name

    return write


_A_GRAPH = graph_bytes({"w": tensor_proto(content=bytes(4))})
ZIP_LIES: dict[str, Case] = {
    "zip: 64 MiB of zeros": _zip_of("g.pb", bytes(1 << 26)),
    "zip: says 4 GiB": _zip_of("g.pb", _A_GRAPH, lie={24: b"\xff\xff\xff\x7f"}),
    "zip: says one byte more": _zip_of(
        "g.pb", _A_GRAPH, lie={24: struct.pack("<I", len(_A_GRAPH) + 1)}
    ),
    "zip: says one byte less": _zip_of(
        "g.pb", _A_GRAPH, lie={24: struct.pack("<I", len(_A_GRAPH) - 1)}
    ),
    "zip: another checksum": _zip_of("g.pb", _A_GRAPH, lie={16: b"1234"}),
    "zip: encrypted": _zip_of("g.pb", _A_GRAPH, lie={8: b"\x01\x00"}),
    "zip: compression 99": _zip_of("g.pb", _A_GRAPH, lie={10: b"\x63\x00"}),
    "zip: bzip2": _zip_of("g.pb", _A_GRAPH, compress_type=zipfile.ZIP_BZIP2, lie={10: b"\x08\0"}),
    "zip: offset past the end": _zip_of("g.pb", _A_GRAPH, lie={42: b"\xff\xff\xff\x7f"}),
    "zip: name outside": _zip_of("../g.pb", _A_GRAPH),
    "zip: absolute name": _zip_of("/tmp/g.pb", _A_GRAPH),
    "zip: name of Windows": _zip_of("C:\\g.pb", _A_GRAPH),
    "zip: name that is not plain": _zip_of("a//g.pb", _A_GRAPH),
}

GRAPH_LIES: dict[str, Case] = {
    **{
        f"graph: shape [{word}]": _file(
            "g.pb", graph_bytes({"w": tensor_proto([size], content=bytes(4))})
        )
        for word, size in _HUGE.items()
    },
    "graph: negative axis": _file("g.pb", graph_bytes({"w": tensor_proto([-1], content=bytes(4))})),
    "graph: one value for 32 GiB": _file(
        "g.pb", graph_bytes({"w": tensor_proto([8 * GIB], extra=encode(5, b"\0\0\0\0"))})
    ),
    "graph: a value wider than its type": _file(
        "g.pb", graph_bytes({"w": tensor_proto([1], extra=encode(5, 1 << 40))})
    ),
    "graph: many axes of 2^62": _file("g.pb", graph_bytes({"w": tensor_proto([1 << 62] * MANY)})),
    "graph: 0 elements of a huge shape": _file(
        "g.pb", graph_bytes({"w": tensor_proto(_ZERO_BUT_HUGE)})
    ),
    "graph: two nodes of one name": _file(
        "g.pb", graph_bytes({"w": tensor_proto(content=bytes(4))}) * 2
    ),
    "graph: field longer than the file": _file(
        "g.pb", b"\x0a" + encode_varint(32 * GIB) + bytes(64)
    ),
    "graph: no variables": _file("g.pb", encode(1, encode(1, b"x") + encode(2, b"NoOp"))),
}


def _npy_header(descr: str, shape: str = "()", version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode("latin-1")
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def _npy_array(shape: bytes, data: bytes, code: bytes = b"f4") -> bytes:
    """Code of an array, as NumPy pickles it."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01bt"
        b"R(K\x01" + shape + b"cnumpy\ndtype\n(U\x02" + code + b"K\0K\x01tR"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89" + data + b"tb"
    )


def _npy_dict(array: bytes) -> bytes:
    inner = b"}" + pickled_text("c") + b"}" + pickled_text("w") + array + b"ss"
    return npy_of_pickle(b"\x80\x02" + _npy_object(inner) + b".")


def _npy_object(item: bytes) -> bytes:
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01bt"
        b"R(K\x01)cnumpy\ndtype\n(U\x02O8K\0K\x01tR"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89](" + item + b"etb"
    )


def _text_of(size: int) -> bytes:
    return pickled_text("x" * size)


def _laughing_npy() -> bytes:
    """Half a megabyte of text, stored once, that 20,000 arrays would each turn into bytes."""
    text = _text_of(1 << 19) + b"q\0"
    shape = b"(J" + struct.pack("<i", 1 << 19) + b"t"
    array = _npy_array(shape, b"h\0", b"u1")
    first = b"}" + pickled_text("first") + _npy_array(shape, text, b"u1") + b"s"
    names = b"".join(pickled_text(f"w{n}") + array for n in range(20_000))
    layers = b"}(" + pickled_text("a") + first + pickled_text("b") + b"}(" + names + b"u" + b"u"
    return npy_of_pickle(b"\x80\x02" + _npy_object(layers) + b".")


NPY_LIES: dict[str, Case] = {
    **{
        f"npy: shape [{word}]": _file(
            "d.npy", _npy_dict(_npy_array(b"(" + pickled_int(size) + b"t", b"U\x04abcd"))
        )
        for word, size in _HUGE.items()
    },
    "npy: negative axis": _file(
        "d.npy", _npy_dict(_npy_array(b"(J\xff\xff\xff\xfft", b"U\x04abcd"))
    ),
    "npy: 100 axes": _file(
        "d.npy", _npy_dict(_npy_array(b"(" + b"K\x01" * 100 + b"t", b"U\x04abcd"))
    ),
    "npy: many axes of 2^62": _file(
        "d.npy", _npy_dict(_npy_array(b"(" + pickled_int(1 << 62) * MANY + b"t", b"U\x04abcd"))
    ),
    "npy: 0 elements of a huge shape": _file(
        "d.npy",
        _npy_dict(_npy_array(b"(" + b"".join(map(pickled_int, _ZERO_BUT_HUGE)) + b"t", b"U\0")),
    ),
    "npy: plain array of 2^62": _file("d.npy", _npy_header("'<f4'", f"({1 << 62},)")),
    "npy: plain array": _file("d.npy", _npy_header("'<f4'", "(1,)") + bytes(4)),
    "npy: header is deep": _file("d.npy", _npy_header("(" * 4000 + ")" * 4000)),
    "npy: header never closes": _file("d.npy", _npy_header("(")),
    "npy: header is an expression": _file("d.npy", _npy_header("__import__('os').system('id')")),
    "npy: header of 2^32-1 bytes": _file("d.npy", b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(64)),
    "npy: version 9": _file("d.npy", b"\x93NUMPY\x09\0" + bytes(64)),
    "npy: bytes behind the pickle": _file("d.npy", fakes.mtcnn_npy(fakes.pnet_arrays()) + b"\0"),
    "npy: one text, 20,000 arrays": _file("d.npy", _laughing_npy()),
    "npy: an object in the array": _file("d.npy", _npy_dict(_npy_object(b"N"))),
    "npy: two ways to one name": _file(
        "d.npy",
        npy_of_pickle(
            b"\x80\x02"
            + _npy_object(
                b"}"
                + pickled_text("a")
                + b"}"
                + pickled_text("b/c")
                + _npy_array(b"(K\x01t", b"U\x04abcd")
                + b"ss"
                + pickled_text("a/b")
                + b"}"
                + pickled_text("c")
                + _npy_array(b"(K\x01t", b"U\x04efgh")
                + b"ss"
            )
            + b"."
        ),
    ),
}


def _both_pt(code: bytes, storage: bytes = bytes(16)) -> dict[str, bytes]:
    legacy = code.replace(b"tQ", b"NtQ")  # one more argument of a storage: no view
    size = struct.pack("<q", len(storage) // 4)
    return {
        "zip.pt": pt_zip(one_tensor(code), {"data/0": storage}),
        "legacy.pt": pt_legacy(one_tensor(legacy), ["0"], size + storage),
    }


_PT_CODES = {
    **{f"shape [{word}]": tensor_pickle(4, [size], [1]) for word, size in _HUGE.items()},
    "storage of 32 GiB": tensor_pickle(8 * GIB, [8 * GIB], [1]),
    "storage of 2^70": tensor_pickle(1 << 70, [1], [1]),
    "negative axis": tensor_pickle(4, [-1], [1]),
    "negative stride": tensor_pickle(4, [4], [-1], offset=3),
    "negative offset": tensor_pickle(4, [1], [1], offset=-1),
    "offset past the end": tensor_pickle(4, [1], [1], offset=4),
    "offset of a million bits": tensor_pickle(4, [1], [1]).replace(
        b"K\0(", b"\x8b" + struct.pack("<i", 125_000) + b"\x7f" * 125_000 + b"("
    ),
    "one element as 2^40": tensor_pickle(4, [1 << 40], [0]),
    "2^62 times 2^62": tensor_pickle(4, [1 << 62, 1 << 62], [0, 0]),
    "many axes": tensor_pickle(4, [1 << 62] * 50_000, [0] * 50_000),
    "0 elements of a huge shape": tensor_pickle(4, _ZERO_BUT_HUGE, [1, 1, 1]),
    "strides of another rank": tensor_pickle(4, [2, 2], [1]),
    "a bool as a size": tensor_pickle(4, [1], [1]).replace(b"(K\x01t", b"(\x88t", 1),
    "a storage type of unknown name": tensor_pickle(4, [4], [1], kind="QUInt8Storage"),
    "a name that is no text": tensor_pickle(4, [4], [1]).replace(pickled_text("0"), b"K\0"),
}
TORCH_LIES: dict[str, Case] = {
    f"{carrier}: {word}": _file(carrier, data)
    for word, code in _PT_CODES.items()
    for carrier, data in _both_pt(code).items()
}
_GOOD_TENSOR = tensor_pickle(4, [4], [1])
TORCH_LIES |= {
    "zip.pt: storage is missing": _file("x.pt", pt_zip(one_tensor(_GOOD_TENSOR))),
    "zip.pt: storage is too short": _file(
        "x.pt", pt_zip(one_tensor(_GOOD_TENSOR), {"data/0": b"1234"})
    ),
    "zip.pt: two folders": _file(
        "x.pt",
        pt_zip(one_tensor(_GOOD_TENSOR), {"../y": b"", "data/0": bytes(16)}).replace(
            b"x/../y", b"yy/../"
        ),
    ),
    "zip.pt: big-endian": _file(
        "x.pt",
        pt_zip(one_tensor(_GOOD_TENSOR), {"data/0": bytes(16)}).replace(b"little", b"big\0\0\0"),
    ),
    "legacy.pt: storage is cut off": _file(
        "x.pt", pt_legacy(one_tensor(_GOOD_TENSOR), ["0"], struct.pack("<q", 4) + bytes(15))
    ),
    "legacy.pt: bytes behind the storages": _file(
        "x.pt", pt_legacy(one_tensor(_GOOD_TENSOR), ["0"], struct.pack("<q", 4) + bytes(17))
    ),
    "legacy.pt: storage of 2^63 elements": _file(
        "x.pt", pt_legacy(one_tensor(_GOOD_TENSOR), ["0"], struct.pack("<q", -1) + bytes(16))
    ),
    "legacy.pt: no storages": _file("x.pt", pt_legacy(one_tensor(_GOOD_TENSOR))),
    "legacy.pt: a storage twice": _file(
        "x.pt",
        pt_legacy(one_tensor(_GOOD_TENSOR), ["0", "0"], (struct.pack("<q", 4) + bytes(16)) * 2),
    ),
}

_ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
SAFETENSORS_LIES: dict[str, Case] = {
    f"safetensors: {word}": _file("x.safetensors", data)
    for word, data in {
        **{f"shape [{word}]": one_safetensor([size], 0, 64) for word, size in _HUGE.items()},
        "header of 2^62 bytes": struct.pack("<Q", 1 << 62) + b"{}" + bytes(64),
        "header of 99 MB": struct.pack("<Q", 99_000_000) + b"{}" + bytes(64),
        "32 GiB in both": one_safetensor([8 * GIB], 0, 32 * GIB),
        "end before begin": one_safetensor([0], 64, 0),
        "negative": one_safetensor([-16], 0, -64),
        "size as a fraction": one_safetensor([16.0], 0, 64),
        "size as truth": one_safetensor([True], 0, 4),
        "size as text": one_safetensor(["16"], 0, 64),
        "shape as text": one_safetensor("", 0, 4),
        "shape as an object": one_safetensor({}, 0, 4),
        "shape missing": safetensors_bytes(
            {"w": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)
        ),
        "entry is a list": safetensors_bytes({"w": []}),
        "offsets of three": safetensors_bytes(
            {"w": _ENTRY | {"data_offsets": [0, 4, 8]}}, bytes(4)
        ),
        "number of 5,000 digits": safetensors_bytes(
            b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', bytes(4)
        ),
        "type as a list": one_safetensor([1], 0, 64, dtype=[]),
        "type unknown": one_safetensor([1], 0, 64, dtype="F4"),
        "many axes of 2^62": one_safetensor([1 << 62] * MANY, 0, 64),
        "many axes of 1": one_safetensor([1] * MANY, 0, 4),
        "0 elements of a huge shape": safetensors_bytes(
            {"w": {"dtype": "F32", "shape": list(_ZERO_BUT_HUGE), "data_offsets": [0, 0]}}
        ),
        "deep": safetensors_bytes(b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        "a key twice": safetensors_bytes(
            b'{"w":' + json.dumps(_ENTRY).encode() + b',"w":' + json.dumps(_ENTRY).encode() + b"}",
            bytes(4),
        ),
        "overlap": safetensors_bytes({"v": _ENTRY, "w": _ENTRY}, bytes(4)),
        "gap": safetensors_bytes({"w": _ENTRY | {"data_offsets": [4, 8]}}, bytes(8)),
        "not UTF-8": safetensors_bytes(b'{"\xff": 1}'),
        "half a surrogate pair as name": safetensors_bytes({"\ud800": _ENTRY}, bytes(4)),
    }.items()
}

LIES = (
    BUNDLE_LIES | SAVER_V1_LIES | ZIP_LIES | GRAPH_LIES | NPY_LIES | TORCH_LIES | SAFETENSORS_LIES
)


# --- pickles

_NESTED = b"N" + b"\x85" * 100_000
_DOUBLED = b")" + b"2\x86" * 60  # (t, t) of (t, t) of …: 2^60 leaves in 120 bytes


def gadgets(witness: Path) -> dict[str, bytes]:
    """Pickles that create `witness` when Python's own unpickler runs them."""
    code = f"open({str(witness)!r}, 'w')".encode()
    shell = f"touch '{witness}'".encode()

    def call(name: bytes, argument: bytes) -> bytes:
        module, attribute = name.split(b" ")
        return b"c" + module + b"\n" + attribute + b"\n(" + argument + b"tR"

    shell_text, code_text = pickled_text(shell.decode()), pickled_text(code.decode())
    system = call(b"os system", shell_text)
    return {
        "os.system": b"\x80\x02" + system + b".",
        "posix.system": b"\x80\x02" + call(b"posix system", shell_text) + b".",
        "subprocess": b"\x80\x02" + call(b"subprocess getoutput", shell_text) + b".",
        "eval": b"\x80\x02" + call(b"builtins eval", code_text) + b".",
        "exec": b"\x80\x02" + call(b"builtins exec", code_text) + b".",
        "Python 2's eval": b"\x80\x02" + call(b"__builtin__ eval", code_text) + b".",
        "by STACK_GLOBAL": b"\x80\x04"
        + pickled_text("os") + pickled_text("system") + b"\x93(" + shell_text + b"tR.",
        "a dotted name": b"\x80\x04"
        + pickled_text("collections") + pickled_text("OrderedDict.__init__.__class__") + b"\x930"
        + system + b".",
        "getattr": b"\x80\x02"
        + call(b"builtins getattr", b"cos\nenviron\n" + pickled_text("get")) + b"0" + system + b".",
        "INST": b"(" + shell_text + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + shell_text + b"o.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n(](" + pickled_text("touch")
        + pickled_text(str(witness)) + b"et\x81c__main__\n__name__\n0" + system + b".",
        "nested in a tensor": b"\x80\x02}" + pickled_text("w")
        + b"ccollections\nOrderedDict\n(](" + system + b"etR0" + system + b"s.",
        "as a dict's value": b"\x80\x02}" + pickled_text("w") + system + b"s.",
        "numpy's runstring": b"\x80\x02"
        + call(b"builtins exec", code_text) + b"0" + b"cnumpy\nndarray\n(K\x01\x85tR.",
        "__setstate__": b"\x80\x02cfunctools\npartial\n(cos\nsystem\ntR"
        + b"(cos\nsystem\n(" + shell_text + b"t}Ntb)R.",
        "__reduce__ of a bytearray": b"\x80\x02" + system + b"0cbuiltins\nbytearray\n)R.",
    }  # fmt: skip


PICKLES: dict[str, bytes] = {
    "numpy.ndarray called": b"\x80\x02cnumpy\nndarray\n(K\x01\x85tR.",
    "a huge numpy.ndarray": b"\x80\x02cnumpy\nndarray\n(" + pickled_int(1 << 40) + b"\x85tR.",
    "torch._utils._rebuild_tensor": b"\x80\x02ctorch._utils\n_rebuild_tensor\n)R.",
    "torch.load": b"\x80\x02ctorch\nload\n(U\x01xtR.",
    "torch.hub": b"\x80\x02ctorch.hub\nload_state_dict_from_url\n(U\x01xtR.",
    "torch.jit._pickle": b"\x80\x02ctorch.jit._pickle\nbuild_tensor_from_id\n(K\x01tR.",
    "a storage called": b"\x80\x02ctorch\nFloatStorage\n(" + pickled_int(1 << 40) + b"tR.",
    "nested tuples": b"\x80\x02" + _NESTED + b".",
    "nested lists": b"\x80\x02" + b"](" * 5_000 + b"e" * 5_000 + b".",
    "nested lists, inside out": b"\x80\x02]" + b"q\0](h\0e" * 5_000 + b".",
    "nested dicts": b"\x80\x02" + (b"}" + pickled_text("k")) * 5_000 + b"N" + b"s" * 5_000 + b".",
    "marks alone": b"\x80\x02" + b"(" * 100_000 + b".",
    "doubled tuples": b"\x80\x02" + _DOUBLED + b".",
    "doubled tuples, hashed by OrderedDict": b"\x80\x02ccollections\nOrderedDict\n](]("
    + _DOUBLED + b"Nee\x85R.",
    "doubled tuples as a key": b"\x80\x02}" + _DOUBLED + b"Ns.",
    "doubled tuples as a shape": one_tensor(
        tensor_pickle(4, [4], [1]).replace(b"(K\x04t", _DOUBLED, 1)
    ),
    "doubled lists": b"\x80\x02(]q\0" + b"](h\0h\0eq\0" * 60 + b"t.",
    "list in itself": b"\x80\x02]q\0h\0a.",
    "dict in itself": b"\x80\x02}q\0" + pickled_text("k") + b"h\0s.",
    "list as a key": b"\x80\x02}]Ns.",
    "dict as a key": b"\x80\x02}}Ns.",
    "number as a key": b"\x80\x02}K\x01Ns.",
    "number as a key of an OrderedDict": b"\x80\x02ccollections\nOrderedDict\n](](K\x01Nee\x85R.",
    "number as a key of an OrderedDict, tensor": b"\x80\x02ccollections\nOrderedDict\n](](K\x01"
    + tensor_pickle(4, [4], [1]) + b"ee\x85R.",
    "an OrderedDict of a dict": b"\x80\x02ccollections\nOrderedDict\n}"
    + pickled_text("w") + b"Ns\x85R.",
    "a key twice": b"\x80\x02}(" + (pickled_text("w") + b"N") * 2 + b"u.",
    "a key without a value": b"\x80\x02}(" + pickled_text("w") + b"u.",
    "BINBYTES8 of 2^62": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "BINUNICODE8 of 2^64-1": b"\x80\x04\x8d" + b"\xff" * 8 + b"x.",
    "BYTEARRAY8 of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "BINBYTES of 4 GiB": b"\x80\x03B\xff\xff\xff\xffx.",
    "BINSTRING of -1": b"\x80\x02T\xff\xff\xff\xffx.",
    "FRAME of 2^62": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "LONG4 of 2 GiB": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "LONG4 of -1": b"\x80\x02\x8b\xff\xff\xff\xff1.",
    "LONG of 60,000 digits": b"L" + b"9" * 60_000 + b"L\n.",
    "INT of 60,000 digits": b"I" + b"9" * 60_000 + b"\n.",
    "a line without end": b"I" + b"1" * 200_000,
    "many short lines": b"I1\n" * 1_500_000 + b".",
    "many operations": b"\x80\x02" + b"N" * 3_000_000 + b".",
    "memo slot 2^31": b"\x80\x02Nr\xff\xff\xff\x7fj\xff\xff\xff\x7f\x86.",
    "memo slot that is empty": b"\x80\x02h\x05.",
    "PUT of a negative slot": b"Np-1\n.",
    "EXT1": b"\x80\x02\x82\x01.",
    "EXT2": b"\x80\x02\x83\x01\x01.",
    "EXT4": b"\x80\x02\x84\x01\x01\x01\x01.",
    "PERSID": b"Pstorage\n.",
    "BINPERSID of a number": b"\x80\x02K\x01Q.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "READONLY_BUFFER": b"\x80\x05\x97\x98.",
    "NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "NEWOBJ_EX": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
    "BUILD of a name": b"\x80\x02ccollections\nOrderedDict\n}b.",
    "BUILD of a number": b"\x80\x02K\x01}b.",
    "BUILD of a name's __class__": b"\x80\x02ccollections\nOrderedDict\n}"
    + pickled_text("__class__") + b"Nsb.",
    "sets": b"\x80\x04\x8f(K\x01\x90.",
    "REDUCE of a number": b"\x80\x02K\x01)R.",
    "REDUCE with a list": b"\x80\x02ccollections\nOrderedDict\n]R.",
    "a name, uncalled": b"\x80\x02ccollections\nOrderedDict\n.",
    "POP of nothing": b"\x80\x020.",
    "nothing": b"\x80\x02.",
    "two things": b"\x80\x02NN.",
    "an open mark": b"\x80\x02N(.",
    "no STOP": b"\x80\x02N",
    "no such operation": b"\x80\x02\xff.",
    "None": b"\x80\x02N.",
    "a name with escapes": b"\x80\x02c\x1b[2Jos\nsystem\n.",
    "half a surrogate pair as a name": b"\x80\x02}" + pickled_text("\ud800") + b"Ns.",
    "half a surrogate pair as a tensor's name": one_tensor(tensor_pickle(4, [4], [1]), "\ud800"),
}  # fmt: skip

CARRIERS: dict[str, Callable[[bytes], bytes]] = {
    "x.npy": npy_of_pickle,
    "zip.pt": lambda body: pt_zip(body, {"data/0": bytes(16)}),
    "legacy.pt": lambda body: pt_legacy(body, ["0"], struct.pack("<q", 4) + bytes(16)),
}
HOSTILE_PICKLES: dict[str, Case] = {
    f"{carrier}: {word}": _file(carrier, wrap(body))
    for word, body in PICKLES.items()
    for carrier, wrap in CARRIERS.items()
}


# --- things that are no files, and files that are incomplete


def _without(part: str) -> Case:
    def write(folder: Path) -> Path:
        prefix = fakes.write_bundle(folder, fakes.pnet_arrays())
        (folder / f"{prefix.name}.{part}").unlink()
        return prefix

    return write


def _damaged(part: str, position: int) -> Case:
    def write(folder: Path) -> Path:
        prefix = fakes.write_bundle(folder, fakes.pnet_arrays())
        path = folder / f"{prefix.name}.{part}"
        data = bytearray(path.read_bytes())
        data[position] ^= 0x10
        path.write_bytes(data)
        return prefix

    return write


def _several_graphs(folder: Path) -> Path:
    prefix = fakes.write_bundle(folder, fakes.pnet_arrays())
    for name in ("a.meta", "b.meta"):
        (folder / name).write_bytes(b"")
    return prefix


def _special(make: Callable[[Path], object], name: str) -> Case:
    def write(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return write


def _in_place_of(part: str, make: Callable[[Path], object]) -> Case:
    def write(folder: Path) -> Path:
        prefix = fakes.write_bundle(folder, fakes.pnet_arrays())
        path = folder / f"{prefix.name}.{part}"
        path.unlink()
        make(path)
        return prefix

    return write


def _dangle(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _loop(path: Path) -> None:
    path.symlink_to(path)


_KINDS: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a dangling link": _dangle,
    "a link to itself": _loop,
}


def _nonfinite(value: float, position: tuple[int, ...]) -> Case:
    def write(folder: Path) -> Path:
        arrays = fakes.pnet_arrays()
        arrays["conv2/weights"][position] = value
        return fakes.write_bundle(folder, arrays)

    return write


def _pnet_without(name: str) -> Case:
    def write(folder: Path) -> Path:
        arrays = fakes.pnet_arrays()
        del arrays[name]
        return fakes.write_bundle(folder, arrays)

    return write


def _copy_of_meta(folder: Path) -> Path:
    (folder / "m.meta").write_bytes(b"graph")
    return folder / "m.meta"


def _two_models(folder: Path) -> Path:
    fakes.write_bundle(folder, fakes.pnet_arrays(), "one-1")
    fakes.write_bundle(folder, fakes.pnet_arrays(), "two-1")
    return folder


def _two_files(folder: Path) -> Path:
    for name in ("a.pt", "b.pt"):
        fakes.write_pt(folder / name, fakes.some_arrays())
    return folder


INCOMPLETE: dict[str, Case] = {
    "no index": _without("index"),
    "no data file": _without("data-00000-of-00001"),
    "one byte of the index": _damaged("index", 100),
    "one byte of the data": _damaged("data-00000-of-00001", 100),
    "several .meta files": _several_graphs,
    "a .meta file alone": _copy_of_meta,
    "an empty folder": lambda folder: folder,
    "several models in a folder": _two_models,
    "several files in a folder": _two_files,
    "NaN": _nonfinite(np.nan, (0, 0, 0, 0)),
    "infinity": _nonfinite(-np.inf, (2, 2, 9, 15)),
    "a tensor missing": _pnet_without("conv3/biases"),
    "nothing there": lambda folder: folder / "absent",
    "a name that is too long": lambda folder: folder / ("n" * 300),
    "another user's home": lambda _: Path("~no-such-user/model"),
    "/dev/zero": lambda _: Path("/dev/zero"),
    "/dev/null": lambda _: Path("/dev/null"),
    **{
        f"{kind} as x{suffix}": _special(make, f"x{suffix}")
        for kind, make in _KINDS.items()
        for suffix in (".pt", ".pb", ".npy", ".index")
    },
    **{
        f"{kind} for the {part}": _in_place_of(part, make)
        for kind, make in _KINDS.items()
        for part in ("index", "data-00000-of-00001")
    },
}

CORPUS: dict[str, Case] = FOREIGN | LIES | HOSTILE_PICKLES | INCOMPLETE
# What opening refuses, without knowing of an architecture.
# Those of Keras are written by h5py.
KERAS_LIES: dict[str, Case] = (
    {f"keras: {word}": case for word, case in keras_files.LIES.items()} if find_spec("h5py") else {}
)
FILES: dict[str, Case] = FOREIGN | LIES | HOSTILE_PICKLES | KERAS_LIES


def clear(folder: Path) -> None:
    """Empty the folder for the next case."""
    shutil.rmtree(folder)
    folder.mkdir()
