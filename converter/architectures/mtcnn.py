"""Shared parts of P-Net, R-Net and O-Net, the three networks of MTCNN.

Sources: src/align/detect_face.py and the .npy files of davidsandberg/facenet at 096ed77, and the
state_dicts that facenet-pytorch publishes. Names carry no scope, as in the files.

The original detector transposes each image before it feeds a network, so that the first axis of
its kernels runs along the width. Its dense layers flatten (width, height, channel); the PyTorch
networks flatten in the same order, so dense matrices are only transposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converter.architectures.record import (
    IMAGES,
    Architecture,
    Axes,
    Card,
    Isolation,
    Output,
    Probe,
)
from converter.layouts import AS_IS, IO_TO_OI, WHIO_TO_OIHW
from converter.rules import Row, Rule

REGRESSION = Output("regression", 4)
LANDMARKS = Output("landmarks", 10)
PROBABILITY = Output("probability", 2)


@dataclass(frozen=True)
class Layer:
    """One layer: its scope, its torch module, and the scope before it (or `IMAGES`).

    `operation` is the operation below the scope whose output is compared; `also` is its name in
    the original's own graph, where that differs. `is_dense`: its input and output have no height
    and width.
    """

    scope: str
    path: str
    before: str
    rows: tuple[Row, ...] = ()
    operation: str = ""
    also: str = ""
    is_dense: bool = False


def conv(scope: str, path: str, before: str, size: int, inputs: int, outputs: int) -> Layer:
    """A square convolution with bias."""
    rows = (
        Rule(f"{scope}/weights", f"{path}.weight", WHIO_TO_OIHW, (size, size, inputs, outputs)),
        Rule(f"{scope}/biases", f"{path}.bias", AS_IS, (outputs,)),
    )
    return Layer(scope, path, before, rows, "BiasAdd")


def dense(scope: str, path: str, before: str, inputs: int, outputs: int) -> Layer:
    """A fully connected layer with bias."""
    rows = (
        Rule(f"{scope}/weights", f"{path}.weight", IO_TO_OI, (inputs, outputs)),
        Rule(f"{scope}/biases", f"{path}.bias", AS_IS, (outputs,)),
    )
    return Layer(scope, path, before, rows, scope, is_dense=True)


def prelu(scope: str, path: str, before: str, channels: int) -> Layer:
    """A PReLU: the project's own graph subtracts a ReLU, the original adds one."""
    rows = (Rule(f"{scope}/alpha", f"{path}.weight", AS_IS, (channels,)),)
    return Layer(scope, path, before, rows, "sub", "add")


def plain(scope: str, path: str, before: str) -> Layer:
    """A layer without weights: a max pooling or a softmax. Its tensor has no scope."""
    return Layer(scope, path, before)


def network(
    name: str,
    description: str,
    class_name: str,
    layers: Sequence[Layer],
    outputs: tuple[Output, ...],
    feed_size: tuple[int, int],
    card: Card,
    feed_map: tuple[int, int] = (1, 1),
) -> Architecture:
    """Return the record of one of the three networks, from its layers in their order."""
    probes = _probes(name, layers)
    return Architecture(
        name=name,
        description=description,
        class_name=class_name,
        rows=tuple(row for layer in layers for row in layer.rows),
        outputs=outputs,
        blocks=probes,
        layers=probes,
        image_layout="NWHC",
        feed_size=feed_size,
        card=card,
        feed_map=feed_map,
    )


def _probes(net: str, layers: Sequence[Layer]) -> tuple[Probe, ...]:
    paths = {layer.scope: layer.path for layer in layers}
    flat: set[str] = set()  # scopes from the first dense layer on
    found = []
    for layer in layers:
        scope, before = layer.scope, layer.before
        isolation = Isolation((layer.path,), before)
        if layer.is_dense and before not in flat:
            # The network itself flattens, between two modules: so all of it runs around them.
            isolation = Isolation(("",), IMAGES, ((paths[before], before),))
        if layer.is_dense or before in flat:
            flat.add(scope)
        layout: Axes = "NC" if scope in flat else "NWHC"
        parents = () if before == IMAGES else (before,)
        tensor = "/".join(filter(None, (net, scope, layer.operation)))
        also = (f"{net}/{scope}/{layer.also}:0",) if layer.also else ()
        found.append(Probe(scope, f"{tensor}:0", layer.path, layout, parents, isolation, also))
    return tuple(found)


_REGRESSION_TEXT = "regression: offsets of the box's left, top, right and bottom, in box sizes"
_LANDMARKS_TEXT = "landmarks: five x, then five y, in box sizes"
_PROBABILITY_TEXT = "probability: of no face, of a face"


def card(title: str, summary: str, input: str, others: str, *, landmarks: bool = False) -> Card:
    """Return the facts of one of the three networks; `others` names the other two."""
    return Card(
        title=title,
        task="object-detection",
        tags=("mtcnn", "face-detection"),
        summary=summary,
        input=input,
        outputs=(
            _REGRESSION_TEXT,
            *([_LANDMARKS_TEXT] if landmarks else []),
            _PROBABILITY_TEXT,
        ),
        use=f"Detect faces in photographs and videos, together with {others}.",
        limits=(
            "It is one of the three stages of MTCNN and needs the other two.",
            "How many faces it finds depends on their size, pose, lighting and occlusion, and may "
            "depend on skin tone, age and gender as in the training photographs. None of that was "
            "measured here.",
        ),
        paper="https://arxiv.org/abs/1604.02878",
    )
