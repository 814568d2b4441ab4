"""Networks of the Inception family as TF-slim and facenet-pytorch name them.

Such a network is a sequence of stages. `rows` makes its mapping from them, `probes` the places
where both sides are compared, so that each layer is listed once. `ROOT` below is the network's
variable scope, for example ``InceptionResnetV1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from converter.architectures.record import IMAGES, PASS, Axes, Isolation, Probe
from converter.dtypes import INT64
from converter.layouts import AS_IS, HWIO_TO_OIHW
from converter.rules import Dim, Row, Rule, Synthesize

_NO_GAMMA = "batch-norm scales of 1 (the original has none)"  # slim's ``scale=True`` makes them
_NO_COUNT = "batch counters of 0 (PyTorch counts training batches; inference ignores them)"


class Conv(NamedTuple):
    """A convolution without bias, then batch normalisation, then ReLU, in its scope."""

    scope: str
    height: int
    width: int
    filters: int


class Pool(NamedTuple):
    """A max pooling in its scope."""

    scope: str


Layer = Conv | Pool
Branches = tuple[tuple[Layer, ...], ...]


class Single(NamedTuple):
    """One layer and the path of its torch module."""

    layer: Layer
    path: str


class Residual(NamedTuple):
    """Branches, joined, projected by a 1x1 convolution with bias, and added to the input.

    `result` is the operation that gives the block's output, in its scope.
    """

    scope: str
    path: str
    branches: Branches
    result: str = "Relu"


class Reduction(NamedTuple):
    """Branches, joined."""

    scope: str
    path: str
    branches: Branches


class EndPoint(NamedTuple):
    """Another name of the last stage's output, and the torch module with that output."""

    name: str
    path: str


Stage = Single | Residual | Reduction | EndPoint


def repeated(scope: str, path: str, count: int, branches: Branches) -> tuple[Residual, ...]:
    """Return residual blocks ``SCOPE_1`` to ``SCOPE_count``, ``PATH.0`` to ``PATH.count-1``."""
    return tuple(Residual(f"{scope}_{i + 1}", f"{path}.{i}", branches) for i in range(count))


# --- mapping


def batch_norm(scope: str, path: str, channels: Dim) -> tuple[Row, ...]:
    """Return the rows of a batch normalisation, gamma optional; `scope` is the whole scope."""
    return (
        Synthesize(f"{path}.weight", (channels,), 1, _NO_GAMMA, f"{scope}/gamma"),
        Rule(f"{scope}/beta", f"{path}.bias", AS_IS, (channels,)),
        Rule(f"{scope}/moving_mean", f"{path}.running_mean", AS_IS, (channels,)),
        Rule(f"{scope}/moving_variance", f"{path}.running_var", AS_IS, (channels,)),
        Synthesize(f"{path}.num_batches_tracked", (), 0, _NO_COUNT, dtype=INT64),
    )


def rows(root: str, stages: Sequence[Stage]) -> tuple[Row, ...]:
    """Return the mapping of all stages, from images of three channels on."""
    found: list[Row] = []
    channels = 3
    for stage in stages:
        match stage:
            case Single(Conv() as conv, path):
                found += _conv_rows(root, conv, path, channels)
                channels = conv.filters
            case Residual(scope, path, branches):
                joined = _add_branches(found, f"{root}/{scope}", path, branches, channels)
                found += _projection_rows(f"{root}/{scope}", path, joined, channels)
            case Reduction(scope, path, branches):
                channels = _add_branches(found, f"{root}/{scope}", path, branches, channels)
    return tuple(found)


def _conv_rows(scope: str, conv: Conv, path: str, channels: int) -> tuple[Row, ...]:
    scope = f"{scope}/{conv.scope}"
    shape = (conv.height, conv.width, channels, conv.filters)
    return (
        Rule(f"{scope}/weights", f"{path}.conv.weight", HWIO_TO_OIHW, shape),
        *batch_norm(f"{scope}/BatchNorm", f"{path}.bn", conv.filters),
    )


def _projection_rows(scope: str, path: str, inputs: int, outputs: int) -> tuple[Row, ...]:
    scope, path, shape = f"{scope}/Conv2d_1x1", f"{path}.conv2d", (1, 1, inputs, outputs)
    return (
        Rule(f"{scope}/weights", f"{path}.weight", HWIO_TO_OIHW, shape),
        Rule(f"{scope}/biases", f"{path}.bias", AS_IS, (outputs,)),
    )


def _add_branches(
    found: list[Row], scope: str, path: str, branches: Branches, channels: int
) -> int:
    """Append the rows of the branches; return how many channels they have together."""
    joined = 0
    for index, branch in enumerate(branches):
        last = channels
        for layer, module in _modules(branch, f"{path}.branch{index}"):
            if isinstance(layer, Conv):
                found += _conv_rows(f"{scope}/Branch_{index}", layer, module, last)
                last = layer.filters
        joined += last
    return joined


def _modules(branch: tuple[Layer, ...], path: str) -> list[tuple[Layer, str]]:
    """Each layer with its torch path: a single one is the branch itself."""
    if len(branch) == 1:
        return [(branch[0], path)]
    return [(layer, f"{path}.{number}") for number, layer in enumerate(branch)]


def keras_layers(root: str, rules: Iterable[Rule], last_block: str) -> dict[str, str]:
    """Return the scope of each layer of a Keras port, by the layer's name.

    The root and ``Repeat`` are left out, slashes are underscores, blocks begin with a capital
    (``Block35_1_Conv2d_1x1``), and `last_block`, which has no number in TensorFlow, has the next.
    """
    scopes = dict.fromkeys(rule.source.rpartition("/")[0] for rule in rules)
    return {
        _keras_name(scope.removeprefix(f"{root}/"), last_block): scope
        for scope in scopes
        if scope.startswith(f"{root}/")
    }


def _keras_name(scope: str, last_block: str) -> str:
    first, *rest = scope.split("/")
    if first.startswith("Repeat"):
        first, *rest = rest
    name = last_block if first == last_block.rpartition("_")[0] else first
    return "_".join([name[0].upper() + name[1:], *rest])


# --- probes


def chained(name: str, tensor: str, path: str, feed: str, layout: Axes = "NHWC") -> Probe:
    """Return the probe of one module on the output of one probe (or on `IMAGES`)."""
    parents = () if feed == IMAGES else (feed,)
    return Probe(name, tensor, path, layout, parents, Isolation((path,), feed))


def probes(root: str, stages: Sequence[Stage], *, layers: bool) -> tuple[Probe, ...]:
    """Return one probe for each stage and, with `layers`, for each layer of its branches.

    The first stage is not an `EndPoint`. With `layers`, a block is judged by what it adds to its
    convolutions (joining, scaling, adding, ReLU), since these have probes of their own.
    """
    found: list[Probe] = []
    last, block = IMAGES, 0
    for stage in stages:
        if isinstance(stage, EndPoint):
            found.append(_renamed(found[block], stage))
        else:
            found += _stage_probes(root, stage, last, layers=layers)
            block = len(found) - 1
        last = found[-1].name
    return tuple(found)


def _stage_probes(
    root: str, stage: Single | Residual | Reduction, feed: str, *, layers: bool
) -> Iterable[Probe]:
    match stage:
        case Single(layer, path):
            return [chained(layer.scope, _output(root, layer), path, feed)]
        case Residual(scope, path, _, result):
            if layers:
                return _residual(root, stage, feed)
            return [chained(scope, f"{root}/{scope}/{result}:0", path, feed)]
        case Reduction(scope, path):
            if layers:
                return _reduction(root, stage, feed)
            return [chained(scope, f"{root}/{scope}/concat:0", path, feed)]


def _renamed(of: Probe, end: EndPoint) -> Probe:
    return Probe(end.name, of.tensor, end.path, of.layout, (of.name,), Isolation((), of.name))


def _output(scope: str, layer: Layer) -> str:
    operation = "Relu" if isinstance(layer, Conv) else "MaxPool"
    return f"{scope}/{layer.scope}/{operation}:0"


def _branch_probes(
    root: str, stage: Residual | Reduction, feed: str
) -> tuple[list[Probe], tuple[tuple[str, str], ...]]:
    """A probe for each layer of the branches; each branch's path with its last probe's name."""
    found: list[Probe] = []
    ends: list[tuple[str, str]] = []
    for index, branch in enumerate(stage.branches):
        path, last = f"{stage.path}.branch{index}", feed
        scope = f"{stage.scope}/Branch_{index}"
        for layer, module in _modules(branch, path):
            name = f"{scope}/{layer.scope}"
            found.append(chained(name, _output(f"{root}/{scope}", layer), module, last))
            last = name
        ends.append((path, last))
    return found, tuple(ends)


def _residual(root: str, stage: Residual, feed: str) -> Iterator[Probe]:
    """The block's layers, its projection before scaling, and the block."""
    found, ends = _branch_probes(root, stage, feed)
    yield from found
    scope, path = stage.scope, stage.path
    name, module = f"{scope}/Conv2d_1x1", f"{path}.conv2d"
    lasts = tuple(last for _, last in ends)
    # The projection runs with its block around it, so that joining the branches is judged too.
    joined = Isolation((path,), feed, ends)
    yield Probe(name, f"{root}/{name}/BiasAdd:0", module, "NHWC", lasts, joined)
    stubs = (*((branch, PASS) for branch, _ in ends), (module, name))
    isolation = Isolation((path,), feed, stubs)
    tensor = f"{root}/{scope}/{stage.result}:0"
    yield Probe(scope, tensor, path, "NHWC", (feed, name), isolation)


def _reduction(root: str, stage: Reduction, feed: str) -> Iterator[Probe]:
    """The block's layers, and the block."""
    found, ends = _branch_probes(root, stage, feed)
    yield from found
    lasts = tuple(last for _, last in ends)
    isolation = Isolation((stage.path,), lasts[0], ends)
    tensor = f"{root}/{stage.scope}/concat:0"
    yield Probe(stage.scope, tensor, stage.path, "NHWC", lasts, isolation)
