"""Keys of partitioned variables' slices, in TensorFlow's order-preserving encoding.

Source: tensorflow/core/util/saved_tensor_slice_util.cc (EncodeTensorNameSlice) and
tensorflow/core/lib/strings/ordered_code.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

Extent = tuple[int, int]  # start and length; length -1: the whole axis


def slice_key(name: str, extents: Sequence[Extent]) -> bytes:
    """The key under which the slice `extents` of variable `name` is stored."""
    parts = [_unsigned(0), _string(name.encode()), _unsigned(len(extents))]
    for start, length in extents:
        parts += [_signed(start), _signed(length)]
    return b"".join(parts)


def _unsigned(value: int) -> bytes:
    digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(digits)]) + digits


def _string(value: bytes) -> bytes:
    escapes = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}
    return b"".join(escapes.get(byte, bytes([byte])) for byte in value) + b"\x00\x01"


def _signed(value: int) -> bytes:
    """As many leading one bits as bytes, then the magnitude; all bits flipped if negative."""
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    bits = 8 * length
    encoded = magnitude | ((1 << length) - 1) << (bits - length)
    if value < 0:
        encoded ^= (1 << bits) - 1
    return encoded.to_bytes(length, "big")
