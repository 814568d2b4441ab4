"""Load tensors for a writer: the next batch is loaded while this one is written."""

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
    """Yield each tensor with its bytes and their checksum, in order.

    Another thread loads one batch ahead; at most two batches are in memory.

    Args:
        tensors: The tensors.
        on_written: Called with each tensor before the next one is yielded.
        checksum: Return the checksum of a tensor's bytes.

    Raises:
        FormatError: A tensor is damaged.
        ValueCheckError: A tensor has a value that must not be there.
    """

    def load(batch: list[TensorRef]) -> list[Loaded]:
        pairs = [(ref, as_bytes(ref.load())) for ref in batch]
        return [(ref, data, checksum(data)) for ref, data in pairs]

    with ThreadPoolExecutor(1) as pool:
        ahead: Future[list[Loaded]] | None = None
        for batch in [*batches(tensors), []]:
            upcoming = pool.submit(load, batch)
            for loaded in ahead.result() if ahead else ():
                yield loaded
                on_written(loaded[0])
            ahead = upcoming
