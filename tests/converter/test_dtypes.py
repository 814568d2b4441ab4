"""Element types: casts against torch's and against exact arithmetic, and the search for NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converter import dtypes
from converter.dtypes import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Array, DType

FLOATING = (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)


def bits(dtype: DType, shape: object = SHAPES) -> st.SearchStrategy[Array]:
    """Arrays of `dtype` with any bits at all: denormals, infinities, every NaN."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return hnp.arrays(unsigned, shape).map(lambda a: a.view(dtype.numpy))


def widened(array: Array, dtype: DType) -> Array:
    """Exact values as float64."""
    if dtype is BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64)


def grid(dtype: DType) -> Array:
    """Every finite number of a 16-bit type, in order; zero once."""
    every = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(dtype.numpy)
    values = widened(every, dtype)
    return np.unique(values[np.isfinite(values)])


GRIDS = {dtype: grid(dtype) for dtype in (FLOAT16, BFLOAT16)}


def nearest(value: float, dtype: DType) -> float:
    """`value` rounded once, ties to even, by looking at the neighbours: nothing is computed."""
    numbers = GRIDS[dtype]
    step = numbers[-1] - numbers[-2]
    if abs(value) >= numbers[-1] + step / 2:
        return float(np.copysign(np.inf, value))
    if abs(value) >= numbers[-1]:
        return float(np.copysign(numbers[-1], value))
    above = int(np.searchsorted(numbers, value))
    if numbers[above] == value:
        return value
    low, high = numbers[above - 1], numbers[above]
    if value - low != high - value:  # exact: neighbours are within a factor of two, or tiny
        return float(low if value - low < high - value else high)
    zero = int(np.searchsorted(numbers, 0.0))
    return float(low if (above - 1 - zero) % 2 == 0 else high)


@pytest.mark.parametrize("target", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("source", [FLOAT32, FLOAT64], ids=str)
@given(data=st.data())
def test_cast_rounds_once_to_the_nearest(source: DType, target: DType, data: st.DataObject) -> None:
    numbers = GRIDS[target]
    place = data.draw(st.integers(0, len(numbers) - 2))
    part = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
    nudge = data.draw(st.sampled_from([-np.inf, np.inf, None]))
    value = numbers[place] + part * (numbers[place + 1] - numbers[place])
    array = np.array([value], source.numpy)
    if nudge is not None:  # just beside a tie: where rounding twice goes wrong
        array = np.nextafter(array, source.numpy.type(nudge))
    found = widened(dtypes.cast(array, source, target), target)[0]
    assert found == nearest(float(array[0]), target)


@pytest.mark.parametrize("target", [FLOAT16, BFLOAT16], ids=str)
@given(data=st.data())
def test_cast_of_any_float64_rounds_once(target: DType, data: st.DataObject) -> None:
    array = data.draw(bits(FLOAT64, (20,)))
    found = widened(dtypes.cast(array, FLOAT64, target), target)
    for before, after in zip(array, found, strict=True):
        if np.isnan(before):
            assert np.isnan(after)
        else:
            assert after == nearest(float(before), target)
            assert np.signbit(after) == np.signbit(before)


@pytest.mark.parametrize("target", [FLOAT16, BFLOAT16, FLOAT32], ids=str)
@pytest.mark.parametrize("source", [FLOAT32, FLOAT16, BFLOAT16], ids=str)
@given(data=st.data())
def test_cast_agrees_with_torch(source: DType, target: DType, data: st.DataObject) -> None:
    """Except from float64, which torch rounds twice."""
    torch = pytest.importorskip("torch", reason="a cross-check: pip install torch")
    array = data.draw(bits(source))
    raw = torch.from_numpy(array.view(f"i{source.itemsize}").copy())
    theirs = raw.view(getattr(torch, source.name)).to(getattr(torch, target.name))
    expected = theirs.view(getattr(torch, f"int{8 * target.itemsize}")).numpy()
    found = dtypes.cast(array, source, target)
    assert found.shape == array.shape
    assert found.dtype == target.numpy
    wrong = np.isnan(widened(found, target))
    assert np.array_equal(wrong, np.isnan(widened(array, source))), "NaN stays, and nothing else"
    same = found.view(f"i{target.itemsize}") == expected
    assert (same | wrong).all()


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_cast_to_its_own_type_is_the_array_itself(dtype: DType) -> None:
    array = np.zeros(3, dtype.numpy)
    assert dtypes.cast(array, dtype, dtype) is array


def test_cast_takes_floating_types_only() -> None:
    with pytest.raises(ValueError, match="int64 to float16"):
        dtypes.cast(np.zeros(3, "<i8"), dtypes.INT64, FLOAT16)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@given(data=st.data())
def test_first_nonfinite_agrees_with_numpy(dtype: DType, data: st.DataObject) -> None:
    array = data.draw(bits(dtype))
    wrong = np.argwhere(np.atleast_1d(~np.isfinite(widened(array, dtype))))
    expected = tuple(wrong[0])[: array.ndim] if len(wrong) else None
    assert dtypes.first_nonfinite(array, dtype) == expected


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_first_nonfinite_finds_a_single_one(dtype: DType, value: float) -> None:
    array = dtypes.cast(np.ones((3, 4, 5)), FLOAT64, dtype).copy()
    array[2, 1, 4] = dtypes.cast(np.array(value), FLOAT64, dtype)
    array[2, 3, 0] = array[2, 1, 4]
    assert dtypes.first_nonfinite(array, dtype) == (2, 1, 4)


def test_first_nonfinite_of_what_can_have_none() -> None:
    assert dtypes.first_nonfinite(np.zeros((0, 3), "<f4"), FLOAT32) is None
    assert dtypes.first_nonfinite(np.full(3, -1, "<i8"), dtypes.INT64) is None


@given(
    hnp.arrays(
        st.sampled_from([d.numpy for d in dtypes.DTYPES if d.storage]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_as_bytes_and_as_bits_are_the_array_in_c_order(array: Array) -> None:
    for layout in (array, array.T, array[::-1] if array.ndim else array):
        assert bytes(dtypes.as_bytes(layout)) == layout.tobytes()
        assert dtypes.as_bits(layout).tobytes() == layout.tobytes()


def test_codes_are_unique() -> None:
    for table, code in (
        (dtypes.BY_TENSORFLOW, "tensorflow"),
        (dtypes.BY_TORCH, "torch"),
        (dtypes.BY_SAFETENSORS, "safetensors"),
    ):
        assert len(table) == sum(getattr(d, code) is not None for d in dtypes.DTYPES)


@pytest.mark.tensorflow
def test_tensorflow_codes_are_tensorflows() -> None:
    from tensorflow.core.framework import types_pb2

    for dtype in dtypes.DTYPES:
        name = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}.get(dtype.name)
        assert types_pb2.DataType.Value(f"DT_{name or dtype.name.upper()}") == dtype.tensorflow
