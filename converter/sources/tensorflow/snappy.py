"""Decompress Snappy's block format.

Source: https://github.com/google/snappy/blob/main/format_description.txt.
"""

from __future__ import annotations

from converter.sources.tensorflow.protobuf import DecodeError, varint

# The densest element takes 3 bytes and copies 64 (a copy with a 2-byte offset).
_MAX_RATIO = 22


def decompress(data: memoryview) -> bytes:
    """Return the decompressed bytes of the block `data`.

    The declared length is checked against the most that `data` can hold before memory is used.

    Raises:
        DecodeError: `data` is not a valid block.

    Examples:
        >>> decompress(memoryview(b"\\x06\\x04ab\\x0e\\x02\\x00"))
        b'ababab'
    """
    length, position = varint(data, 0)
    if length > _MAX_RATIO * len(data):
        raise DecodeError(f"{len(data)} compressed bytes can't hold {length}")
    out = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        if tag & 3 == 0:
            position = _literal(data, position, tag, out)
        else:
            position = _copy(data, position, tag, out)
        if len(out) > length:
            raise DecodeError(f"the block holds more than the declared {length} bytes")
    if len(out) != length:
        raise DecodeError(f"the block holds {len(out)} bytes, not the declared {length}")
    return bytes(out)


def _literal(data: memoryview, position: int, tag: int, out: bytearray) -> int:
    size = tag >> 2
    if size >= 60:
        width = size - 59
        size = int.from_bytes(_take(data, position, width), "little")
        position += width
    out += _take(data, position, size + 1)
    return position + size + 1


def _copy(data: memoryview, position: int, tag: int, out: bytearray) -> int:
    if tag & 3 == 1:
        size = (tag >> 2 & 7) + 4
        offset = (tag >> 5) << 8 | _take(data, position, 1)[0]
        position += 1
    else:
        size = (tag >> 2) + 1
        width = 2 if tag & 3 == 2 else 4
        offset = int.from_bytes(_take(data, position, width), "little")
        position += width
    if not 0 < offset <= len(out):
        raise DecodeError("a copy starts before the block")
    start = len(out) - offset
    while size > 0:  # a copy may overlap its own output: then the bytes repeat
        piece = out[start : start + size]
        out += piece
        size -= len(piece)
    return position


def _take(data: memoryview, position: int, size: int) -> memoryview:
    if position + size > len(data):
        raise DecodeError("the compressed data is cut off")
    return data[position : position + size]
