"""The words in which a graph's and a network's settings are told, so that the two can be compared.

They are TensorFlow's where TensorFlow has one. Height comes before width, as in torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Settings = dict[str, dict[str, Any]]
"""Path of a torch module (``""``: the network): name of a setting: value. Fit for JSON."""

IMAGES = "images"
WHOLE_MAP = "the whole map"  # of a pooling; at 160x160 the last map is `LAST_MAP`
LAST_MAP = [3, 3]
STORED, BATCH = "stored", "of the batch"  # a batch norm's statistics
VARIED = "differs by channel"
NOT_NORMALISED = "not normalised"
OTHER_FUNCTION = "another function"
VALID, SAME = "VALID", "SAME"
BY_SIZE = "SAME, by the input's size"
ROUNDED_UP = "rounded up"

Sides = list[list[int]]
"""Zeros added before and after: ``[[top, bottom], [left, right]]``."""

# Height and width of what a pooling gets, where the network takes one size only (R-Net 24, O-Net
# 48), as its layers are meant to be: a stride that is wrong further up must not show here.
POOL_INPUTS = {
    "rnet": {"pool1": 22, "pool2": 9},
    "onet": {"pool1": 46, "pool2": 21, "pool3": 8},
}


def convolution_padding(
    kernel: Sequence[int], dilation: Sequence[int], sides: Sides
) -> str | Sides:
    """VALID, SAME, or the numbers.

    SAME is what TensorFlow's is at stride 1. Its SAME at another stride depends on the input's
    size and is `BY_SIZE`, so that a stride that differs is one difference and not two.
    """
    if not any(map(any, sides)):
        return VALID
    totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    same = [[total // 2, total - total // 2] for total in totals]
    return SAME if sides == same else sides


def pooling_padding(same: bool, kernel: Sequence[int], stride: Sequence[int], size: int) -> str:
    """What TensorFlow's pooling does: VALID too where SAME finds nothing to pad.

    Args:
        same: Whether the graph says SAME.
        kernel, stride: Height and width.
        size: The input's height and width; 0: any.
    """
    if not same or (size and not any(map(any, _same(kernel, stride, size)))):
        return VALID
    return SAME if max(kernel) > 1 else VALID


def rounded_up_padding(kernel: Sequence[int], stride: Sequence[int], size: int) -> str:
    """torch's ``ceil_mode``: SAME where it does what TensorFlow's SAME does.

    Where rounding has no effect at `size`, it is still told: it was not asked for.
    """
    if not size:  # SAME pads at the end only, whatever the size, if windows are 2 and don't overlap
        return SAME if list(kernel) == list(stride) == [2, 2] else f"{VALID}, {ROUNDED_UP}"
    same = _same(kernel, stride, size)
    ceil = [[0, -(-(size - k) // s) * s + k - size] for k, s in zip(kernel, stride, strict=True)]
    return SAME if ceil == same and any(map(any, same)) else f"{VALID}, {ROUNDED_UP}"


def _same(kernel: Sequence[int], stride: Sequence[int], size: int) -> Sides:
    """Zeros that TensorFlow's SAME adds: as few as give size/stride, the odd one after."""
    totals = [max(-(-size // s) * s - s + k - size, 0) for k, s in zip(kernel, stride, strict=True)]
    return [[total // 2, total - total // 2] for total in totals]
