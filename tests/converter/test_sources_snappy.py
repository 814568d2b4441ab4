"""Snappy: what a compressor packs comes back; what nobody packed is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import snappy_compress, snappy_copy, snappy_literal

from converter.sources.tensorflow import snappy
from converter.sources.tensorflow.protobuf import DecodeError, encode_varint

REPETITIVE = st.lists(st.binary(min_size=1, max_size=12), max_size=8).flatmap(
    lambda words: (
        st.lists(st.sampled_from(words), max_size=80).map(b"".join) if words else st.just(b"")
    )
)


def unpack(data: bytes) -> bytes:
    return snappy.decompress(memoryview(data))


@given(st.one_of(st.binary(max_size=400), REPETITIVE))
def test_decompress_inverts_compress(data: bytes) -> None:
    assert unpack(snappy_compress(data)) == data


@given(st.one_of(st.binary(max_size=400), REPETITIVE))
def test_decompress_agrees_with_cramjam(data: bytes) -> None:
    cramjam = pytest.importorskip("cramjam", reason="a cross-check: pip install cramjam")
    assert unpack(bytes(cramjam.snappy.compress_raw(data))) == data
    assert bytes(cramjam.snappy.decompress_raw(snappy_compress(data))) == data, "the test's own"


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_of_the_declared_length(data: bytes) -> None:
    cramjam = pytest.importorskip("cramjam", reason="a cross-check: pip install cramjam")
    try:
        found = unpack(data)
    except DecodeError:
        found = None
    try:
        theirs = bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError:
        theirs = None
    if data and len(data) > 1:  # cramjam takes an empty input for an empty output
        assert found == theirs


@pytest.mark.parametrize("size", [1, 59, 60, 61, 255, 256, 257, 65_536, 65_537])
def test_literals_of_every_width(size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    assert unpack(encode_varint(size) + snappy_literal(data)) == data


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("offset", [1, 2, 3, 64, 2047, 2048, 65_535])
@pytest.mark.parametrize("size", [1, 4, 11, 12, 64])
def test_copies_of_every_width_and_overlap(offset: int, size: int, wide: bool) -> None:
    start = bytes(n % 253 for n in range(offset))
    data = encode_varint(offset + size) + snappy_literal(start) + snappy_copy(offset, size, wide)
    assert unpack(data) == start + (start * size)[:size]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(encode_varint(1), id="no element"),
        pytest.param(encode_varint(4) + snappy_literal(b"abc"), id="too few"),
        pytest.param(encode_varint(2) + snappy_literal(b"abc"), id="too many"),
        pytest.param(encode_varint(3) + snappy_literal(b"abc")[:-1], id="literal cut off"),
        pytest.param(encode_varint(9) + b"\xf0", id="literal's size cut off"),
        pytest.param(encode_varint(9) + b"\xfc\xff\xff\xff\xff", id="literal of 4 GiB"),
        pytest.param(encode_varint(7) + snappy_literal(b"abc") + b"\x01", id="offset cut off"),
        pytest.param(
            encode_varint(7) + snappy_literal(b"abc") + snappy_copy(0, 4), id="offset of 0"
        ),
        pytest.param(
            encode_varint(7) + snappy_literal(b"abc") + snappy_copy(4, 4), id="before the start"
        ),
        pytest.param(encode_varint(1 << 62) + snappy_literal(b"a"), id="2^62 declared"),
        pytest.param(encode_varint(1 << 35) + snappy_literal(b"a" * 99), id="32 GiB declared"),
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack(data)


def test_the_densest_block_there_is() -> None:
    """Copies with a 2-byte offset: 64 bytes in 3. The guard against bombs must let it pass."""
    count = 5000
    data = encode_varint(1 + 64 * count) + snappy_literal(b"a") + snappy_copy(1, 64) * count
    assert unpack(data) == b"a" * (1 + 64 * count)
