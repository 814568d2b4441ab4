"""Find out how an ONNX file takes images, and which of its outputs are the network's.

Exporters differ: images may be NCHW (torch) or NHWC (TensorFlow), of fixed or free size and number,
in float32 or float16; TensorFlow's graphs also ask whether they are trained (``phase_train``).
Declared shapes decide where they can. As they may be free or absent, one black image is run, and
the shapes of the outputs are those that come out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from converter.architectures.record import Output
from facenet_common.errors import ParityError
from facenet_common.text import printable
from parity_tests.probes import FROM_TORCH, TO_TORCH, images_layout

Array = npt.NDArray[Any]

FLOATS: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}
_NUMBERS: dict[str, type] = FLOATS | {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
SMALLEST = 12  # pixels: height and width of the smallest image that any of the networks takes
_AS_FED = (0, 1, 2, 3)
_EXPECTED = (
    "one floating point input of images, (N, 3, H, W) or (N, H, W, 3), and besides it at most "
    "switches that are off where nothing is trained (phase_train)"
)


@dataclass(frozen=True)
class Images:
    """The input that takes the images, in one of the layouts that its shape allows.

    Attributes:
        name: The input.
        dtype: NumPy's type of the images.
        order: The permutation from TensorFlow's axes of the images to the input's.
        batch: The fixed number of images; None: it is free.
        edges: The fixed sizes of TensorFlow's axes 1 and 2; None: it is free.
        switches: Values of all other inputs, which turn training off.
    """

    name: str
    dtype: type
    order: tuple[int, ...]
    batch: int | None
    edges: tuple[int | None, int | None]
    switches: Mapping[str, Array]

    @property
    def channels_first(self) -> bool:
        return self.order[1] == 3

    def sizes(self, architecture: str) -> tuple[int, int]:
        """Return TensorFlow's axes 1 and 2 of images to try: the fixed sizes, else the usual."""
        usual = ARCHITECTURES[architecture].feed_size
        first, second = (edge or size for edge, size in zip(self.edges, usual, strict=True))
        return first, second

    def feed(self, images: Array) -> dict[str, Array]:
        """Return all inputs of the file for `images` in TensorFlow's layout."""
        batch: Array = np.ascontiguousarray(images.transpose(self.order), self.dtype)
        return {self.name: batch, **self.switches}


@dataclass(frozen=True)
class Outputs:
    """The network's outputs: their names in the file, in the network's order.

    `order` is the permutation of maps to TensorFlow's axes.
    """

    names: tuple[str, ...]
    order: tuple[int, ...]


def run_once(
    path: Path, session: Any, architecture: str
) -> tuple[Images, dict[str, tuple[int, ...]]]:
    """Run the file on one black image (or as many as it must have).

    Returns:
        How it takes images, and the shape of each of its outputs of floating-point numbers.

    Raises:
        ParityError: It takes no images, or fails on them, or runs with two layouts.
    """
    tried: list[tuple[Images, dict[str, tuple[int, ...]]]] = []
    problems = []
    for images in _images(path, session, images_layout(architecture)):
        black = np.zeros((images.batch or 1, *images.sizes(architecture), 3), np.float32)
        feed = images.feed(black)
        try:
            arrays = session.run(None, feed)
        except Exception as error:  # onnxruntime's errors have no common base
            problems.append(f"for {list(feed[images.name].shape)}: {printable(error)}")
            continue
        named = zip(session.get_outputs(), arrays, strict=True)
        shapes = {output.name: array.shape for output, array in named if output.type in FLOATS}
        tried.append((images, shapes))
    if len(tried) == 1:
        return tried[0]
    raise ParityError(
        "the ONNX file's layout is ambiguous" if tried else "onnxruntime failed on a black image",
        file=path,
        expected="one layout of (N, 3, H, W) and (N, H, W, 3) with which it runs",
        found="it runs with both" if tried else "; ".join(problems),
        next_step="declare the shape of its input, with 3 channels",
    )


def _images(path: Path, session: Any, layout: Any) -> Iterator[Images]:
    """Yield the input of images in each layout that its declared shape allows."""
    inputs = session.get_inputs()
    floats = [i for i in inputs if i.type in FLOATS and len(i.shape) == 4]
    floats = floats or [i for i in inputs if i.type in FLOATS and not i.shape]  # undeclared
    switches = {i.name: value for i in inputs if (value := _switched_off(i)) is not None}
    source = floats[0] if len(floats) == 1 else None
    layouts = [order for order in (TO_TORCH[layout], _AS_FED) if source and _fits(source, order)]
    if source is None or not layouts or {source.name, *switches} != {i.name for i in inputs}:
        raise ParityError(
            "the ONNX file does not take images as the networks do",
            file=path,
            expected=_EXPECTED,
            found=printable(", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs) or "none"),
            next_step="export it with an input of images only",
        )
    switches.pop(source.name, None)
    shape = source.shape or [None] * 4
    for order in layouts:  # it tells where each of TensorFlow's axes is in the input
        batch, first, second = (_fixed(shape[order.index(axis)]) for axis in range(3))
        yield Images(source.name, FLOATS[source.type], order, batch, (first, second), switches)


def _fits(source: Any, order: Sequence[int]) -> bool:
    """Return whether the declared shape allows that the channels are where `order` puts them."""
    shape = source.shape or [None] * 4
    edges = [_fixed(shape[order.index(axis)]) or SMALLEST for axis in (1, 2)]
    return (_fixed(shape[order.index(3)]) or 3) == 3 and min(edges) >= SMALLEST


def _fixed(size: object) -> int | None:
    return size if isinstance(size, int) and size > 0 else None


def _switched_off(source: Any) -> Array | None:
    """Return the value of an input with which nothing is trained; None if it is no such switch."""
    sizes = [_fixed(size) or 1 for size in source.shape]
    if math.prod(sizes) != 1:
        return None
    if source.type == "tensor(bool)":
        return np.zeros(sizes, np.bool_)
    if source.type in _NUMBERS and "train" in source.name.lower():
        return np.zeros(sizes, _NUMBERS[source.type])
    return None


def match_outputs(
    images: Images,
    shapes: Mapping[str, tuple[int, ...]],
    architecture: str,
    dims: Mapping[str, int],
) -> list[Outputs]:
    """Match the file's outputs to the network's: by name, else by size.

    Returns:
        Every match: none if one of the network's outputs is lacking or several outputs may be it;
        two if the axes of maps are ambiguous.
    """
    known = ARCHITECTURES[architecture]
    swapped = images.channels_first and known.image_layout == "NWHC"  # torch's maps are upright
    orders = {
        1: FROM_TORCH["NWHC" if swapped else "NHWC"],
        3: (0, 2, 1, 3) if swapped else _AS_FED,
    }
    found = []
    for channel, order in orders.items():
        names = [_fitting(shapes, output, dims, channel) for output in known.outputs]
        if all(len(fitting) == 1 for fitting in names):
            found.append(Outputs(tuple(fitting[0] for fitting in names), order))
    return found if known.has_maps else found[:1]


def _fitting(
    shapes: Mapping[str, tuple[int, ...]], output: Output, dims: Mapping[str, int], channel: int
) -> list[str]:
    """Return the names of the file's outputs that may be `output`."""
    size = dims.get(output.size) if isinstance(output.size, str) else output.size
    rank, axis = (4, channel) if output.is_map else (2, 1)
    fitting = [name for name, shape in shapes.items() if len(shape) == rank and shape[axis] == size]
    named = [name for name in fitting if plain(name) == output.name]
    return named or [name for name in fitting if plain(name) != "logits"]


def plain(name: str) -> str:
    """Return the name of an output without scope and number.

    Examples:
        >>> plain("facenet/embeddings:0")
        'embeddings'
    """
    return name.rpartition("/")[2].partition(":")[0]
