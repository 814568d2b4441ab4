"""The wire format of protocol buffers, as far as checkpoints and graphs use it.

Nested messages and byte strings are views, not copies. Source:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Value = int | memoryview


class DecodeError(ValueError):
    """The bytes are not a valid message. The caller adds the file's name."""


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """Decode the unsigned number at `position`, of at most 64 bits.

    Returns:
        The number, and the position after it.

    Raises:
        DecodeError: The number is cut off or too long.

    Examples:
        >>> varint(memoryview(encode_varint(300)), 0)
        (300, 2)
    """
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
    """Return the field `value` as an int64 in two's complement, as int32 and int64 are stored.

    Raises:
        DecodeError: The field is not a number.
    """
    number = integer(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def integer(value: Value) -> int:
    """Return the field `value` as an unsigned number. Raises DecodeError if it is bytes."""
    if not isinstance(value, int):
        raise DecodeError("a field holds bytes instead of a number")
    return value


def view(value: Value) -> memoryview:
    """Return the field `value` as bytes or a nested message. Raises DecodeError for a number."""
    if isinstance(value, int):
        raise DecodeError("a field holds a number instead of bytes")
    return value


def text(value: Value) -> str:
    """Return the field `value` as text. Raises DecodeError if it is not UTF-8."""
    try:
        return str(view(value), "utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("a name is not valid UTF-8") from error


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield the number and value of each field of a message, in order. Raises DecodeError.

    Examples:
        >>> [(number, value) for number, value in fields(memoryview(encode(1, 300)))]
        [(1, 300)]
    """
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
                raise DecodeError(
                    f"field {number} has {size} bytes, but only {len(data) - position} are left"
                )
            value = data[position : position + size]
            if kind != BYTES:
                value = int.from_bytes(value, "little")
            position += size
        else:
            raise DecodeError(f"field {number} has unknown wire type {kind}")
        yield number, value


def encode_varint(value: int) -> bytes:
    """Encode `value` (0 to 2^64 - 1, or a negative int64) as a varint."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(number: int, value: int | bytes, *, fixed32: bool = False) -> bytes:
    """Encode one field: bytes as they are, numbers as a varint or with `fixed32` in 4 bytes."""
    if isinstance(value, bytes):
        return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
    if fixed32:
        return encode_varint(number << 3 | FIXED32) + value.to_bytes(4, "little")
    return encode_varint(number << 3 | VARINT) + encode_varint(value)
