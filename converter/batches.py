"""Batches of tensors: units of work for threads, large enough to outweigh a thread switch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from converter.catalog import TensorRef

BATCH = 1 << 22  # bytes; most tensors of these networks are far smaller


def batches(tensors: Sequence[TensorRef], size: int = BATCH) -> Iterator[list[TensorRef]]:
    """Yield `tensors` in order, in batches that end when they reach `size` bytes.

    Examples:
        >>> from converter.demo import variables
        >>> [len(batch) for batch in batches(variables(embedding=4, classes=0), size=1 << 25)]
        [319, 100, 71]
    """
    batch: list[TensorRef] = []
    total = 0
    for ref in tensors:
        batch.append(ref)
        total += ref.nbytes
        if total >= size:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
