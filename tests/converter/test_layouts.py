"""Layouts: each moves the axes that it names, and its inverse moves them back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converter.layouts import AS_IS, HWIO_TO_OIHW, IO_TO_OI, WHIO_TO_OIHW, Layout


@pytest.mark.parametrize("layout", [AS_IS, IO_TO_OI, HWIO_TO_OIHW, WHIO_TO_OIHW], ids=str)
@given(data=st.data())
def test_layout_inverts(layout: Layout, data: st.DataObject) -> None:
    rank = len(layout.axes) or data.draw(st.integers(0, 4))
    sides = st.tuples(*[st.integers(0, 4)] * rank)
    array = data.draw(hnp.arrays(np.float32, sides, elements=st.floats(width=32, allow_nan=False)))
    applied = layout.apply(array)
    assert applied.shape == layout.shape(array.shape)
    assert applied.flags.c_contiguous
    for back in (layout.invert(applied), layout.inverse.apply(applied)):
        assert back.shape == array.shape
        assert back.tobytes() == array.tobytes()
    assert layout.inverse.inverse.axes == layout.axes


def test_layouts_move_the_axes_they_name() -> None:
    kernel = np.arange(24).reshape(1, 2, 3, 4)
    assert HWIO_TO_OIHW.apply(kernel)[3, 2, 0, 1] == kernel[0, 1, 2, 3]
    assert WHIO_TO_OIHW.apply(kernel)[3, 2, 1, 0] == kernel[0, 1, 2, 3]
    with pytest.raises(ValueError, match="axes"):
        HWIO_TO_OIHW.apply(kernel[0])
    with pytest.raises(ValueError, match="axes"):
        IO_TO_OI.shape((1, 2, 3))
