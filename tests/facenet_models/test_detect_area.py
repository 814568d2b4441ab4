"""Resampling by area against torch's interpolation."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the detector needs torch")
pytest.importorskip("hypothesis", reason="the properties are searched with hypothesis")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from facenet_models.detect import area

size = st.integers(1, 60)


@settings(deadline=None)
@given(size, size, size, size, st.booleans(), st.integers(0, 2**32 - 1))
def test_area_is_torch_area_interpolation(height, width, high, wide, fractions, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    image = torch.from_numpy(pixels.astype(np.float32) / 3 if fractions else pixels)
    expected = F.interpolate(image.permute(2, 0, 1)[None].double(), size=(high, wide), mode="area")[
        0
    ].permute(2, 1, 0)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-11)):
        got = area.Resampler(image, dtype).resample_transposed(high, wide, 0, high)
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=tolerance)
        part = area.Resampler(image, dtype).resample_transposed(high, wide, high // 3, high)
        torch.testing.assert_close(part, got[:, high // 3 :], rtol=0, atol=0)


@settings(deadline=None)
@given(st.lists(st.tuples(size, size, size, size), min_size=1, max_size=12), st.integers(1, 30))
def test_crops_are_torch_area_interpolation(found, target):
    height, width = 50, 70
    image = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    )
    rows = []
    for a, b, c, d in found:
        left, top = a % width, b % height
        rows.append((left, top, min(width, left + c), min(height, top + d)))
    got = area.resample_crops(image, np.array(rows), target, torch.float64)
    assert got.shape == (len(rows), 3, target, target)
    assert got.is_contiguous(memory_format=torch.channels_last)
    for (x1, y1, x2, y2), crop in zip(rows, got, strict=True):
        part = image[y1:y2, x1:x2].permute(2, 0, 1)[None].double()
        expected = F.interpolate(part, size=(target, target), mode="area")[0]
        torch.testing.assert_close(crop, expected, rtol=0, atol=1e-10)
