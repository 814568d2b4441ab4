"""Run images through a network in batches, halving the batch size where memory runs out."""

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

# Of the images in a batch together. A pixel takes 5 kB in the first layers of P-Net in float64.
MAX_PIXELS = 2**21

# Parts of the messages with which torch (CPU, CUDA, MPS) and onnxruntime report that memory ran
# out, where they don't raise MemoryError.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Failed to allocate memory")


class Runner(Protocol):
    """A network that can be run: `parity_tests.reference.runner.ReferenceRunner`, a candidate, …"""

    @property
    def name(self) -> str: ...

    def run(self, images: Array) -> tuple[Array, ...]:
        """Return the outputs for NHWC images, in TensorFlow's layout."""
        ...


@dataclass
class Batches:
    """Runs images in batches of at most `size`.

    `size` is halved where memory runs out, with a line in `notes`. `progress` is advanced for each
    image.
    """

    size: int
    progress: Progress = field(default_factory=Progress)
    notes: list[str] = field(default_factory=list)

    def feed(self, runner: Runner, feed: Feed, dtype: str) -> Array:
        """Return all outputs for every image of `feed`: one row for each image, outputs joined.

        `dtype` is the NumPy dtype in which the images are fed.

        Raises:
            ParityError: Memory does not suffice for one image. Other errors of the runner pass.
        """
        rows: list[Array] = []
        start = 0
        while start < len(feed.images):
            fits = max(1, MAX_PIXELS // int(np.prod(feed.images.shape[1:3])))
            images = feed.images[start : start + min(self.size, fits)].astype(dtype)
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
        """Return the rows of all feeds, in order."""
        return np.concatenate([self.feed(runner, feed, dtype) for feed in feeds])

    def halve(self, name: str, tried: int) -> None:
        """Set `size` to half of the `tried` number of images, and add a note.

        Raises:
            ParityError: `tried` is 1.
        """
        if tried <= 1:
            raise ParityError(
                f"out of memory: {name} can't run with even one image at a time",
                next_step="close other programs, or use a machine with more memory",
            )
        self.size = tried // 2
        self.notes.append(f"out of memory in {name}: from there on {self.size} images at a time")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` means that memory ran out, whichever library raised it."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)
