"""Resampling as OpenCV's ``cv2.resize(..., interpolation=cv2.INTER_AREA)``, without OpenCV.

The original detector resamples images with it, and facenet-pytorch faces that it cuts out of
arrays. The code repeats the operations of OpenCV 4 in their order, so that uint8 results are
equal to the last bit. Where both axes shrink, an output pixel is the mean of the area under it;
otherwise it is interpolated linearly, with weights closer to areas than INTER_LINEAR's. See
https://github.com/opencv/opencv/blob/4.x/modules/imgproc/src/resize.cpp.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FIXED_POINT_ONE = 2048  # a weight of 1 in OpenCV's fixed point for uint8 images: 11 bits
MIN_COVER = 1e-3  # OpenCV leaves out input pixels of which it covers less


class Taps(NamedTuple):
    """The input pixels that each output pixel adds up, and their weights: ``(size, taps)``."""

    pixels: NDArray[np.intp]
    weight: NDArray[np.number]


def inter_area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample `image` to ``(height, width, C)``, in its own dtype.

    Args:
        image: ``(H, W, C)``; uint8, float32 or float64.
        height: In pixels.
        width: In pixels.

    Examples:
        >>> inter_area(np.array([[[0], [90], [30]]], np.uint8), 1, 2).ravel().tolist()
        [30, 50]
    """
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image.copy()
    if width > columns or height > rows:
        return _linear(image, _linear_taps(rows, height), _linear_taps(columns, width))
    if rows % height == 0 and columns % width == 0:
        return _whole_blocks(image, rows // height, columns // width)
    down, across = _area_taps(rows, height), _area_taps(columns, width)
    working = np.float64 if image.dtype == np.float64 else np.float32
    return _cast(_weigh(image.astype(working), down, across), image.dtype)


def _whole_blocks(image: np.ndarray, down: int, across: int) -> np.ndarray:
    """Average blocks of ``down`` x ``across`` whole pixels."""
    rows, columns, channels = image.shape
    blocks = image.reshape(rows // down, down, columns // across, across, channels)
    share = np.float32(1 / (down * across))
    if image.dtype != np.uint8:
        means: np.ndarray = blocks.sum(axis=(1, 3)) * image.dtype.type(share)
        return means
    sums = blocks.sum(axis=(1, 3), dtype=np.int32)
    if (down, across) == (2, 2):
        return _cast((sums + 2) >> 2, image.dtype)  # halves are rounded up here, elsewhere to even
    return _cast(sums.astype(np.float32) * share, image.dtype)


def _area_taps(size: int, target: int) -> Taps:
    """Return the input pixels under each output pixel, weighted by the part that each covers."""
    scale = 1 / (target / size)  # OpenCV computes it so, which differs from size / target
    taps = int(np.ceil(scale)) + 2
    index = np.zeros((target, taps), np.intp)
    weight = np.zeros((target, taps))
    start = np.arange(target) * scale
    end = start + scale
    whole = np.minimum(scale, size - start)  # length covered
    last = np.minimum(np.floor(end), size - 1)
    first = np.minimum(np.ceil(start), last)
    before = first - start
    index[:, 0] = np.maximum(first - 1, 0)
    weight[:, 0] = np.where(before > MIN_COVER, before / whole, 0)
    for tap in range(taps - 2):
        full = first + tap
        index[:, tap + 1] = np.minimum(full, size - 1)
        weight[:, tap + 1] = np.where(full < last, 1 / whole, 0)
    after = end - last
    index[:, -1] = last
    part = np.minimum(np.minimum(after, 1), whole) / whole
    weight[:, -1] = np.where(after > MIN_COVER, part, 0)
    return Taps(index, weight)


def _linear_taps(size: int, target: int) -> Taps:
    """Return two input pixels for each output pixel; the second has a weight only at borders."""
    inverse = target / size
    scale = 1 / inverse
    output = np.arange(target)
    first = np.floor(output * scale).astype(np.intp)
    share = ((output + 1) - (first + 1) * inverse).astype(np.float32)
    share = np.where(share <= 0, 0, share - np.floor(share))
    beyond = first >= size - 1
    first = np.where(beyond, size - 1, first)
    share = np.where(beyond, 0, share).astype(np.float32)
    index = np.stack([first, np.minimum(first + 1, size - 1)], axis=1)
    return Taps(index, np.stack([1 - share, share], axis=1).astype(np.float64))


def _linear(image: np.ndarray, down: Taps, across: Taps) -> np.ndarray:
    if image.dtype != np.uint8:
        return _weigh(image, down, across)
    fixed = [np.rint(taps.weight * FIXED_POINT_ONE).astype(np.int64) for taps in (down, across)]
    wide = _weigh_columns(image.astype(np.int64), Taps(across.pixels, fixed[1])) >> 4
    upper, lower = (
        (wide[down.pixels[:, tap]] * fixed[0][:, tap, None, None]) >> 16 for tap in range(2)
    )
    return _cast((upper + lower + 2) >> 2, image.dtype)


def _weigh(image: np.ndarray, down: Taps, across: Taps) -> np.ndarray:
    """Add up pixels along both axes, columns first, in the image's dtype and OpenCV's order."""
    wide = _weigh_columns(image, across)
    total = np.zeros((len(down.pixels), *wide.shape[1:]), image.dtype)
    for tap in range(down.pixels.shape[1]):
        weight = down.weight[:, tap, None, None].astype(np.float32).astype(image.dtype)
        total += wide[down.pixels[:, tap]] * weight
    return total


def _weigh_columns(image: np.ndarray, across: Taps) -> np.ndarray:
    total = np.zeros((image.shape[0], len(across.pixels), image.shape[2]), image.dtype)
    for tap in range(across.pixels.shape[1]):
        weight = across.weight[None, :, tap, None].astype(np.float32).astype(image.dtype)
        total += image[:, across.pixels[:, tap]] * weight
    return total


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert `values` to `dtype`; for uint8, round them, halves to even."""
    return np.rint(values).astype(np.uint8) if dtype == np.uint8 else values
