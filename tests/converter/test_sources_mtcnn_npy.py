"""MTCNN's .npy files: what NumPy writes, in any protocol, is what we read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import fakes
from support.fakes import npy_of_pickle

from converter import dtypes
from converter.dtypes import BFLOAT16, Array
from converter.sources import open_source
from facenet_common.errors import FormatError

STORED = [d for d in dtypes.DTYPES if d.storage and d is not BFLOAT16]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=9)


def arrays() -> st.SearchStrategy[Array]:
    def of(dtype: dtypes.DType) -> st.SearchStrategy[Array]:
        if dtype.itemsize > 8 or dtype.name == "bool":
            return hnp.arrays(dtype.numpy, SHAPES)
        return hnp.arrays(f"u{dtype.itemsize}", SHAPES).map(lambda a: a.view(dtype.numpy))

    return st.sampled_from(STORED).flatmap(of)


def little(array: Array) -> Array:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


@given(
    st.dictionaries(st.tuples(NAMES, NAMES).map("/".join), arrays(), min_size=1, max_size=4),
    st.integers(2, 5),
)
def test_reads_what_numpy_pickles(tmp_path: Path, made: dict[str, Array], protocol: int) -> None:
    path = tmp_path / "d.npy"
    path.write_bytes(fakes.mtcnn_npy(made, protocol))
    assert fakes.loaded(open_source(path)) == fakes.expected(made)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.T,
        lambda a: a[::2],
        lambda a: np.asfortranarray(a),
        lambda a: a.astype(">f4"),
        lambda a: np.asfortranarray(a).astype(">f4", order="F"),
        lambda a: a[:0],
    ],
    ids=["transposed", "strided", "Fortran", "big-endian", "both", "empty"],
)
def test_orders(change: Any, protocol: int, tmp_path: Path) -> None:
    array = change(np.arange(24, dtype="<f4").reshape(2, 3, 4) / 7)
    path = tmp_path / "d.npy"
    path.write_bytes(fakes.mtcnn_npy({"c/w": array}, protocol))
    assert fakes.loaded(open_source(path)) == {
        "c/w": ("float32", array.shape, little(array).tobytes())
    }


@pytest.mark.parametrize("old", [True, False])
def test_both_spellings_of_numpys_modules(old: bool, tmp_path: Path) -> None:
    data = fakes.mtcnn_npy({"c/w": np.ones(3, "<f4")}, 2)
    before, after = (b"numpy._core.", b"numpy.core.") if old else (b"numpy.core.", b"numpy._core.")
    path = tmp_path / "d.npy"
    path.write_bytes(data.replace(before, after))
    assert after in path.read_bytes()
    assert fakes.loaded(open_source(path))["c/w"][2] == np.ones(3, "<f4").tobytes()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_header_versions(version: int, tmp_path: Path) -> None:
    body = fakes.mtcnn_npy({"c/w": np.ones(3, "<f4")})
    start = 10 + int.from_bytes(body[8:10], "little")
    header = body[10:start]
    width = 2 if version == 1 else 4
    size = len(header).to_bytes(width, "little")
    path = tmp_path / "d.npy"
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + header + body[start:])
    assert "c/w" in open_source(path)


@pytest.mark.parametrize("name", ["det1", "det2", "det3"])
def test_published_files_equal_numpys_reading(name: str, reference_dir: Path) -> None:
    """The real thing, from Python 2; it's known to be harmless, so NumPy may unpickle it."""
    path = reference_dir / "mtcnn" / f"{name}.npy"
    layers = np.load(path, allow_pickle=True, encoding="latin1").item()
    expected = {f"{layer}/{key}": a for layer, keys in layers.items() for key, a in keys.items()}
    assert fakes.loaded(open_source(path)) == fakes.expected(expected)


def holder(value: object) -> bytes:
    cell = np.empty((), object)
    cell[()] = value
    return npy_of_pickle(pickle.dumps(cell, 2))


W = np.ones(3, "<f4")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(holder([W]), "not hold a dict", id="a list"),
        pytest.param(holder({}), "not hold a dict", id="an empty dict"),
        pytest.param(holder({"c": W}), "not a dict of arrays", id="no layers"),
        pytest.param(holder({"c": {"w": 1.0}}), "not an array", id="a number"),
        pytest.param(holder({"c": {"w": {"w": W}}}), "not an array", id="a level more"),
        pytest.param(holder({1: {"w": W}}), "not text", id="a number as layer"),
        pytest.param(holder({"c": {"w": W.astype("S4")}}), "element type", id="text"),
        pytest.param(holder({"c": {"w": W.astype("O")}}), "not an array of numbers", id="objects"),
        pytest.param(
            holder({"c": {"w": np.zeros(2, [("x", "<f4")])}}), "", id="a structured array"
        ),
        pytest.param(holder({"a/b": {"c": W}, "a": {"b/c": W}}), "two arrays", id="one name twice"),
        pytest.param(
            npy_of_pickle(pickle.dumps({"c": {"w": W}}, 2)), "not hold a dict", id="not an array"
        ),
        pytest.param(holder({"c": {"w": W, "v": W}})[:-1], "", id="cut off"),
    ],
)
def test_refuses(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "d.npy"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        open_source(path)
    assert says in str(caught.value)


def test_plain_arrays_are_named_as_such(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((2, 3), "<f4"))
    with pytest.raises(FormatError, match="plain array") as caught:
        open_source(tmp_path / "d.npy")
    assert "'<f4' (2, 3)" in str(caught.value)


def test_headers_are_never_evaluated(tmp_path: Path) -> None:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), 'x': 1 + 1}\n"
    path = tmp_path / "d.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(FormatError, match="header is damaged"):
        open_source(path)
