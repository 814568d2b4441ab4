"""The images on which both networks run: seeded noise, extremes, real faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from facenet_common.errors import ParityError
from facenet_common.optional import require
from facenet_common.text import check_path

Array = npt.NDArray[Any]

SEED = 20180402  # the day of the published model
Edges = tuple[int | None, int | None]
"""Height and width of images; None is free."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class Feed:
    """A named batch of images: float32 NHWC, RGB, standardised. `samples` names each image.

    `optional`: a reference may fail on it, since its graph may be built for one size.
    """

    name: str
    images: Array
    description: str
    samples: tuple[str, ...]
    optional: bool = False


def standard_feeds(
    architecture: str, count: int = 5, seed: int = SEED, edges: Edges = (None, None)
) -> tuple[Feed, ...]:
    """Return the feeds of a comparison: noise, structured noise, a batch of one, extremes and,
    where the architecture has one and `edges` allow it, a second size.

    Args:
        architecture: A name of `converter.architectures.ARCHITECTURES`; its ``feed_size`` and
            ``odd_feed_size`` decide height and width.
        count: Images of noise, and of structured noise.
        seed: Seed of `numpy.random.default_rng`; each feed draws from its own stream of it.
        edges: Height and width that are fixed.

    Examples:
        >>> [feed.name for feed in standard_feeds("pnet")]
        ['noise', 'structured', 'single', 'extremes']
    """
    known = ARCHITECTURES[architecture]
    height, width = fixed_size(known.feed_size, edges)
    noise, structured, single, odd = (np.random.default_rng([seed, s]) for s in range(4))
    shape = (count, height, width, 3)
    feeds = (
        _feed("noise", noise.standard_normal(shape, np.float32), f"N(0, 1), seed {seed}"),
        _feed(
            "structured",
            _structured(structured, shape),
            f"coarse patches and fine noise, contrast and colour cast by image, seed {seed}",
        ),
        _feed("single", single.standard_normal((1, *shape[1:]), np.float32), f"seed {seed}"),
        _feed("extremes", _extremes(height, width), "black, grey, white, and a checkerboard"),
    )
    size = known.odd_feed_size and fixed_size(known.odd_feed_size, edges)
    if size is None or size == (height, width):
        return feeds
    images = odd.standard_normal((1, *size, 3), np.float32)
    return (*feeds, replace(_feed("odd size", images, f"N(0, 1), seed {seed}"), optional=True))


def fixed_size(size: tuple[int, int], edges: Edges) -> tuple[int, int]:
    """Return `size` with the edges that are fixed."""
    height, width = (edge or usual for edge, usual in zip(edges, size, strict=True))
    return height, width


def face_feed(folder: Path, size: tuple[int, int] = (160, 160)) -> Feed:
    """Return the images of `folder`, cropped to a square, scaled, standardised as in training.

    `size` is height and width in pixels; the published models take 160x160.

    Raises:
        ParityError: The folder has no images, or one can't be read.
        MissingPackageError: Pillow is not installed.
    """
    pillow = require("PIL.Image", "reading images")
    if not folder.is_dir():
        raise ParityError(
            "the folder of images does not exist", file=folder, next_step=check_path(folder)
        )
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ParityError(
            "the folder has no images", file=folder, expected=", ".join(IMAGE_SUFFIXES)
        )
    images = []
    for path in paths:
        try:
            with pillow.open(path) as image:
                images.append(_face(image.convert("RGB"), size))
        except (OSError, ValueError) as error:  # UnidentifiedImageError is an OSError
            raise ParityError(
                "an image can't be read", file=path, found=error, next_step="remove or replace it"
            ) from error
    return Feed(
        "faces", np.stack(images), f"{len(paths)} images", tuple(path.name for path in paths)
    )


def _face(image: Any, size: tuple[int, int]) -> Array:
    height, width = size
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    square = image.resize((width, height), box=(left, top, left + side, top + side))
    return (np.asarray(square, np.float32) - np.float32(127.5)) / np.float32(128)


def _feed(name: str, images: Array, description: str) -> Feed:
    samples = tuple(f"{name} {number}" for number in range(len(images)))
    return Feed(name, images, description, samples)


def _structured(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    count, height, width, channels = shape
    patch = max(1, min(height, width) // 10)
    grid = (count, -(-height // patch), -(-width // patch), channels)
    coarse = rng.standard_normal(grid, np.float32).repeat(patch, 1).repeat(patch, 2)
    gain = rng.uniform(0.3, 1.5, (count, 1, 1, 1)).astype(np.float32)
    cast = rng.uniform(-0.5, 0.5, (count, 1, 1, channels)).astype(np.float32)
    fine = rng.standard_normal(shape, np.float32)
    return coarse[:, :height, :width] * np.float32(0.6) + gain * fine + cast


def _extremes(height: int, width: int) -> Array:
    """Return uniform images in black, grey and white, and a checkerboard of single pixels."""
    rows, columns = np.indices((height, width))
    board = np.where((rows + columns) % 2, 1.0, -1.0).astype(np.float32)[..., None]
    flat = [np.full((height, width, 3), value, np.float32) for value in (-1.0, 0.0, 1.0)]
    return np.stack([*flat, np.broadcast_to(board, (height, width, 3))])


def describe(feeds: Sequence[Feed]) -> tuple[str, ...]:
    """Describe the feeds for a report."""
    return tuple(f"{f.name} {list(f.images.shape)}: {f.description}" for f in feeds)
