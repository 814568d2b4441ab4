"""Tensors on their way into a file: the next ones are made while these are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from converter.batches import batches
from converter.catalog import TensorRef
from converter.dtypes import as_bytes

OnWritten = Callable[[TensorRef], None]
Checksum = Callable[[memoryview], int]
Loaded = tuple[TensorRef, memoryview, int]


def stream(
    tensors: Sequence[TensorRef], on_written: OnWritten, checksum: Checksum = len
) -> Iterator[Loaded]:
    """Each of `tensors` with its bytes and their `checksum`, in order, made one batch ahead in
    another thread.

    `on_written` is called with each when the caller asks for the next. At most two batches are
    held.
    """

    def make(batch: list[TensorRef]) -> list[Loaded]:
        pairs = [(ref, as_bytes(ref.load())) for ref in batch]
        return [(ref, data, checksum(data)) for ref, data in pairs]

    with ThreadPoolExecutor(1) as pool:
        ahead: Future[list[Loaded]] | None = None
        for batch in [*batches(tensors), []]:
            upcoming = pool.submit(make, batch)
            for loaded in ahead.result() if ahead else ():
                yield loaded
                on_written(loaded[0])
            ahead = upcoming
