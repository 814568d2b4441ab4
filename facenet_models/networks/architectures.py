"""Find which of the networks a model or a state_dict is, and of what sizes.

A state_dict is recognised by its names: it must have exactly those of one network. Sizes that
differ from model to model (`dims`) are read from its shapes; all other shapes must fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facenet_common.errors import UsageError, WeightsError
from facenet_models.networks.network import Network, OutputShape
from facenet_models.networks.registry import NETWORKS, networks


class Description(NamedTuple):
    """One model: its network, its sizes, and its outputs.

    `dims` are the sizes that differ from model to model: ``embedding`` and, with a classifier,
    ``classes`` for InceptionResnetV1, none for MTCNN's networks. `outputs` are names with the
    shape of one image's answer.
    """

    network: type[Network]
    dims: Mapping[str, int]
    outputs: Mapping[str, OutputShape]

    @property
    def name(self) -> str:
        """The name of the network's architecture."""
        return self.network.architecture

    @property
    def image(self) -> tuple[int, int] | None:
        """Height and width that it takes, or None: any from `smallest` up."""
        return self.network.image_size

    @property
    def smallest(self) -> int:
        """The least height and width."""
        return self.network.smallest_image

    def shapes(
        self, batch: int | None = None, size: tuple[int, int] | None = None
    ) -> tuple[dict[str, list[int | str]], list[int | str]]:
        """Return the shapes of the outputs and of the input as ONNX has them.

        Args:
            batch: Images at a time; None leaves it free.
            size: Their height and width; None leaves both free, where the network does.

        A free edge is a name: "batch", "height", "width", "rows", "columns".
        """
        first = batch or "batch"
        height, width = size or self.image or ("height", "width")
        outputs: dict[str, list[int | str]] = {}
        for name, shape in self.outputs.items():
            edges: Sequence[int | str] = ()
            if len(shape) > 1:
                edges = ("rows", "columns") if size is None else [*map(self.network.map_edge, size)]
            outputs[name] = [first, shape[0], *edges]
        return outputs, [first, 3, height, width]


def describe(model: nn.Module) -> Description:
    """Return the description of `model`, with its outputs as it stands (``classify``).

    Raises:
        UsageError: It is none of this package's networks, or it is set to classify and cannot.
    """
    if not isinstance(model, Network):
        *others, last = NETWORKS
        raise UsageError(
            "this is none of the networks of facenet_models",
            expected=f"{', '.join(others)} or {last}",
            found=type(model).__name__,
        )
    return Description(type(model), model.dims(), model.outputs())


def from_state_dict(state: Mapping[str, Tensor]) -> nn.Module:
    """Return the network that `state` belongs to, in eval mode, holding these tensors themselves.

    Raises:
        WeightsError: The names are not those of one network, or a shape does not fit.
    """
    names = set(state)
    candidates = [(network, network.read_dims(state)) for network in networks()]
    models = [network.from_dims(dims) for network, dims in candidates if dims is not None]
    best = min(models, key=lambda model: len(_required(model) ^ names))
    differing = sorted(_required(best) ^ names)
    optional = {name for name in differing if name.endswith(".num_batches_tracked")}
    if set(differing) - optional:
        raise WeightsError(
            "the tensors are not those of a network of facenet_models",
            expected=f"those of {type(best).__name__}, the nearest",
            found=_listed([f"{'no ' * (n not in names)}{n}" for n in differing]),
            next_step="convert a TensorFlow checkpoint first: "
            "facenet convert --checkpoint CHECKPOINT --out FILE",
        )
    tracked = {name: torch.zeros((), dtype=torch.long) for name in optional - names}
    try:
        best.load_state_dict({**state, **tracked}, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"the tensors do not fit {type(best).__name__}", found=" ".join(str(error).split())
        ) from error
    return best.eval()


def _required(model: nn.Module) -> set[str]:
    return set(model.state_dict())


def _listed(names: list[str], limit: int = 5) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
