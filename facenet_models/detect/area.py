"""facenet-pytorch's resampling: torch's "area" interpolation, the mean of a box of whole pixels.

Row i of h rows made of H is the mean of rows floor(i * H / h) up to ceil((i + 1) * H / h); columns
likewise. Means along rows and along columns are taken one after the other, which needs far fewer
additions than torch's kernel: a 1080p image takes 3 ms to 649x1153 on two cores, not 13.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

BUCKET = 1.25  # crops are resampled together if the longest edge is at most so much longer
PIXELS = 1 << 19  # of crops resampled at a time: 6 MB


def bounds(size: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel, and the one after the last, of each of `target` boxes over `size` pixels."""
    index = np.arange(target, dtype=np.int64)
    return index * size // target, -(-(index + 1) * size // target)


class Resampler:
    """Resamples one image ``(H, W, 3)`` to many sizes; see the module."""

    def __init__(self, image: Tensor, dtype: torch.dtype) -> None:
        """`dtype` is that of the results, float32 or float64."""
        self.image = image
        self.dtype = dtype
        rows = image.reshape(len(image), -1)
        # An embedding table of bytes ends each row with what its values are multiplied by and
        # what is added: 1 and 0. A quarter of the memory to read, which is what takes the time.
        self._bytes = (image.device.type, image.dtype, dtype) == ("cpu", torch.uint8, torch.float32)
        if self._bytes:
            unit = torch.tensor([1.0, 0.0]).view(torch.uint8).expand(len(image), -1)
            self._rows = torch.cat([rows, unit], dim=1)
        else:
            self._rows = rows.to(dtype)

    def transposed(self, height: int, width: int, first: int, end: int) -> Tensor:
        """Rows `first` to `end` of the image at ``(height, width)``, as ``(width, rows, 3)``."""
        rows, columns, channels = self.image.shape
        starts, ends = bounds(rows, height)
        narrow = self._means_of_image_rows(starts[first:end], ends[first:end])
        turned = narrow.reshape(end - first, columns, channels).transpose(0, 1)
        level = self._means(turned.reshape(columns, -1), *bounds(columns, width))
        return level.reshape(width, end - first, channels)

    def _means_of_image_rows(self, starts: np.ndarray, ends: np.ndarray) -> Tensor:
        if not self._bytes:
            return self._means(self._rows, starts, ends)
        index, offsets = self._bags(starts, ends, np.int32)
        weights = np.repeat(1 / (ends - starts), ends - starts).astype(np.float32)
        bag = torch.ops.quantized.embedding_bag_byte_rowwise_offsets
        means: Tensor = bag(
            self._rows, index, offsets, False, 0, False, torch.from_numpy(weights), None
        )
        return means

    def _means(self, rows: Tensor, starts: np.ndarray, ends: np.ndarray) -> Tensor:
        """``(H, N)`` to ``(T, N)``: the means of rows `starts` to `ends`, T of each."""
        # An embedding is a row, a bag of them what is averaged.
        index, offsets = self._bags(starts, ends, np.int64)
        return F.embedding_bag(index, rows, offsets, mode="mean")

    def _bags(
        self, starts: np.ndarray, ends: np.ndarray, dtype: type[np.integer]
    ) -> tuple[Tensor, Tensor]:
        """The rows of all bags in one list, and where in it each bag begins."""
        counts = ends - starts
        offsets = np.cumsum(counts) - counts
        index = np.arange(counts.sum()) - np.repeat(offsets - starts, counts)
        device = self.image.device
        return (
            torch.from_numpy(index.astype(dtype)).to(device),
            torch.from_numpy(offsets.astype(dtype)).to(device),
        )


def crops(image: Tensor, boxes: np.ndarray, size: int, dtype: torch.dtype) -> Tensor:
    """The parts of ``(H, W, 3)`` in `boxes`: ``(N, 3, size, size)`` of `dtype`, channels last.

    Args:
        boxes: ``(N, 4)`` whole pixels within the image, none empty: left, top, right, bottom;
            right and bottom are outside.
    """
    out = torch.empty(len(boxes), size, size, 3, dtype=dtype, device=image.device)
    edges = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    order = np.argsort(edges, kind="stable")
    start = 0
    while start < len(order):
        smallest = int(edges[order[start]])
        end = int(np.searchsorted(edges[order], max(smallest * BUCKET, size), side="right"))
        end = min(end, start + max(1, PIXELS // int(edges[order[end - 1]]) ** 2))
        chosen = order[start:end]
        part = _crops(image, boxes[chosen], int(edges[order[end - 1]]), size, dtype)
        out[torch.from_numpy(chosen).to(image.device)] = part
        start = end
    return out.permute(0, 3, 1, 2)


def _crops(image: Tensor, boxes: np.ndarray, edge: int, size: int, dtype: torch.dtype) -> Tensor:
    """`crops` of boxes that fit into a square of `edge` pixels: ``(N, size, size, 3)``."""
    height, width = image.shape[:2]
    tall, wide = min(edge, height), min(edge, width)
    top = np.minimum(boxes[:, 1], height - tall)
    left = np.minimum(boxes[:, 0], width - wide)
    pixels = _windows(image, top, left, tall, wide).to(dtype)
    down = _weights(boxes[:, 1] - top, boxes[:, 3] - top, tall, size, dtype).to(pixels)
    across = _weights(boxes[:, 0] - left, boxes[:, 2] - left, wide, size, dtype).to(pixels)
    with torch.autocast(image.device.type, enabled=False):  # for the nets, not for pixels
        flat = torch.bmm(down, pixels).reshape(-1, size, wide, 3)
        turned = flat.permute(0, 2, 1, 3).reshape(-1, wide, size * 3)
        return torch.bmm(across, turned).reshape(-1, size, size, 3).transpose(1, 2)


def _windows(image: Tensor, top: np.ndarray, left: np.ndarray, tall: int, wide: int) -> Tensor:
    """N windows of a contiguous image: ``(N, tall, wide * 3)``."""
    height, width, channels = image.shape
    row = width * channels
    shape = (height - tall + 1, width - wide + 1, tall, wide * channels)
    strides = (row, channels, row, 1)
    if image.device.type == "cpu":  # NumPy copies whole rows of a window: 4 times as fast
        array = image.numpy()
        steps = [stride * array.itemsize for stride in strides]
        views = np.lib.stride_tricks.as_strided(array, shape, steps, writeable=False)
        return torch.from_numpy(views[top, left])
    return image.as_strided(shape, strides)[torch.from_numpy(top), torch.from_numpy(left)]


def _weights(
    first: np.ndarray, end: np.ndarray, edge: int, size: int, dtype: torch.dtype
) -> Tensor:
    """For each of N crops the matrix ``(size, edge)`` that takes means of pixels first to end."""
    numbers = np.float64 if dtype == torch.float64 else np.float32
    # Nearly all start at their window's first pixel, and many are equally long.
    kinds, which = np.unique(first * (edge + 1) + end - first, return_inverse=True)
    matrices = np.zeros((len(kinds), size, edge), numbers)
    for matrix, kind in zip(matrices, kinds.tolist(), strict=True):
        start, length = divmod(kind, edge + 1)
        matrix[:, start : start + length] = _matrix(length, size)
    return torch.from_numpy(matrices[which])


@lru_cache(maxsize=512)
def _matrix(length: int, size: int) -> np.ndarray:
    """What takes the means of one axis of `length` pixels: ``(size, length)``, float64."""
    start, stop = (edge[:, None] for edge in bounds(length, size))
    pixel = np.arange(length)
    matrix: np.ndarray = ((pixel >= start) & (pixel < stop)) / (stop - start)
    return matrix
