"""Where the two networks are compared on the way from image to answer, as tables.

Names and scopes are davidsandberg/facenet's (``src/models/inception_resnet_v1.py`` and
``src/align/detect_face.py`` at 096ed77), as TF-slim writes them into a graph; the project's own
graphs follow them. A table lists a network's probes in its order: parents come first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from facenet_common.errors import ParityError
from parity_tests.scopes import (
    BLOCK8,
    MIXED,
    MTCNN,
    REPEATS,
    STEM,
    TAIL,
    Branches,
)

Layout = Literal["NHWC", "NWHC", "NC"]
Which = Literal["blocks", "all"]

IMAGES = "images"
"""The feed of a probe that looks at the images themselves."""
PASS = "the module's own input"
"""The stub of a module that is stepped over."""


@dataclass(frozen=True)
class Isolation:
    """How a probe's torch modules are run alone.

    Attributes:
        entry: Modules to run, each on what the one before gave; ``""`` is the whole network, and
            none at all says that the probe is another name for its parent.
        feed: The probe (or `IMAGES`) whose reference activation the first of them gets.
        stubs: Modules inside that don't run: path, and the probe whose reference activation they
            answer with instead, or `PASS`.
    """

    entry: tuple[str, ...]
    feed: str
    stubs: tuple[tuple[str, str], ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The probes whose reference activations it takes."""
        names = (self.feed, *(answer for _, answer in self.stubs))
        return tuple(dict.fromkeys(name for name in names if name not in (IMAGES, PASS)))


@dataclass(frozen=True)
class Probe:
    """One place in both networks.

    Attributes:
        name: The original's end point, or its scope under the network's own.
        tensor: TensorFlow's tensor.
        module: Path of the torch module whose output is meant; ``""`` is the network.
        layout: Axes of the tensor. torch's module has NCHW, or NC. NWHC: the original feeds MTCNN
            with height and width exchanged.
        parents: The probes that it is computed from; none: the images.
        isolation: How to run it on its parents' reference activations.
        also: Other names that the tensor has in graphs of other versions.
    """

    name: str
    tensor: str
    module: str
    layout: Layout
    parents: tuple[str, ...]
    isolation: Isolation
    also: tuple[str, ...] = ()


def probes(architecture: str, which: Which = "blocks") -> tuple[Probe, ...]:
    """The table of `architecture`: "blocks", or "all" with every convolution of the blocks too.

    P-, R- and O-Net have one table for both. In "all", a block is judged by what it adds to its
    convolutions (joining, scaling, adding, ReLU), since these have probes of their own.

    Raises:
        ParityError: There is no such table.
    """
    if architecture == "inception_resnet_v1" and which in ("blocks", "all"):
        return _inception_resnet_v1(every=which == "all")
    if architecture in MTCNN and which in ("blocks", "all"):
        return _mtcnn(architecture)
    raise ParityError(f"there are no probes {which!r} for the architecture {architecture!r}")


def images_layout(architecture: str) -> Layout:
    """Axes of the images that the original is fed."""
    return "NWHC" if architecture in MTCNN else "NHWC"


def require_tensors(table: Sequence[Probe], tensors: Collection[str]) -> tuple[Probe, ...]:
    """The table, with each tensor under the name that the graph has for it.

    Args:
        table: Of any length.
        tensors: Names of the graph's operations or tensors; ``NAME`` and ``NAME:0`` are the same.

    Raises:
        ParityError: The graph lacks a tensor; all of them are in the message.
    """
    found = [(probe, _tensor_of(probe, tensors)) for probe in table]
    problems = [_lacks(probe) for probe, tensor in found if tensor is None]
    _refuse(problems)
    return tuple(replace(probe, tensor=tensor or "") for probe, tensor in found)


def require_complete(
    table: Sequence[Probe], tensors: Collection[str], modules: Collection[str]
) -> tuple[Probe, ...]:
    """The table, with each tensor under the name that the graph has for it.

    Args:
        table: Parents first.
        tensors: As `require_tensors` takes them.
        modules: Paths of the network's modules, ``""`` for itself.

    Raises:
        ParityError: A tensor, module or parent isn't there, or a name is taken twice: all problems
            in one message.
    """
    problems: list[str] = []
    found: list[Probe] = []
    seen: set[str] = set()
    for probe in table:
        tensor = _tensor_of(probe, tensors)
        if tensor is None:
            problems.append(_lacks(probe))
        stubs = (path for path, _ in probe.isolation.stubs)
        for path in dict.fromkeys((probe.module, *probe.isolation.entry, *stubs)):
            if path not in modules:
                problems.append(f"{probe.name}: the network has no module {path!r}")
        for parent in dict.fromkeys((*probe.parents, *probe.isolation.needs)):
            if parent not in seen:
                problems.append(f"{probe.name}: its parent {parent!r} is no probe before it")
        if probe.name in seen:
            problems.append(f"{probe.name}: there are two probes of that name")
        seen.add(probe.name)
        found.append(replace(probe, tensor=tensor or probe.tensor))
    if not table:
        problems.append("there are no probes")
    _refuse(problems)
    return tuple(found)


def _tensor_of(probe: Probe, tensors: Collection[str]) -> str | None:
    for name in (probe.tensor, *probe.also):
        if name in tensors or name.partition(":")[0] in tensors:
            return name
    return None


def _lacks(probe: Probe) -> str:
    return f"{probe.name}: the graph has no tensor {probe.tensor!r}"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ParityError(f"the probes do not fit, nothing was compared: {'; '.join(problems)}")


# --- InceptionResnetV1 ---


def _inception_resnet_v1(*, every: bool) -> tuple[Probe, ...]:
    rows: list[Probe] = []
    last = IMAGES
    for scope, path in STEM.items():
        rows.append(_chained(scope, _tensor(scope), path, last))
        last = scope
    for repeat, (path, block, times, branches, end_point) in REPEATS.items():
        for number in range(times):
            scope = f"{repeat}/{block}_{number + 1}"
            rows += _residual(scope, f"{path}.{number}", branches, last, "Relu", every=every)
            last = scope
        rows.append(_alias(end_point, rows[-1], path))
        reduction = {"Repeat": "Mixed_6a", "Repeat_1": "Mixed_7a"}.get(repeat)
        if reduction:
            rows += _reduction(reduction, *MIXED[reduction], end_point, every=every)
        last = reduction or end_point
    rows += _residual("Block8", "block8", BLOCK8, last, "add", every=every)
    rows += [_alias(name, rows[-1], "block8") for name in ("Mixed_8b", "PrePool")]
    return (*rows, *_tail())


def _tail() -> tuple[Probe, ...]:
    """From the last feature map to the embeddings."""
    flat = "InceptionResnetV1/Logits/Dropout/cond/Merge:0"
    prelogits = "InceptionResnetV1/Bottleneck/BatchNorm/Reshape_1:0"
    linear = "InceptionResnetV1/Bottleneck/MatMul:0"
    repeats = (path for path, *_ in REPEATS.values())
    mixed = (path for path, _ in MIXED.values())
    children = (*STEM.values(), *repeats, *mixed, "block8", *TAIL)
    return (
        Probe(
            "PreLogitsFlatten",
            flat,
            "dropout",
            "NC",
            ("PrePool",),
            Isolation(TAIL[:2], "PrePool"),
            # Without the branch for training, or with dropout frozen away.
            also=(
                "InceptionResnetV1/Logits/Dropout/Identity:0",
                "InceptionResnetV1/Logits/Flatten/flatten/Reshape:0",
                "InceptionResnetV1/Logits/Flatten/Reshape:0",
            ),
        ),
        _chained("Bottleneck", linear, "last_linear", "PreLogitsFlatten", "NC"),
        replace(
            _chained("prelogits", prelogits, "last_bn", "Bottleneck", "NC"),
            also=("InceptionResnetV1/Bottleneck/BatchNorm/batchnorm/add_1:0",),  # not fused
        ),
        Probe(
            "embeddings",
            "embeddings:0",
            "",
            "NC",
            ("prelogits",),
            Isolation(("",), "prelogits", tuple((path, PASS) for path in children)),
        ),
    )


def _tensor(scope: str) -> str:
    """What the layer or block of that scope gives."""
    operation = "MaxPool" if "MaxPool" in scope else "Relu"
    return f"InceptionResnetV1/{scope}/{operation}:0"


def _chained(name: str, tensor: str, path: str, feed: str, layout: Layout = "NHWC") -> Probe:
    """One module on the output of one probe."""
    parents = () if feed == IMAGES else (feed,)
    return Probe(name, tensor, path, layout, parents, Isolation((path,), feed))


def _alias(name: str, of: Probe, path: str) -> Probe:
    return Probe(name, of.tensor, path, of.layout, (of.name,), Isolation((), of.name))


def _convolutions(
    scope: str, path: str, branches: Branches, feed: str
) -> tuple[list[Probe], tuple[tuple[str, str], ...]]:
    """A probe for each layer of the branches; each branch's path with its last probe's name."""
    rows: list[Probe] = []
    ends: list[tuple[str, str]] = []
    for index, layers in enumerate(branches):
        branch, last = f"{path}.branch{index}", feed
        for number, layer in enumerate(layers):
            name = f"{scope}/Branch_{index}/{layer}"
            module = branch if len(layers) == 1 else f"{branch}.{number}"
            rows.append(_chained(name, _tensor(name), module, last))
            last = name
        ends.append((branch, last))
    return rows, tuple(ends)


def _residual(
    scope: str, path: str, branches: Branches, feed: str, operation: str, *, every: bool
) -> list[Probe]:
    """A residual block; `every`: its convolutions, its projection before scaling, then itself."""
    tensor = f"InceptionResnetV1/{scope}/{operation}:0"
    if not every:
        return [_chained(scope, tensor, path, feed)]
    rows, ends = _convolutions(scope, path, branches, feed)
    name, module = f"{scope}/Conv2d_1x1", f"{path}.conv2d"
    joined = Isolation((path,), feed, ends)
    lasts = tuple(last for _, last in ends)
    # The projection runs with its block around it, so that joining the branches is judged too.
    bias_add = f"InceptionResnetV1/{name}/BiasAdd:0"
    rows.append(Probe(name, bias_add, module, "NHWC", lasts, joined))
    stubs = (*((branch, PASS) for branch, _ in ends), (module, name))
    isolation = Isolation((path,), feed, stubs)
    return [*rows, Probe(scope, tensor, path, "NHWC", (feed, name), isolation)]


def _reduction(scope: str, path: str, branches: Branches, feed: str, *, every: bool) -> list[Probe]:
    """A reduction block; `every`: its layers, then itself."""
    tensor = f"InceptionResnetV1/{scope}/concat:0"
    if not every:
        return [_chained(scope, tensor, path, feed)]
    rows, ends = _convolutions(scope, path, branches, feed)
    lasts = tuple(last for _, last in ends)
    return [*rows, Probe(scope, tensor, path, "NHWC", lasts, Isolation((path,), lasts[0], ends))]


# --- P-, R- and O-Net ---


def _mtcnn(net: str) -> tuple[Probe, ...]:
    table = MTCNN[net]
    paths = {scope: path for scope, path, _ in table}
    flat = _flat(table)
    rows = []
    for scope, path, before in table:
        layout: Layout = "NC" if scope in flat else "NWHC"
        tensor = f"{net}/{scope}:0"
        also: tuple[str, ...] = ()
        if path.startswith("prelu"):
            # The original adds what the project's own graph subtracts.
            tensor, also = f"{net}/{scope}/sub:0", (f"{net}/{scope}/add:0",)
        elif path.startswith("conv"):
            tensor = f"{net}/{scope}/BiasAdd:0"
        elif path.startswith("dense"):
            tensor = f"{net}/{scope}/{scope}:0"
        isolation = Isolation((path,), before or IMAGES)
        if layout == "NC" and before not in flat:
            # The network itself flattens, between two modules: so all of it runs around them.
            isolation = Isolation(("",), IMAGES, ((paths[before], before),))
        parents = (before,) if before else ()
        rows.append(Probe(scope, tensor, path, layout, parents, isolation, also))
    return tuple(rows)


def _flat(table: Iterable[tuple[str, str, str]]) -> set[str]:
    """Scopes from the first dense layer on: these have no height or width."""
    flat: set[str] = set()
    for scope, path, before in table:
        if path.startswith("dense") or before in flat:
            flat.add(scope)
    return flat
