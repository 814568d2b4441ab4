"""The base of all networks: what every one of them says of itself.

A network is one module of this folder with one subclass of `Network`, and one line in
`facenet_models.networks.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

OutputShape = tuple[int] | tuple[int, None, None]
"""Shape of one image's answer; None is an edge that depends on the image's size."""


class Network(nn.Module):
    """A network that takes ``(N, 3, H, W)`` and returns one or several tensors.

    Attributes:
        architecture: Its name, as in `converter.architectures.ARCHITECTURES`.
        image_size: Height and width that it takes, in pixels; None: any from `smallest_image` up.
        smallest_image: The least height and width, in pixels.
    """

    architecture: ClassVar[str]
    image_size: ClassVar[tuple[int, int] | None] = None
    smallest_image: ClassVar[int]

    def outputs(self) -> Mapping[str, OutputShape]:
        """Return the outputs of the model as it is, in their order: names and shapes."""
        raise NotImplementedError

    def dims(self) -> dict[str, int]:
        """Return the sizes that differ from model to model, such as ``embedding``."""
        return {}

    @classmethod
    def read_dims(cls, state: Mapping[str, Tensor]) -> dict[str, int] | None:
        """Return the `dims` of a state_dict of this network; None if it can't be one."""
        del state
        return {}

    @classmethod
    def from_dims(cls, dims: Mapping[str, int]) -> Network:
        """Return a network of these sizes on the meta device, to be filled with tensors."""
        del dims
        with torch.device("meta"):
            return cls()

    @classmethod
    def map_edge(cls, edge: int) -> int:
        """Return the height of an output map for images of height `edge`; so for the width."""
        raise NotImplementedError
