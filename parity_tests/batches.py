"""Runs images through a network some at a time, with fewer of them where memory runs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from facenet_common.errors import ParityError
from facenet_common.progress import Progress
from parity_tests.feeds import Feed

Array = npt.NDArray[Any]

# How libraries say that memory ran out, apart from MemoryError: torch on CPU, CUDA and MPS, and
# onnxruntime.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Failed to allocate memory")


class Runner(Protocol):
    """What answers to images: `parity_tests.reference.runner.ReferenceRunner`, a candidate, …"""

    @property
    def name(self) -> str: ...

    def run(self, images: Array) -> tuple[Array, ...]:
        """Answers to NHWC images, in TensorFlow's layout."""
        ...


@dataclass
class Batches:
    """How images are put together: at most `size` of them at a time.

    `size` becomes smaller where memory runs out, which `notes` then says. `progress` hears of each
    image that is done.
    """

    size: int
    progress: Progress = field(default_factory=Progress)
    notes: list[str] = field(default_factory=list)

    def feed(self, runner: Runner, feed: Feed, dtype: str) -> Array:
        """All outputs for every image of `feed`: a row an image, outputs joined.

        `dtype` is NumPy's type that the images are given in.

        Raises:
            ParityError: Memory does not suffice for one image, or whatever the runner raises.
        """
        rows: list[Array] = []
        start = 0
        while start < len(feed.images):
            images = feed.images[start : start + self.size].astype(dtype)
            try:
                outputs = runner.run(images)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.halve(runner.name, len(images))
                continue
            rows.append(np.concatenate([o.reshape(len(o), -1) for o in outputs], axis=1))
            start += len(images)
            self.progress.advance(len(images))
        return np.concatenate(rows)

    def all(self, runner: Runner, feeds: Sequence[Feed], dtype: str = "float32") -> Array:
        """The rows of all feeds."""
        return np.concatenate([self.feed(runner, feed, dtype) for feed in feeds])

    def halve(self, name: str, tried: int) -> None:
        """Half as many images at a time as were `tried`, and a note that says so.

        Raises:
            ParityError: It was one.
        """
        if tried <= 1:
            raise ParityError(
                f"out of memory: {name} can't run with even one image at a time",
                next_step="close other programs, or use a machine with more memory",
            )
        self.size = tried // 2
        self.notes.append(f"out of memory in {name}: from there on {self.size} images at a time")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what `error` means, whichever library raised it."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)
