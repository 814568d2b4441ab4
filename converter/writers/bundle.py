"""Write a TensorFlow checkpoint without TensorFlow: an index, a data file and ``checkpoint``.

TensorFlow can load it. Sources: those of `converter.sources.tensorflow.bundle`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from converter.catalog import Naming, TensorRef
from converter.checksums import crc32c
from converter.sources.tensorflow.bundle import index_path, shard_path
from converter.sources.tensorflow.protobuf import encode, encode_varint
from converter.sources.tensorflow.sstable import FOOTER_SIZE, MAGIC, masked
from converter.writers.stream import OnWritten, stream

FORMAT = "tensorflow-bundle"
NAMING: Naming = "tensorflow"
SUFFIXES = ()  # a folder

PREFIX = "model.ckpt"
_BLOCK_SIZE = 256 * 1024  # bytes of entries; tensor_bundle.cc
_RESTART_INTERVAL = 16  # entries from one whole key to the next; table_options.h
_HEADER = encode(1, 1) + encode(3, encode(1, 1))  # one shard; producer version 1


def write(folder: Path, tensors: Sequence[TensorRef], on_written: OnWritten) -> None:
    """Write `tensors` to the checkpoint ``folder/model.ckpt``. Raises OSError.

    At most two batches of tensors are in memory. `on_written` is called after each tensor.
    """
    prefix = folder / PREFIX
    entries = [(b"", _HEADER)]
    position = 0
    with shard_path(prefix, 0, 1).open("wb") as file:
        ordered = sorted(tensors, key=lambda ref: ref.name.encode())
        for ref, data, crc in stream(ordered, on_written, crc32c):
            file.write(data)
            entries.append((ref.name.encode(), _entry(ref, position, masked(crc))))
            position += ref.nbytes
    index_path(prefix).write_bytes(table(entries))
    state = f'model_checkpoint_path: "{PREFIX}"\nall_model_checkpoint_paths: "{PREFIX}"\n'
    (folder / "checkpoint").write_text(state, encoding="utf-8")


def _entry(ref: TensorRef, offset: int, checksum: int) -> bytes:
    """Encode a BundleEntryProto. proto3 does not store zeros, its default."""
    assert ref.dtype.tensorflow is not None
    shape = b"".join(encode(2, encode(1, size) if size else b"") for size in ref.shape)
    return b"".join(
        [
            encode(1, ref.dtype.tensorflow),
            encode(2, shape),
            encode(4, offset) if offset else b"",
            encode(5, ref.nbytes) if ref.nbytes else b"",
            encode(6, checksum, fixed32=True),
        ]
    )


def table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the sorted table of `entries`, which must be in the order of their keys."""
    out = bytearray()
    index: list[tuple[bytes, bytes]] = []
    blocks = list(_cut(entries))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        last = block[-1][0]
        key = _separator(last, following[0][0]) if following else _successor(last)
        index.append((key, _append(out, _block(block))))
    metaindex = _append(out, _block([]))
    handles = metaindex + _append(out, _block(index, interval=1))
    out += handles.ljust(FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", MAGIC)
    return bytes(out)


def _cut(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield `entries` in blocks of about `_BLOCK_SIZE` bytes."""
    block: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in entries:
        block.append((key, value))
        size += len(key) + len(value)
        if size >= _BLOCK_SIZE:
            yield block
            block, size = [], 0
    if block:
        yield block


def _shared(one: bytes, other: bytes) -> int:
    """Return the length of the prefix that two keys share."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _separator(last: bytes, following: bytes) -> bytes:
    """Return a short key, at least `last` and less than `following`.

    LevelDB's FindShortestSeparator (util/comparator.cc).
    """
    shared = _shared(last, following)
    if shared < min(len(last), len(following)):
        byte = last[shared]
        if byte < 0xFF and byte + 1 < following[shared]:
            return last[:shared] + bytes([byte + 1])
    return last


def _successor(last: bytes) -> bytes:
    """Return a short key that is at least `last` (LevelDB's FindShortSuccessor)."""
    for position, byte in enumerate(last):
        if byte != 0xFF:
            return last[:position] + bytes([byte + 1])
    return last


def _append(out: bytearray, block: bytes) -> bytes:
    """Append a raw block with its trailer; return its handle."""
    handle = encode_varint(len(out)) + encode_varint(len(block))
    covered = block + b"\0"  # not compressed
    out += covered + struct.pack("<I", masked(crc32c(covered)))
    return handle


def _block(entries: Sequence[tuple[bytes, bytes]], interval: int = _RESTART_INTERVAL) -> bytes:
    out = bytearray()
    restarts = []
    last = b""
    for number, (key, value) in enumerate(entries):
        shared = _shared(key, last) if number % interval else 0
        if not number % interval:
            restarts.append(len(out))
        out += encode_varint(shared) + encode_varint(len(key) - shared) + encode_varint(len(value))
        out += key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
