"""The index's table: the reader inverts the writer and TensorFlow-like compressed tables."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import block_bytes, snappy_compress, table_bytes

from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow.sstable import masked, read_table
from converter.writers.bundle import table
from facenet_common.errors import FormatError

# A table has a key at least: the empty one, of the bundle's header.
KEYS = st.lists(st.binary(max_size=12), unique=True, min_size=1, max_size=60).map(sorted)


def read(folder: Path, data: bytes) -> dict[bytes, bytes]:
    path = folder / "x.index"
    path.write_bytes(data)
    return {key: bytes(value) for key, value in read_table(MappedFile(path)).items()}


@given(KEYS, st.data())
def test_reader_inverts_writer(tmp_path: Path, keys: list[bytes], data: st.DataObject) -> None:
    entries = [(key, data.draw(st.binary(max_size=40))) for key in keys]
    found = read(tmp_path, table(entries))
    assert list(found.items()) == entries


@pytest.mark.parametrize("size", [10, 3_000])
def test_reader_inverts_writer_over_many_blocks(tmp_path: Path, size: int) -> None:
    """A block is 256 KiB: long names fill several, a prefix is shared with each 16th."""
    entries = [(b"layer/%06d/" % n + b"n" * size, b"v" * 90) for n in range(800)]
    data = table(entries)
    assert (len(data) > 3 * (1 << 18)) == (size == 3_000), "several blocks, or one"
    assert list(read(tmp_path, data).items()) == entries


def test_compressed_blocks(tmp_path: Path) -> None:
    entries = [(b"layer/%04d/weights" % n, b"shape" * 5) for n in range(300)]
    halves = [block_bytes(entries[:150]), block_bytes(entries[150:])]
    data = table_bytes(halves, compression=1, compress=snappy_compress)
    assert len(data) < len(table_bytes(halves)) / 2
    assert list(read(tmp_path, data).items()) == entries


def test_masked_checksum_is_tensorflows() -> None:
    """The CRC-32C of RFC 3720 B.4, masked as crc32c.h says."""
    crc = crc32c(bytes(32))
    assert crc == 0x8A9136AA
    assert masked(crc) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


GOOD = table_bytes([block_bytes([(b"", b"h"), (b"k", b"value")])])


def _with_footer(handles: bytes) -> bytes:
    return GOOD[:-48] + handles.ljust(40, b"\0") + GOOD[-8:]


def _handles() -> bytes:
    return GOOD[-48:-8].rstrip(b"\0")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(GOOD[:-1], "not the index", id="cut off"),
        pytest.param(GOOD[-48:], "", id="footer alone"),
        pytest.param(GOOD + b"\0", "not the index", id="a byte more"),
        pytest.param(b"\0" + GOOD, "", id="a byte before"),
        pytest.param(GOOD[:-48] + b"\0" + GOOD[-48:], "footer starts at", id="a byte between"),
        pytest.param(
            _with_footer(_handles()[:-1] + bytes([_handles()[-1] | 0x80]) + b"\0"),
            "shortest encoding",
            id="footer respelled",
        ),
        pytest.param(_with_footer(_handles() + b"\0\1"), "padding", id="footer's padding"),
        pytest.param(
            table_bytes([block_bytes([(b"a", b"")])], between=b"x"),
            "starts at byte",
            id="bytes of no block",
        ),
        pytest.param(
            table_bytes([block_bytes([(b"b", b""), (b"a", b"")])]), "order", id="keys out of order"
        ),
        pytest.param(
            table_bytes([block_bytes([(b"a", b"")]), block_bytes([(b"a", b"")])]),
            "duplicate",
            id="a key in two blocks",
        ),
        pytest.param(
            table_bytes([block_bytes([(b"a", b"")], [1])]), "ends after", id="shares with nothing"
        ),
        pytest.param(
            table_bytes([b"\0\0\x7f" + struct.pack("<II", 0, 1)]), "ends after", id="long value"
        ),
        pytest.param(table_bytes([struct.pack("<I", 9)]), "restart", id="restarts that don't fit"),
        pytest.param(table_bytes([b"ab"]), "too short", id="a block of two bytes"),
        pytest.param(table_bytes([block_bytes([])], compression=9), "unknown", id="compression 9"),
    ],
)
def test_refuses(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(tmp_path, data)
    assert says in str(caught.value)


def test_keys_may_not_take_far_more_room_than_the_table(tmp_path: Path) -> None:
    """5 bytes a key, each a megabyte: 200 GB from a file of 2 MB."""
    count, size = 1_000, 1 << 20
    entries = [(b"k" * size, b"")] + [(b"k", b"")] * count
    bomb = table_bytes([block_bytes(entries, [0, *range(size, size + count)])])
    with pytest.raises(FormatError, match="keys") as caught:
        read(tmp_path, bomb)
    assert "far larger than the file" in str(caught.value)
