"""Protocol buffers' wire format and TensorFlow's ordered keys: inverses, and bytes that lie."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.sources.tensorflow import protobuf
from converter.sources.tensorflow.partitioned import slice_key
from converter.sources.tensorflow.protobuf import DecodeError

UINT64 = st.integers(0, (1 << 64) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
NUMBERS = st.integers(1, (1 << 29) - 1)


@given(UINT64, st.binary(max_size=4))
def test_varint_inverts_encode(value: int, rest: bytes) -> None:
    data = protobuf.encode_varint(value)
    assert protobuf.varint(memoryview(data + rest), 0) == (value, len(data))


@given(INT64)
def test_signed_inverts_encode(value: int) -> None:
    assert (
        protobuf.signed(protobuf.varint(memoryview(protobuf.encode_varint(value)), 0)[0]) == value
    )


@given(
    st.lists(
        st.one_of(
            st.tuples(NUMBERS, UINT64, st.just(False)),
            st.tuples(NUMBERS, st.integers(0, (1 << 32) - 1), st.just(True)),
            st.tuples(NUMBERS, st.binary(max_size=300), st.just(False)),
        )
    )
)
def test_fields_inverts_encode(parts: list[tuple[int, int | bytes, bool]]) -> None:
    message = b"".join(protobuf.encode(n, value, fixed32=fixed) for n, value, fixed in parts)
    found = [
        (n, v if isinstance(v, int) else bytes(v)) for n, v in protobuf.fields(memoryview(message))
    ]
    assert found == [(n, value) for n, value, _ in parts]


@given(st.binary(max_size=64))
def test_any_bytes_are_fields_or_a_wire_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        for _, value in protobuf.fields(memoryview(data)):
            assert isinstance(value, int) or len(value) <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x80" * 10, id="unfinished"),
        pytest.param(b"\xff" * 9 + b"\x02", id="65 bits"),
        pytest.param(b"\x80" * 10 + b"\x01", id="11 bytes"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_varint_refuses(data: bytes) -> None:
    with pytest.raises(DecodeError):
        protobuf.varint(memoryview(data), 0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00\x01", id="field 0"),
        pytest.param(b"\x0b", id="group"),
        pytest.param(b"\x0c", id="end of group"),
        pytest.param(b"\x0f", id="wire type 7"),
        pytest.param(b"\x0a\x05abcd", id="bytes cut off"),
        pytest.param(b"\x09abcdefg", id="fixed64 cut off"),
        pytest.param(b"\x0dabc", id="fixed32 cut off"),
        pytest.param(b"\x0a" + protobuf.encode_varint(1 << 63), id="2^63 bytes"),
    ],
)
def test_fields_refuses(data: bytes) -> None:
    with pytest.raises(DecodeError):
        list(protobuf.fields(memoryview(data)))


def test_kinds_are_told_apart() -> None:
    for refuse, value in (
        (protobuf.view, 1),
        (protobuf.integer, memoryview(b"")),
        (protobuf.signed, memoryview(b"")),
        (protobuf.text, memoryview(b"\xff")),
        (protobuf.text, 1),
    ):
        with pytest.raises(DecodeError):
            refuse(value)  # type: ignore[operator] # each takes either kind


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
