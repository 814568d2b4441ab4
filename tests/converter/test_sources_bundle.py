"""Bundles made by hand, without TensorFlow: slices, shards, and what doesn't fit together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support import fakes
from support.fakes import data_checksum, entry_proto, header_proto, write_index

from converter.sources import open_source
from converter.sources.tensorflow.bundle import index_path, shard_path
from converter.sources.tensorflow.partitioned import slice_key
from facenet_common.errors import FormatError

Box = tuple[tuple[int, int], ...]


def write_slices(
    folder: Path,
    whole: np.ndarray,
    boxes: Sequence[Box],
    *,
    listed: Sequence[Box] | None = None,
    dtype: int = 1,
) -> Path:
    """A variable ``v`` in these slices; `listed` is what its entry says of them."""
    entries = {
        b"v": entry_proto(whole.shape, size=0, slices=boxes if listed is None else listed),
    }
    data = b""
    for box in boxes:
        part = whole[tuple(slice(start, start + size) for start, size in box)]
        raw = part.astype("<f4").tobytes()
        entries[slice_key("v", box)] = entry_proto(
            part.shape, dtype=dtype, offset=len(data), size=len(raw), checksum=data_checksum(raw)
        )
        data += raw
    return write_index(folder / "m", entries, data)


WHOLE = np.arange(24, dtype="<f4").reshape(4, 6)
QUARTERS: list[Box] = [
    ((0, 1), (0, 2)),
    ((0, 1), (2, 4)),
    ((1, 3), (0, 2)),
    ((1, 3), (2, 4)),
]


def test_slices_make_up_the_whole(tmp_path: Path) -> None:
    ref = open_source(write_slices(tmp_path, WHOLE, QUARTERS))["v"]
    assert ref.load().tobytes() == WHOLE.tobytes()
    assert not ref.load().flags.writeable
    assert list(open_source(tmp_path / "m")) == ["v"], "slices are no tensors"


def box_of(row: int, rows: int, column: int, columns: int) -> Box:
    return ((row, rows), (column, columns))


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        (QUARTERS[:3], "24 elements"),
        ([*QUARTERS[:3], box_of(1, 3, 1, 4)], "overlap"),
        ([box_of(0, 2, 0, 6), box_of(1, 2, 0, 6)], "overlap"),
        ([*QUARTERS, box_of(3, 1, 0, 6)], "24 elements"),
        ([box_of(0, 4, 0, 6), box_of(0, 4, 0, 0), box_of(2, 2, 0, 3)], "24 elements"),
    ],
    ids=["a gap", "a gap and an overlap", "an overlap", "too many", "twice"],
)
def test_slices_that_do_not(boxes: list[Box], says: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="do not fill it exactly") as caught:
        open_source(write_slices(tmp_path, WHOLE, boxes))
    assert says in str(caught.value)
    assert caught.value.tensor == "v"


def test_a_slice_that_reaches_out(tmp_path: Path) -> None:
    box = box_of(2, 4, 0, 6)
    entries = {
        b"v": entry_proto((4, 6), size=0, slices=[box]),
        slice_key("v", box): entry_proto((4, 6), size=96, checksum=data_checksum(bytes(96))),
    }
    with pytest.raises(FormatError, match="exactly"):
        open_source(write_index(tmp_path / "m", entries, bytes(96)))


def test_a_slice_of_another_shape_than_its_place(tmp_path: Path) -> None:
    """As many elements, but in other rows: must not be reshaped to fit."""
    box = box_of(0, 4, 0, 6)
    entries = {
        b"v": entry_proto((4, 6), size=0, slices=[box]),
        slice_key("v", box): entry_proto((6, 4), size=96, checksum=data_checksum(bytes(96))),
    }
    with pytest.raises(FormatError, match="exactly"):
        open_source(write_index(tmp_path / "m", entries, bytes(96)))


def test_a_slice_of_another_type(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="another type"):
        open_source(write_slices(tmp_path, WHOLE, QUARTERS, dtype=3))


def test_a_slice_that_nobody_lists(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="damaged") as caught:
        open_source(write_slices(tmp_path, WHOLE, QUARTERS, listed=QUARTERS[:2]))
    assert "belong to no variable" in str(caught.value)


def test_a_slice_that_is_listed_and_absent(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="slice of a partitioned variable is missing"):
        open_source(write_slices(tmp_path, WHOLE, QUARTERS[:3], listed=QUARTERS))


def test_a_slice_of_another_rank(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        open_source(write_slices(tmp_path, WHOLE, QUARTERS, listed=[((0, 4),)]))
    assert "different numbers of axes" in str(caught.value)


def test_a_damaged_slice(tmp_path: Path) -> None:
    prefix = write_slices(tmp_path, WHOLE, QUARTERS)
    data = bytearray(shard_path(prefix, 0, 1).read_bytes())
    data[50] ^= 1
    shard_path(prefix, 0, 1).write_bytes(data)
    with pytest.raises(FormatError, match="checksum"):
        open_source(prefix)["v"].load()


# --- shards


def test_several_shards(tmp_path: Path) -> None:
    values = [bytes([n]) * 4 for n in range(1, 4)]
    entries = {
        f"w{n}".encode(): entry_proto([1], shard=n, checksum=data_checksum(value))
        for n, value in enumerate(values)
    }
    prefix = write_index(tmp_path / "m", entries, values[0], shards=3)
    for n, value in enumerate(values):
        shard_path(prefix, n, 3).write_bytes(value)
    catalog = open_source(prefix)
    assert {name: raw for name, (_, _, raw) in fakes.loaded(catalog).items()} == {
        f"w{n}": value for n, value in enumerate(values)
    }
    assert len(catalog.files) == 4
    for n in range(3):
        path = shard_path(prefix, n, 3)
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(FormatError, match="missing") as caught:
            open_source(prefix)
        assert path.name in str(caught.value)
        path.write_bytes(content)
    shard_path(prefix, 0, 3).write_bytes(values[1])
    shard_path(prefix, 1, 3).write_bytes(values[0])
    with pytest.raises(FormatError, match="checksum"):
        fakes.loaded(open_source(prefix))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": 8}, "does not match its shape"),
        ({"shape": [2]}, "does not match its shape"),
        ({"shape": [2, 0]}, "does not match its shape"),
        ({"dtype": 2}, "does not match its shape"),
        ({"dtype": 101}, "type 101"),
        ({"shard": 1}, "file 0 to 0"),
        ({"offset": 4}, "ends before"),
        ({"checksum": 0}, "checksum"),
    ],
)
def test_entries_that_lie(change: dict[str, object], says: str, tmp_path: Path) -> None:
    good: dict[str, object] = {"shape": [1], "checksum": data_checksum(b"abcd")}
    prefix = write_index(tmp_path / "m", {b"w": entry_proto(**good)}, b"abcd")  # type: ignore[arg-type] # as above
    assert fakes.loaded(open_source(prefix))["w"][2] == b"abcd", "the control"
    write_index(tmp_path / "m", {b"w": entry_proto(**(good | change))}, b"abcd")  # type: ignore[arg-type]
    with pytest.raises(FormatError) as caught:
        fakes.loaded(open_source(prefix))
    assert says in str(caught.value)
    assert caught.value.tensor == "w" or "tensor w" in str(caught.value)


def test_an_empty_data_file_of_empty_tensors(tmp_path: Path) -> None:
    entry = entry_proto([0, 3], size=0, checksum=data_checksum(b""))
    prefix = write_index(tmp_path / "m", {b"w": entry}, b"")
    assert fakes.loaded(open_source(prefix)) == {"w": ("float32", (0, 3), b"")}


def test_an_index_without_tensors(tmp_path: Path) -> None:
    assert dict(open_source(write_index(tmp_path / "m", {}, b""))) == {}


@pytest.mark.parametrize("header", [header_proto(2), header_proto(0), header_proto(1, 1), b"\xff"])
def test_headers_that_are_refused(header: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        open_source(write_index(tmp_path / "m", {b"": header}, b""))


def test_the_writer_holds_names_in_order(tmp_path: Path) -> None:
    """Names sort by their bytes in UTF-8, which is not the order of UTF-16 or of locales."""
    names = ["b", "a", "Z", "é", "\U0001f600", "\uffff", "a/b", "a-b", "a"[:1] * 300]
    made = {name: np.full((2,), n, "<f4") for n, name in enumerate(names)}
    prefix = fakes.write_bundle(tmp_path, made)
    assert list(open_source(prefix)) == sorted(names, key=str.encode)
    assert fakes.loaded(open_source(prefix)) == fakes.expected(made)
    again = fakes.write_bundle(
        tmp_path / "again", dict(itertools.islice(reversed(made.items()), 99))
    )
    assert index_path(again).read_bytes() == index_path(prefix).read_bytes()
