"""Partitioned variables: keys of slices against a decoder, and tiling against counting elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.dtypes import FLOAT32
from converter.sources.tensorflow.partitioned import assemble, check_tiling, slice_key
from facenet_common.errors import FormatError

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)

# --- ordered keys: a decoder written from ordered_code.h alone


def _decode_signed(data: bytes) -> tuple[int, bytes]:
    negative = not data[0] & 0x80
    flipped = bytes(byte ^ 0xFF for byte in data) if negative else data
    bits = "".join(f"{byte:08b}" for byte in flipped[:11])
    length = bits.index("0")
    magnitude = int(bits[length : 8 * length], 2)
    return (~magnitude if negative else magnitude), data[length:]


def _decode_key(key: bytes) -> tuple[str, list[tuple[int, int]]]:
    assert key[:1] == b"\0", "sorts before every name"
    name, rest = bytearray(), key[1:]
    while rest[:2] != b"\0\1":
        escaped = rest[:2] in (b"\0\xff", b"\xff\0")
        name.append(rest[0])
        rest = rest[2 if escaped else 1 :]
    rest = rest[2:]
    rank, rest = int.from_bytes(rest[1 : 1 + rest[0]], "big"), rest[1 + rest[0] :]
    extents = []
    for _ in range(rank):
        start, rest = _decode_signed(rest)
        length, rest = _decode_signed(rest)
        extents.append((start, length))
    assert rest == b""
    return name.decode(), extents


EXTENTS = st.lists(st.tuples(INT64, INT64), max_size=5)


@given(st.text(max_size=20), EXTENTS)
def test_slice_keys_can_be_decoded(name: str, extents: list[tuple[int, int]]) -> None:
    assert _decode_key(slice_key(name, extents)) == (name, extents)


@given(INT64, INT64)
def test_slice_keys_sort_as_their_numbers(one: int, other: int) -> None:
    keys = [slice_key("v", [(n, 0)]) for n in (one, other)]
    assert (keys[0] < keys[1]) == (one < other)


@pytest.mark.parametrize("value", [0, 63, 64, 8191, 8192, -1, -64, -65, -(1 << 63), (1 << 63) - 1])
def test_slice_keys_at_the_limits_of_a_byte(value: int) -> None:
    assert _decode_key(slice_key("v", [(value, value)])) == ("v", [(value, value)])


# --- tiling


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)),
        max_size=5,
    ),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_tiling_agrees_with_counting(
    numbers: list[tuple[int, int, int, int]], shape: tuple[int, int]
) -> None:
    """The check against painting every element: once each, or refused."""
    boxes = [((a, b), (c, d)) for a, b, c, d in numbers]
    paint = np.zeros((12, 12), int)
    for (row, rows), (column, columns) in boxes:
        paint[row : row + rows, column : column + columns] += 1
    inside = all(r + n <= shape[0] and c + m <= shape[1] for (r, n), (c, m) in boxes)
    exact = inside and (paint[: shape[0], : shape[1]] == 1).all()
    parts = [(box, tuple(size for _, size in box)) for box in boxes]
    try:
        found = check_tiling("v", shape, parts, Path("x"))
    except FormatError:
        assert not exact
        return
    assert exact
    whole = np.arange(shape[0] * shape[1], dtype="<f4").reshape(shape)
    loads = [lambda box=box: whole[box] for box in found]
    assert assemble(shape, FLOAT32, found, loads).tobytes() == whole.tobytes()
