"""Tensors on their way into a file: the next one is made while this one is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from converter.catalog import TensorRef
from converter.dtypes import as_bytes

Progress = Callable[[TensorRef], None]


def stream(
    tensors: Sequence[TensorRef], progress: Progress
) -> Iterator[tuple[TensorRef, memoryview]]:
    """Each of `tensors` with its bytes, in order, loaded one ahead in another thread.

    `progress` is called with each when the caller asks for the next. At most two tensors are held.
    """
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(tensors[0].load)] if tensors else []
        for position, ref in enumerate(tensors):
            array = ahead.pop().result()
            if position + 1 < len(tensors):
                ahead.append(pool.submit(tensors[position + 1].load))
            yield ref, as_bytes(array)
            del array
            progress(ref)
