"""The scale of rounding for the images of a comparison; derived in `facenet_models.rounding`.

A wrong candidate can't raise it. It is computed with the reference's own weights, or recorded with
its outputs. Only if a record lacks it, it is computed with the candidate's weights, which another
gate compares with the reference's bit for bit. And no scale loosens the limit of 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from parity_tests.feeds import Feed
from parity_tests.frameworks import torch
from parity_tests.localise.modules import to_torch
from parity_tests.probes import images_layout

Array = npt.NDArray[Any]

# Images that are disturbed, evenly spaced among all, and how often each. Embeddings have at least
# 128 numbers, so that draws differ by 5 % in their scale, and noise, uniform images and a
# checkerboard by no more; with the 6 numbers of R-Net it is a factor of 3.
EMBEDDINGS = {"at_most": 3, "draws": 1}
OTHERS = {"at_most": 32, "draws": 8}
MAPS = 64 * 64  # pixels from which on a map has thousands of numbers, more than any embedding


def growth(architecture: str, numbers: int) -> float:
    """Return how many times as far apart rounding puts two answers of so many numbers as usual.

    Maps of larger images have more numbers, and the distance grows with the root of their number.

    Examples:
        >>> growth("pnet", 4 * 6 * 28)  # 28 windows are usual, with 6 numbers each
        2.0
    """
    known = ARCHITECTURES[architecture]
    if not known.has_maps:
        return 1.0
    usual = sum(int(output.size) for output in known.outputs) * math.prod(known.feed_map)
    return max(1.0, math.sqrt(numbers / usual))


def rounding_scale(model: Any, architecture: str, feeds: Sequence[Feed]) -> Array:
    """Estimate the scale of rounding for each sample.

    Args:
        model: A network of facenet_models with the reference's weights, in float32 and evaluation
            mode, on the CPU.
        architecture: A name of `converter.architectures.ARCHITECTURES`.
        feeds: What the networks are compared on.

    Returns:
        float64 of shape ``(samples,)``: an L2 distance in the unit of the answers, always the same
        for the same arguments.

    Examples:
        >>> scale = rounding_scale(runner.model, "rnet", feeds)
        >>> (l2(oracle, answers) / scale).max()  # 1 is usual, 4 is the most
    """
    torch()  # raises MissingPackageError
    from facenet_models import rounding

    layout = images_layout(architecture)
    images = [image for feed in feeds for image in to_torch(model, feed.images, layout)]
    known = ARCHITECTURES[architecture]
    many = known.has_maps and max(image[0].numel() for image in images) >= MAPS
    budget = EMBEDDINGS if known.is_embedding or many else OTHERS
    return rounding.rounding_scale(model, images, **budget)
