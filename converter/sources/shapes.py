"""Check shapes that files declare, before anything is computed from them."""

from __future__ import annotations

from collections.abc import Sequence

MAX_RANK = 32  # NPY_MAXDIMS of NumPy before 2.0; real tensors have up to 4 axes
_MAX_ELEMENTS = 1 << 59  # NumPy requires sizes in bytes to fit int64; elements have up to 16 bytes


def shape_problem(shape: Sequence[int]) -> str | None:
    """Return the reason why no array can have this shape, or None if one can.

    The number of axes is checked first: multiplying a million sizes would take hours. A size of 0
    does not make the others valid: NumPy refuses them too.

    Examples:
        >>> shape_problem([3, 3, 64, 128])
        >>> shape_problem([3, -1])
        'a shape with a negative size (-1)'
    """
    if len(shape) > MAX_RANK:
        return f"a shape of {len(shape)} axes; at most {MAX_RANK} are possible"
    elements = 1
    for size in shape:
        if size < 0:
            return f"a shape with a negative size ({size})"
        elements *= size or 1
    return f"the impossible shape {list(shape)}" if elements > _MAX_ELEMENTS else None
