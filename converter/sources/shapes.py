"""Shapes that files declare, judged before anything is computed from them."""

from __future__ import annotations

from collections.abc import Sequence

MAX_RANK = 32  # NumPy's own limit before 2.0; real tensors have up to 4 axes
_MAX_ELEMENTS = 1 << 59  # so that bytes fit in int64, as NumPy asks, for elements of 16 bytes


def impossible(shape: Sequence[int]) -> str | None:
    """Why no array can have this shape, or None where one can.

    Stops at the first axis too many: multiplying a million sizes out would take hours. Zeros
    don't excuse the other axes: NumPy refuses those too.
    """
    if len(shape) > MAX_RANK:
        return f"a shape of {len(shape)} axes, where at most {MAX_RANK} can be"
    elements = 1
    for size in shape:
        if size < 0:
            return f"a shape with a negative size ({size})"
        elements *= size or 1
    return f"the impossible shape {list(shape)}" if elements > _MAX_ELEMENTS else None
