"""The wire format of protocol buffers: decoding inverts encoding, and refuses invalid bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.sources.tensorflow import protobuf
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
