"""Safetensors: our writer against the library's reader, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import fakes

from converter import dtypes
from converter.dtypes import BFLOAT16, Array
from converter.sources import open_source
from converter.writers import safetensors as writer
from facenet_common.errors import FormatError, UsageError

library = pytest.importorskip(
    "safetensors.numpy", reason="needs safetensors: pip install safetensors"
)

STORED = [d for d in dtypes.DTYPES if d.safetensors and d is not BFLOAT16]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NAMES = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda n: n != "__metadata__")


def arrays() -> st.SearchStrategy[Array]:
    def of(dtype: dtypes.DType) -> st.SearchStrategy[Array]:
        if dtype.name == "bool":
            return hnp.arrays(np.bool_, SHAPES)
        return hnp.arrays(f"u{dtype.itemsize}", SHAPES).map(lambda a: a.view(dtype.numpy))

    return st.sampled_from(STORED).flatmap(of)


@given(st.dictionaries(NAMES, arrays(), max_size=6))
def test_the_library_reads_what_we_write(tmp_path: Path, made: dict[str, Array]) -> None:
    path = fakes.write_safetensors(tmp_path / "x.safetensors", made)
    found = library.load_file(path)
    assert fakes.expected(found) == fakes.expected(made) == fakes.loaded(open_source(path))


@given(st.dictionaries(NAMES, arrays(), max_size=6))
def test_we_read_what_the_library_writes(tmp_path: Path, made: dict[str, Array]) -> None:
    path = tmp_path / "x.safetensors"
    library.save_file(made, path, metadata={"any": "thing"})
    assert fakes.loaded(open_source(path)) == fakes.expected(made)


def test_bfloat16_through_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="a cross-check: pip install torch")
    from safetensors.torch import load_file

    raw = np.arange(1 << 16, dtype=np.uint32).astype("<u2")
    path = tmp_path / "x.safetensors"
    writer.write(path, [fakes.ref("w", raw, BFLOAT16)], fakes.no_progress)
    found = load_file(path)["w"]
    assert found.dtype is torch.bfloat16
    assert found.view(torch.int16).numpy().tobytes() == raw.tobytes()
    assert fakes.loaded(open_source(path)) == {"w": ("bfloat16", raw.shape, raw.tobytes())}


@given(st.dictionaries(st.text("ab", max_size=9), arrays(), min_size=1, max_size=6))
def test_data_and_every_element_are_aligned(tmp_path: Path, made: dict[str, Array]) -> None:
    data = fakes.write_safetensors(tmp_path / "x.safetensors", made).read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert (8 + size) % writer.ALIGNMENT == 0
    header = json.loads(data[8 : 8 + size])
    for name, array in made.items():
        assert header[name]["data_offsets"][0] % array.itemsize == 0


def test_writer_refuses_what_the_format_has_no_name_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="element type"):
        fakes.write_safetensors(tmp_path / "x.safetensors", {"w": np.zeros(3, "<c8")})


ENTRY: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize("change", [{}, {"shape": [1, 1]}, {"dtype": "I32"}])
def test_the_control_is_read(change: dict[str, Any], tmp_path: Path) -> None:
    """The file that support/hostile.py damages is good before."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(fakes.safetensors_bytes({"w": ENTRY | change}, bytes(4)))
    assert fakes.loaded(open_source(path))["w"][2] == bytes(4)


@given(
    st.dictionaries(
        st.sampled_from(["w", "v", "__metadata__", "dtype"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["F32", ""]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["dtype", "shape", "data_offsets"]), inner, max_size=3
                )
            ),
            max_leaves=12,
        ),
    )
)
def test_any_header_is_read_or_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(fakes.safetensors_bytes(header, bytes(4)))
    try:
        fakes.loaded(open_source(path))
    except FormatError as error:
        str(error)
