"""The protocol buffers wire format, as much of it as checkpoints and graphs use.

Reading is lazy: nested messages and byte strings are views, not copies. Source: the protocol
buffers encoding page (varint, fixed64, length-delimited, fixed32).
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Value = int | memoryview


class DecodeError(ValueError):
    """Bytes that are no valid message. The caller says of which file."""


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """The unsigned number at `position`, at most 64 bits, and the position behind it."""
    result = shift = 0
    while True:
        if position >= len(data):
            raise DecodeError("a number is cut off")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise DecodeError("a number is longer than 64 bits")
    if result >= 1 << 64:
        raise DecodeError("a number is longer than 64 bits")
    return result, position


def signed(value: Value) -> int:
    """`value` read as a two's complement int64, as protobuf stores int32 and int64."""
    number = integer(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def integer(value: Value) -> int:
    """`value`, which must be a number."""
    if not isinstance(value, int):
        raise DecodeError("a field holds bytes where a number belongs")
    return value


def view(value: Value) -> memoryview:
    """`value`, which must be bytes or a nested message."""
    if isinstance(value, int):
        raise DecodeError("a field holds a number where bytes belong")
    return value


def text(value: Value) -> str:
    """`value`, which must be UTF-8 text."""
    try:
        return str(view(value), "utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("a name is not valid UTF-8") from error


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Field number and value of each field of a message, in file order."""
    position = 0
    while position < len(data):
        key, position = varint(data, position)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise DecodeError(f"field number {number} is impossible")
        value: Value
        if kind == VARINT:
            value, position = varint(data, position)
        elif kind in (BYTES, FIXED64, FIXED32):
            size = {FIXED64: 8, FIXED32: 4}.get(kind)
            if size is None:
                size, position = varint(data, position)
            if position + size > len(data):
                raise DecodeError(f"field {number} needs {size} bytes, {len(data) - position} left")
            value = data[position : position + size]
            if kind != BYTES:
                value = int.from_bytes(value, "little")
            position += size
        else:
            raise DecodeError(f"field {number} has wire type {kind}, which is not in use")
        yield number, value


def encode_varint(value: int) -> bytes:
    """`value` (0 to 2^64 - 1, or a negative int64) as a varint."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(number: int, value: int | bytes, *, fixed32: bool = False) -> bytes:
    """One field. Numbers become varints, or fixed32 where asked for."""
    if isinstance(value, bytes):
        return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
    if fixed32:
        return encode_varint(number << 3 | FIXED32) + value.to_bytes(4, "little")
    return encode_varint(number << 3 | VARINT) + encode_varint(value)
