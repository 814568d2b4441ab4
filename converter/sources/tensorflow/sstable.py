"""Read the sorted table of a TensorFlow checkpoint: blocks of keys and values.

It is the .index file of a checkpoint of version 2, and the whole file of one of version 1.

The layout is LevelDB's (tensorflow/core/lib/io/table_format.txt)::

    data block … data block | metaindex block | index block | footer (48 bytes)

Each block is followed by its compression type (1 byte: 0 raw, 1 snappy) and the masked CRC-32C
of both. Every byte of the file is checked, so that any flipped bit is found.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from converter.checksums import crc32c
from converter.sources import archive
from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow import snappy
from converter.sources.tensorflow.protobuf import DecodeError, encode_varint, varint
from facenet_common.errors import FormatError

MAGIC = 0xDB4775248B80FB57  # table_format.txt
FOOTER_SIZE = 48
TRAILER_SIZE = 5
# Keys share prefixes, so that a few bytes can require a megabyte. Writers store every 16th key
# whole: real keys take up to 16 times the size of their block.
_MAX_KEYS = 64  # times the file's size
_KEYS_ALLOWED = 1 << 24  # bytes of keys that are allowed in any case
_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h


def masked(crc: int) -> int:
    """Return the CRC-32C `crc` in the form in which TensorFlow stores it.

    Examples:
        >>> hex(masked(0))
        '0xa282ead8'
    """
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@dataclass(frozen=True)
class _Handle:
    """The place of a block in the file, in bytes; `size` does not include the trailer."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size + TRAILER_SIZE


@dataclass
class _Room:
    """The number of bytes that keys may still take."""

    left: int

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise DecodeError("the keys are far larger than the file")


def ends_like_a_table(path: Path) -> bool:
    """Return whether the last bytes of the file `path` are a table's magic number."""
    if path.is_file():
        with path.open("rb") as plain:
            plain.seek(max(0, plain.seek(0, 2) - 8))
            return plain.read(8) == struct.pack("<Q", MAGIC)
    if archive.find(path) is None:
        return False
    file = MappedFile(path, may_be_empty=True)
    return bytes(file.view(max(0, file.size - 8))) == struct.pack("<Q", MAGIC)


def read_table(file: MappedFile, what: str = "index file") -> dict[bytes, memoryview]:
    """Return all values by key, in the order of the keys; `what` names the file in messages.

    Raises:
        FormatError: The table is damaged.
    """
    try:
        return _read_table(file)
    except (DecodeError, struct.error) as error:
        raise FormatError(
            f"the {what} is damaged",
            file=file.path,
            found=error,
            next_step="download all files of the checkpoint again: they belong together",
        ) from error


def _read_table(file: MappedFile) -> dict[bytes, memoryview]:
    footer = file.view(max(0, file.size - FOOTER_SIZE), None, "footer")
    if len(footer) < FOOTER_SIZE or struct.unpack_from("<Q", footer, 40)[0] != MAGIC:
        raise file.wrong_format("the index of a TensorFlow checkpoint")
    metaindex, position = _handle(footer, 0)
    index, _ = _handle(footer, position)
    handles = b"".join(encode_varint(n) for h in (metaindex, index) for n in (h.offset, h.size))
    if bytes(footer[:40]) != handles.ljust(
        40, b"\0"
    ):  # it has no checksum: only one encoding is valid
        raise DecodeError("the footer is not in its shortest encoding, or its padding is not zero")
    room = _Room(_KEYS_ALLOWED + _MAX_KEYS * file.size)
    if list(_entries(_block(file, metaindex), room)):
        raise DecodeError("the metaindex block is not empty")
    data = [_handle_alone(value) for _, value in _entries(_block(file, index), room)]
    _check_tiling([*data, metaindex, index], file.size - FOOTER_SIZE)
    return _collect(file, data, room)


def _collect(file: MappedFile, data: list[_Handle], room: _Room) -> dict[bytes, memoryview]:
    table: dict[bytes, memoryview] = {}
    last: bytes | None = None
    for handle in data:
        for key, value in _entries(_block(file, handle), room):
            if last is not None and key <= last:
                raise DecodeError(f"key {key[:80]!r} is a duplicate or out of order")
            table[key] = value
            last = key
    return table


def _check_tiling(handles: list[_Handle], end: int) -> None:
    position = 0
    for handle in handles:
        if handle.offset != position:
            raise DecodeError(f"a block starts at byte {handle.offset}, not at byte {position}")
        position = handle.end
    if position != end:
        raise DecodeError(f"the blocks end at byte {position}, but the footer starts at byte {end}")


def _handle(data: memoryview, position: int) -> tuple[_Handle, int]:
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return _Handle(offset, size), position


def _handle_alone(data: memoryview) -> _Handle:
    handle, position = _handle(data, 0)
    if position != len(data):
        raise DecodeError("a block handle is followed by other bytes")
    return handle


def _block(file: MappedFile, handle: _Handle) -> memoryview:
    """Return the block's content: verified and decompressed."""
    covered = file.view(handle.offset, handle.size + 1, "block")
    (stored,) = struct.unpack("<I", file.view(handle.offset + handle.size + 1, 4, "block"))
    if masked(crc32c(covered)) != stored:
        raise DecodeError(f"checksum mismatch in the block at byte {handle.offset}")
    content, compression = covered[:-1], covered[-1]
    if compression == 0:
        return content
    if compression == 1:
        return memoryview(snappy.decompress(content))
    raise DecodeError(f"unknown compression type {compression} (0 is raw, 1 is snappy)")


def _entries(block: memoryview, room: _Room) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the keys and values of a block; a key is stored without the prefix of the last one."""
    if len(block) < 4:
        raise DecodeError("a block is too short")
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise DecodeError(f"{restarts} restart points do not fit into their block")
    position = 0
    key = b""
    while position < end:
        shared, position = varint(block, position)
        fresh, position = varint(block, position)
        size, position = varint(block, position)
        if shared > len(key) or position + fresh + size > end:
            raise DecodeError("an entry ends after its block")
        room.take(shared + fresh)
        key = key[:shared] + bytes(block[position : position + fresh])
        position += fresh
        yield key, block[position : position + size]
        position += size
