"""Which of the networks a model or a state_dict is, and of what sizes.

A state_dict is recognised by its names: it must have exactly those of one network. What the
sizes may vary in (`dims`) is read off its shapes; all other shapes must fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facenet_common.errors import UsageError, WeightsError
from facenet_models.networks.inception_resnet_v1 import InceptionResnetV1
from facenet_models.networks.mtcnn import ONet, PNet, RNet

INCEPTION = "inception_resnet_v1"

Answer = tuple[int] | tuple[int, None, None]


class Architecture(NamedTuple):
    """One network: its name and sizes, what it takes, and what it gives.

    `dims` is empty for MTCNN's networks, else ``embedding`` and, with a classifier, ``classes``.
    `image` is the height and width it takes, or None: any from `smallest` up. `outputs` are names
    with the shape of one image's answer; None is an edge that depends on the image's.
    """

    name: str
    dims: Mapping[str, int]
    image: tuple[int, int] | None
    smallest: int
    outputs: Mapping[str, Answer]

    def shapes(
        self, batch: int | None = None, size: tuple[int, int] | None = None
    ) -> tuple[dict[str, list[int | str]], list[int | str]]:
        """The shapes of the outputs and of the input in ONNX's way: a free edge is a name."""
        first = batch or "batch"
        height, width = size or self.image or ("height", "width")
        # What a map of P-Net measures: see there.
        edges = ("rows", "columns") if size is None else [(edge - 1) // 2 - 4 for edge in size]
        outputs: dict[str, list[int | str]] = {
            name: [first, shape[0], *(edges if len(shape) > 1 else ())]
            for name, shape in self.outputs.items()
        }
        return outputs, [first, 3, height, width]


def describe(model: nn.Module) -> Architecture:
    """What `model` is; its `outputs` are those that it gives as it stands (``classify``).

    Raises:
        UsageError: It is none of this package's networks, or it is set to classify and cannot.
    """
    if isinstance(model, InceptionResnetV1):
        dims = {"embedding": model.last_linear.out_features}
        outputs: dict[str, Answer] = {"embeddings": (dims["embedding"],)}
        if model.logits is not None:
            dims["classes"] = model.logits.out_features
        if model.classify:
            if "classes" not in dims:
                raise UsageError(
                    "classify is set, but this model has no logits layer",
                    next_step="build it with num_classes, or set model.classify = False",
                )
            outputs = {"logits": (dims["classes"],)}
        return Architecture(INCEPTION, dims, None, 75, outputs)
    if isinstance(model, PNet):
        maps: dict[str, Answer] = {"regression": (4, None, None), "probability": (2, None, None)}
        return Architecture("pnet", {}, None, 12, maps)
    if isinstance(model, RNet):
        answers: dict[str, Answer] = {"regression": (4,), "probability": (2,)}
        return Architecture("rnet", {}, (24, 24), 24, answers)
    if isinstance(model, ONet):
        answers = {"regression": (4,), "landmarks": (10,), "probability": (2,)}
        return Architecture("onet", {}, (48, 48), 48, answers)
    raise UsageError(
        "this is none of the networks of facenet_models",
        expected="InceptionResnetV1, PNet, RNet or ONet",
        found=type(model).__name__,
    )


def from_state_dict(state: Mapping[str, Tensor]) -> nn.Module:
    """The network that `state` belongs to, in eval mode, holding these tensors themselves.

    Raises:
        WeightsError: The names are not those of one network, or a shape does not fit.
    """
    names = set(state)
    with torch.device("meta"):  # no random weights, which take a second
        models = [PNet(), RNet(), ONet(), *_inception(state)]
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


def _inception(state: Mapping[str, Tensor]) -> list[InceptionResnetV1]:
    """InceptionResnetV1 of the sizes in `state`, if there are such."""
    sizes = {
        name: state[name].shape[0]
        for name in ("last_linear.weight", "logits.weight")
        if name in state and state[name].ndim == 2 and state[name].shape[0] > 0
    }
    if "last_linear.weight" not in sizes:
        return []
    return [
        InceptionResnetV1(
            num_classes=sizes.get("logits.weight"),
            embedding_size=sizes["last_linear.weight"],
            device="meta",
        )
    ]


def _required(model: nn.Module) -> set[str]:
    return set(model.state_dict())


def _listed(names: list[str], limit: int = 5) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
