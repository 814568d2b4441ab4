"""Partitioned variables: keys of slices, and assembling a variable from its slices.

A key is in TensorFlow's order-preserving encoding. Sources:
tensorflow/core/util/saved_tensor_slice_util.cc (EncodeTensorNameSlice) and
tensorflow/core/lib/strings/ordered_code.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np

from converter.dtypes import Array, DType
from facenet_common.errors import FormatError

Extent = tuple[int, int]  # start and length; length -1: the whole axis
Box = tuple[slice, ...]
_MAX_SLICES = 4096  # the check compares every pair


def slice_key(name: str, extents: Sequence[Extent]) -> bytes:
    """Return the key under which the index lists the slice `extents` of the variable `name`.

    Examples:
        >>> slice_key("w", [(0, 10)])
        b'\\x00w\\x00\\x01\\x01\\x01\\x80\\x8a'
    """
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
    """Encode as many leading one bits as bytes, then the magnitude; flip all bits if negative."""
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    bits = 8 * length
    encoded = magnitude | ((1 << length) - 1) << (bits - length)
    if value < 0:
        encoded ^= (1 << bits) - 1
    return encoded.to_bytes(length, "big")


def check_tiling(
    name: str,
    shape: tuple[int, ...],
    parts: Sequence[tuple[Sequence[Extent], tuple[int, ...]]],
    path: Path,
) -> list[Box]:
    """Check that slices fill a variable exactly, each element once.

    So no array is ever allocated that is larger than the stored slices.

    Args:
        name: The variable's name, for messages.
        shape: The variable's shape.
        parts: The extents and the stored shape of each slice.
        path: The file, for messages.

    Returns:
        The index of each slice in the variable.

    Raises:
        FormatError: The slices overlap, leave gaps, or exceed the variable.
    """

    def wrong(expected: str, found: str) -> FormatError:
        return FormatError(
            "the slices of a partitioned variable do not fill it exactly",
            file=path,
            tensor=name,
            expected=expected,
            found=found,
            next_step="download all files of the checkpoint again: they belong together",
        )

    if len(parts) > _MAX_SLICES:
        raise wrong(f"at most {_MAX_SLICES} slices", f"{len(parts)}")
    boxes = []
    for extents, stored in parts:
        box = _box(extents, shape)
        if box is None or tuple(axis.stop - axis.start for axis in box) != stored:
            raise wrong(f"slices within {list(shape)}", f"{list(extents)} stored as {list(stored)}")
        boxes.append(box)
    covered = sum(prod(axis.stop - axis.start for axis in box) for box in boxes)
    if covered != prod(shape):
        raise wrong(f"{prod(shape)} elements", f"{covered} elements in {len(boxes)} slices")
    if _any_overlap(boxes):
        raise wrong("slices that don't overlap", "slices that overlap")
    return boxes


def _box(extents: Sequence[Extent], shape: tuple[int, ...]) -> Box | None:
    box = []
    for (start, length), size in zip(extents, shape, strict=True):
        stop = size if length < 0 else start + length
        if not 0 <= start <= stop <= size:
            return None
        box.append(slice(start, stop))
    return tuple(box)


def _any_overlap(boxes: list[Box]) -> bool:
    full = [box for box in boxes if all(axis.start < axis.stop for axis in box)]
    if len(full) < 2:
        return False
    starts = np.array([[axis.start for axis in box] for box in full]).reshape(len(full), -1)
    stops = np.array([[axis.stop for axis in box] for box in full]).reshape(len(full), -1)
    return any(
        bool(((starts[i] < stops[:i]) & (starts[:i] < stops[i])).all(axis=1).any())
        for i in range(1, len(full))
    )


def assemble(
    shape: tuple[int, ...],
    dtype: DType,
    boxes: Sequence[Box],
    loads: Sequence[Callable[[], Array]],
) -> Array:
    """Return the whole variable, read-only.

    Args:
        shape: The variable's shape.
        dtype: The variable's type.
        boxes: The index of each slice, from `check_tiling`.
        loads: Functions that return each slice's values.
    """
    whole = np.empty(shape, dtype.numpy)
    for box, load in zip(boxes, loads, strict=True):
        whole[box] = load()
    whole.flags.writeable = False
    return whole
