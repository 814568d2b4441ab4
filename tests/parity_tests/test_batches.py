"""Images go through a network in batches; where memory runs out, in smaller ones, said so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from facenet_common.errors import ParityError
from facenet_common.progress import Progress
from parity_tests.batches import Batches, is_out_of_memory
from parity_tests.feeds import Feed

IMAGES = np.arange(7 * 2 * 3 * 3, dtype=np.float32).reshape(7, 2, 3, 3)
FEED = Feed("noise", IMAGES, "", tuple(map(str, range(7))))


@dataclass
class Small:
    """A network with memory for so many images."""

    room: int
    error: Exception = field(default_factory=MemoryError)
    name: str = "a small network"
    sizes: list[int] = field(default_factory=list)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise self.error
        return images[:, 0], images.sum((1, 2))


class Counting(Progress):
    done = 0

    def advance(self, size: int) -> None:
        self.done += size


EXPECTED = np.concatenate([IMAGES[:, 0].reshape(7, -1), IMAGES.sum((1, 2))], axis=1)
TORCH = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to")
CUDA = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32])
def test_batches_do_not_change_the_answers(size: int) -> None:
    network, progress = Small(room=99), Counting()
    batches = Batches(size, progress)
    assert np.array_equal(batches.feed(network, FEED, "float32"), EXPECTED)
    assert max(network.sizes) == min(size, 7)
    assert progress.done == 7
    assert batches.notes == []


@pytest.mark.parametrize("error", [MemoryError(), TORCH, CUDA], ids=["python", "torch", "cuda"])
def test_smaller_batches_where_memory_runs_out(error: Exception) -> None:
    network, progress = Small(2, error), Counting()
    batches = Batches(32, progress)
    assert np.array_equal(batches.feed(network, FEED, "float32"), EXPECTED)
    assert network.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert batches.size == 1  # the next network gets as few
    assert len(batches.notes) == 2
    assert "out of memory in a small network" in batches.notes[0]
    assert progress.done == 7


def test_not_even_one_image() -> None:
    with pytest.raises(ParityError, match="even one image"):
        Batches(4).feed(Small(0), FEED, "float32")


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        Batches(4).feed(Small(0, RuntimeError("shape mismatch")), FEED, "float32")
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_images_come_in_the_type_asked_for() -> None:
    seen: list[Any] = []

    class Looking(Small):
        def run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
            seen.append(images.dtype)
            return super().run(images)

    Batches(4).all(Looking(99), [FEED, FEED], "float64")
    assert {*seen} == {np.dtype(np.float64)}
