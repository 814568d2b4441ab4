"""facenet-pytorch's resampling: torch's "area" interpolation, the mean of a box of whole pixels.

Row i of h rows made of H is the mean of rows floor(i * H / h) up to ceil((i + 1) * H / h); columns
likewise. Means along rows and along columns are taken one after the other, which needs far fewer
additions than torch's kernel: a 1080p image takes 3 ms to 649x1153 on two cores, not 12 to 14.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

BUCKET = 1.25  # crops are resampled together if the longest edge is at most so much longer
PIXELS = 1 << 22  # of crops resampled at a time: 50 MB


def bounds(size: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel, and the one after the last, of each of `target` boxes over `size` pixels."""
    index = np.arange(target, dtype=np.int64)
    return index * size // target, -(-(index + 1) * size // target)


def resample_transposed(image: Tensor, height: int, width: int) -> Tensor:
    """``(H, W, C)`` float to ``(width, height, C)``: resampled, and columns made rows."""
    rows, columns, channels = image.shape
    narrow = _mean_of_rows(image.reshape(rows, columns * channels), height)
    turned = narrow.reshape(height, columns, channels).transpose(0, 1)
    return _mean_of_rows(turned.reshape(columns, height * channels), width).reshape(
        width, height, channels
    )


def _mean_of_rows(image: Tensor, target: int) -> Tensor:
    """``(H, N)`` to ``(target, N)``."""
    first, end = bounds(len(image), target)
    counts = end - first
    offsets = np.cumsum(counts) - counts
    index = np.arange(counts.sum()) - np.repeat(offsets - first, counts)
    # An embedding is a row, a bag of them what is averaged.
    return F.embedding_bag(
        torch.from_numpy(index).to(image.device),
        image,
        torch.from_numpy(offsets).to(image.device),
        mode="mean",
    )


def crops(image: Tensor, boxes: np.ndarray, size: int) -> Tensor:
    """The parts of ``(H, W, 3)`` float in `boxes`, resampled: ``(N, 3, size, size)``.

    Args:
        boxes: ``(N, 4)`` whole pixels within the image, none empty: left, top, right, bottom;
            right and bottom are outside.
    """
    out = image.new_empty(len(boxes), size, size, 3)
    edges = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    order = np.argsort(edges, kind="stable")
    start = 0
    while start < len(order):
        smallest = int(edges[order[start]])
        end = int(np.searchsorted(edges[order], max(smallest * BUCKET, size), side="right"))
        end = min(end, start + max(1, PIXELS // int(edges[order[end - 1]]) ** 2))
        chosen = order[start:end]
        part = _crops(image, boxes[chosen], int(edges[order[end - 1]]), size)
        out[torch.from_numpy(chosen).to(image.device)] = part
        start = end
    return out.permute(0, 3, 1, 2)


def _crops(image: Tensor, boxes: np.ndarray, edge: int, size: int) -> Tensor:
    """`crops` of boxes that fit into a square of `edge` pixels: ``(N, size, size, 3)``."""
    height, width = image.shape[:2]
    tall, wide = min(edge, height), min(edge, width)
    top = np.minimum(boxes[:, 1], height - tall)
    left = np.minimum(boxes[:, 0], width - wide)
    row, column, _ = image.stride()
    shape = (height - tall + 1, width - wide + 1, tall, wide * 3)
    windows = image.as_strided(shape, (row, column, row, 1))
    pixels = windows[torch.from_numpy(top), torch.from_numpy(left)]
    down = _weights(boxes[:, 1] - top, boxes[:, 3] - top, tall, size).to(pixels)
    across = _weights(boxes[:, 0] - left, boxes[:, 2] - left, wide, size).to(pixels)
    flat = torch.bmm(down, pixels).reshape(-1, size, wide, 3)
    turned = flat.permute(0, 2, 1, 3).reshape(-1, wide, size * 3)
    return torch.bmm(across, turned).reshape(-1, size, size, 3).transpose(1, 2)


def _weights(first: np.ndarray, end: np.ndarray, edge: int, size: int) -> Tensor:
    """For each of N crops the matrix ``(size, edge)`` that takes means of pixels first to end."""
    length = (end - first)[:, None]
    index = np.arange(size)
    start = index * length // size + first[:, None]
    stop = -(-(index + 1) * length // size) + first[:, None]
    pixel = torch.arange(edge)
    inside = (pixel >= torch.from_numpy(start)[..., None]) & (
        pixel < torch.from_numpy(stop)[..., None]
    )
    return inside / torch.from_numpy(stop - start)[..., None]
