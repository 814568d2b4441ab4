"""A TensorFlow checkpoint without TensorFlow: an index, one data file and a ``checkpoint`` file.

TensorFlow's own reader opens it. Sources: those of `converter.sources.bundle`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from crc32c import crc32c

from converter.catalog import TensorRef
from converter.sources.bundle import index_path, shard_path
from converter.sources.sstable import FOOTER_SIZE, MAGIC, masked
from converter.sources.wire import encode, encode_varint
from converter.writers.progress import Progress

FORMAT = "tensorflow-bundle"
NAMING = "tensorflow"
SUFFIXES = ()  # a folder

PREFIX = "model.ckpt"
_BLOCK_SIZE = 256 * 1024  # bytes of entries; tensor_bundle.cc
_RESTART_INTERVAL = 16  # entries between two that spell their key out; table_options.h
_HEADER = encode(1, 1) + encode(3, encode(1, 1))  # one shard; producer version 1


def write(folder: Path, tensors: Sequence[TensorRef], progress: Progress) -> None:
    """Write `tensors` to ``folder/model.ckpt``, holding one at a time. Raises OSError."""
    prefix = folder / PREFIX
    entries = [(b"", _HEADER)]
    position = 0
    with shard_path(prefix, 0, 1).open("wb") as file:
        for ref in sorted(tensors, key=lambda ref: ref.name.encode()):
            data = memoryview(ref.load().reshape(-1).view("u1"))
            file.write(data)
            entries.append((ref.name.encode(), _entry(ref, position, masked(crc32c(data)))))
            position += ref.nbytes
            progress(ref)
    index_path(prefix).write_bytes(table(entries))
    state = f'model_checkpoint_path: "{PREFIX}"\nall_model_checkpoint_paths: "{PREFIX}"\n'
    (folder / "checkpoint").write_text(state, encoding="utf-8")


def _entry(ref: TensorRef, offset: int, checksum: int) -> bytes:
    """BundleEntryProto. Zero is proto3's default and not spelled out."""
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
    """The sorted table of `entries`, which must be in key order."""
    out = bytearray()
    index: list[tuple[bytes, bytes]] = []
    pending: list[tuple[bytes, bytes]] = []
    size = 0

    def flush() -> None:
        nonlocal size
        if pending:
            index.append((pending[-1][0], _append(out, _block(pending))))
            pending.clear()
            size = 0

    for key, value in entries:
        pending.append((key, value))
        size += len(key) + len(value)
        if size >= _BLOCK_SIZE:
            flush()
    flush()
    metaindex = _append(out, _block([]))
    handles = metaindex + _append(out, _block(index, interval=1))
    out += handles.ljust(FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", MAGIC)
    return bytes(out)


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
        shared = 0
        if number % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += encode_varint(shared) + encode_varint(len(key) - shared) + encode_varint(len(value))
        out += key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
