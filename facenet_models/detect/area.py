"""Resampling as facenet-pytorch does it: torch's "area" interpolation, means of whole pixels.

When H rows become h, output row i is the mean of input rows floor(i * H / h) up to but without
ceil((i + 1) * H / h); columns likewise (torch's ``adaptive_avg_pool2d``). Rows are averaged
first, then columns, which needs far fewer additions than torch's kernel: 1080p to 649x1153 takes
3 ms on two cores instead of 13.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MAX_EDGE_RATIO = 1.25  # of the longest to the shortest edge of crops that share one batch
MAX_PIXELS = 1 << 19  # in one batch of crops: 6 MB


def pixel_bounds(size: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of `size` input pixels each of `target` output pixels averages: start, stop.

    Examples:
        >>> [edge.tolist() for edge in pixel_bounds(5, 2)]
        [[0, 2], [3, 5]]
    """
    index = np.arange(target, dtype=np.int64)
    return index * size // target, -(-(index + 1) * size // target)


class Resampler:
    """Resample one image to many sizes by area; see the module's docstring.

    Args:
        image: ``(H, W, 3)``.
        dtype: Of the results: float32 or float64.
    """

    def __init__(self, image: Tensor, dtype: torch.dtype) -> None:
        self.image = image
        self.dtype = dtype
        rows = image.reshape(len(image), -1)
        # Reading memory takes most of the time, so uint8 images stay uint8 (a quarter of the
        # bytes) and are averaged by the operator for quantised embedding tables. Each row of such
        # a table ends with its scale and its offset: 1 and 0. See EmbeddingBag in
        # https://github.com/pytorch/pytorch/blob/v2.1.0/aten/src/ATen/native/quantized/cpu/qembeddingbag.cpp
        self._bytes = (image.device.type, image.dtype, dtype) == ("cpu", torch.uint8, torch.float32)
        if self._bytes:
            unit = (
                torch.tensor([1.0, 0.0], dtype=torch.float32)
                .view(torch.uint8)
                .expand(len(image), -1)
            )
            self._rows = torch.cat([rows, unit], dim=1)
        else:
            self._rows = rows.to(dtype)

    def resample_transposed(self, height: int, width: int, first: int, end: int) -> Tensor:
        """Resample the image to ``(height, width)`` and return a strip of it, transposed.

        Returns:
            Rows `first` up to but without `end`, as ``(width, end - first, 3)``.
        """
        rows, columns, channels = self.image.shape
        starts, ends = pixel_bounds(rows, height)
        narrow = self._means_of_image_rows(starts[first:end], ends[first:end])
        turned = narrow.reshape(end - first, columns, channels).transpose(0, 1)
        level = self._means(turned.reshape(columns, -1), *pixel_bounds(columns, width))
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
        """Return the means of `rows` ``(H, N)`` from `starts` to `ends` ``(T,)``: ``(T, N)``."""
        # In torch's terms, each row is an embedding, and the rows to average are a bag.
        index, offsets = self._bags(starts, ends, np.int64)
        return F.embedding_bag(index, rows, offsets, mode="mean")

    def _bags(
        self, starts: np.ndarray, ends: np.ndarray, dtype: type[np.integer]
    ) -> tuple[Tensor, Tensor]:
        """Return the row numbers of all bags in one list, and where each bag begins in it."""
        counts = ends - starts
        offsets = np.cumsum(counts) - counts
        index = np.arange(counts.sum()) - np.repeat(offsets - starts, counts)
        device = self.image.device
        return (
            torch.from_numpy(index.astype(dtype)).to(device),
            torch.from_numpy(offsets.astype(dtype)).to(device),
        )


def resample_crops(image: Tensor, boxes: np.ndarray, size: int, dtype: torch.dtype) -> Tensor:
    """Cut `boxes` out of an image and resample each to a square.

    Args:
        image: ``(H, W, 3)``, contiguous.
        boxes: ``(N, 4)`` whole pixels within the image, none empty: left, top, right, bottom;
            right and bottom are exclusive.
        size: Edge of the squares, in pixels.
        dtype: Of the result: float32 or float64.

    Returns:
        ``(N, 3, size, size)`` in channels-last memory.
    """
    out = torch.empty(len(boxes), size, size, 3, dtype=dtype, device=image.device)
    edges = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    order = np.argsort(edges, kind="stable")
    start = 0
    while start < len(order):
        smallest = int(edges[order[start]])
        end = int(np.searchsorted(edges[order], max(smallest * MAX_EDGE_RATIO, size), side="right"))
        end = min(end, start + max(1, MAX_PIXELS // int(edges[order[end - 1]]) ** 2))
        chosen = order[start:end]
        part = _resample_similar(image, boxes[chosen], int(edges[order[end - 1]]), size, dtype)
        out[torch.from_numpy(chosen).to(image.device)] = part
        start = end
    return out.permute(0, 3, 1, 2)


def _resample_similar(
    image: Tensor, boxes: np.ndarray, edge: int, size: int, dtype: torch.dtype
) -> Tensor:
    """Resample `boxes` that fit into a square of `edge` pixels: ``(N, size, size, 3)``."""
    height, width = image.shape[:2]
    window_height, window_width = min(edge, height), min(edge, width)
    top = np.minimum(boxes[:, 1], height - window_height)
    left = np.minimum(boxes[:, 0], width - window_width)
    pixels = _windows(image, top, left, window_height, window_width).to(dtype)
    down = _averaging_matrices(boxes[:, 1] - top, boxes[:, 3] - top, window_height, size, dtype).to(
        pixels
    )
    across = _averaging_matrices(
        boxes[:, 0] - left, boxes[:, 2] - left, window_width, size, dtype
    ).to(pixels)
    with torch.autocast(image.device.type, enabled=False):  # autocast would round the pixels
        flat = torch.bmm(down, pixels).reshape(-1, size, window_width, 3)
        turned = flat.permute(0, 2, 1, 3).reshape(-1, window_width, size * 3)
        return torch.bmm(across, turned).reshape(-1, size, size, 3).transpose(1, 2)


def _windows(
    image: Tensor, top: np.ndarray, left: np.ndarray, window_height: int, window_width: int
) -> Tensor:
    """Return windows at N places of a contiguous image: ``(N, height, width * 3)``."""
    height, width, channels = image.shape
    row = width * channels
    shape = (
        height - window_height + 1,
        width - window_width + 1,
        window_height,
        window_width * channels,
    )
    strides = (row, channels, row, 1)
    if image.device.type == "cpu":  # NumPy copies whole rows of a window, 4 times as fast as torch
        array = image.numpy()
        steps = [stride * array.itemsize for stride in strides]
        views = np.lib.stride_tricks.as_strided(array, shape, steps, writeable=False)
        return torch.from_numpy(views[top, left])
    return image.as_strided(shape, strides)[torch.from_numpy(top), torch.from_numpy(left)]


def _averaging_matrices(
    first: np.ndarray, end: np.ndarray, edge: int, size: int, dtype: torch.dtype
) -> Tensor:
    """Return matrices that average pixels `first` to `end` of each crop: ``(N, size, edge)``."""
    numbers = np.float64 if dtype == torch.float64 else np.float32
    # Few spans are different: nearly all start at their window's first pixel, and many are
    # equally long.
    spans, span_of = np.unique(first * (edge + 1) + end - first, return_inverse=True)
    matrices = np.zeros((len(spans), size, edge), numbers)
    for matrix, span in zip(matrices, spans.tolist(), strict=True):
        start, length = divmod(span, edge + 1)
        matrix[:, start : start + length] = _averaging_matrix(length, size)
    return torch.from_numpy(matrices[span_of])


@lru_cache(maxsize=512)
def _averaging_matrix(length: int, size: int) -> np.ndarray:
    """Return the matrix that averages `length` pixels to `size`: ``(size, length)``, float64."""
    start, stop = (edge[:, None] for edge in pixel_bounds(length, size))
    pixel = np.arange(length)
    matrix: np.ndarray = ((pixel >= start) & (pixel < stop)) / (stop - start)
    return matrix
