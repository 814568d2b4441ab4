"""Resampling by area against OpenCV."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the package of the detector imports torch")
pytest.importorskip("hypothesis", reason="the properties are searched with hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_models.detect.inter_area import inter_area

size = st.integers(1, 60)


@settings(deadline=None)
@given(size, size, size, size, st.sampled_from(["uint8", "float32", "float64"]))
def test_inter_area_is_opencvs(height, width, high, wide, dtype):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is what is compared with")
    rng = np.random.default_rng(height * 61 + width)
    image = rng.integers(0, 256, (height, width, 3)).astype(dtype)
    expected = cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA)
    got = inter_area(image, high, wide)
    assert got.dtype == image.dtype
    if dtype == "uint8":
        np.testing.assert_array_equal(got, expected.reshape(got.shape))
    else:
        np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=0, atol=1e-4)


def test_inter_area_by_hand() -> None:
    """Without OpenCV: one row of 3 pixels to 2, of 2 to 1 (halves up), of 1 to 2."""
    row = np.array([[[0], [90], [30]]], np.uint8)
    assert inter_area(row, 1, 2).ravel().tolist() == [30, 50]  # (0 + 90 / 2) / 1.5
    assert inter_area(np.array([[[1], [2]], [[1], [2]]], np.uint8), 1, 1).ravel().tolist() == [2]
    assert inter_area(row[:, :1] + 7, 1, 2).ravel().tolist() == [7, 7]
