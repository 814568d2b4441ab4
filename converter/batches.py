"""Tensors in batches that are worth a thread's while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from converter.catalog import TensorRef

BATCH = 1 << 22  # bytes; most tensors of these networks are far smaller than a switch is worth


def batches(tensors: Sequence[TensorRef], size: int = BATCH) -> Iterator[list[TensorRef]]:
    """`tensors` in order, in batches that end when they reach `size` bytes."""
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
