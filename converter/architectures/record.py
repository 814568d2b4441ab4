"""The record of a network: all that other modules need to know of it.

A network is described once, in a module of this folder, by one `Architecture`. It needs neither
PyTorch nor TensorFlow: modules and tensors are named by their paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from converter.rules import Dim, Drop, Row, Rule

Axes = Literal["NHWC", "NWHC", "NC"]
"""Axes of a TensorFlow tensor. NWHC: height and width are exchanged, as MTCNN is fed."""

IMAGES = "images"
"""Name of the images, where a probe's name could stand."""
PASS = "the module's own input"
"""The stub of a module that is stepped over: it returns its input."""


@dataclass(frozen=True)
class Isolation:
    """How a probe's torch modules are run alone.

    Attributes:
        entry: Modules to run, each on the output of the one before; ``""`` is the whole network,
            and an empty tuple means that the probe is another name for its parent.
        feed: The probe (or `IMAGES`) whose reference activation is the first module's input.
        stubs: Modules inside that are not run: path, and the probe whose reference activation
            they return instead, or `PASS`.
    """

    entry: tuple[str, ...]
    feed: str
    stubs: tuple[tuple[str, str], ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the probes whose reference activations are needed."""
        names = (self.feed, *(answer for _, answer in self.stubs))
        return tuple(dict.fromkeys(name for name in names if name not in (IMAGES, PASS)))


@dataclass(frozen=True)
class Probe:
    """One place at which a TensorFlow graph and a torch network are compared.

    Attributes:
        name: The original's end point, or its scope below the network's own.
        tensor: Name of TensorFlow's tensor.
        module: Path of the torch module with the same output; ``""`` is the network.
        layout: Axes of the tensor. The torch module has NCHW, or NC.
        parents: The probes that it is computed from; empty for the images.
        isolation: How to run it on its parents' reference activations.
        also: Other names of the tensor, in graphs of other versions.
    """

    name: str
    tensor: str
    module: str
    layout: Axes
    parents: tuple[str, ...]
    isolation: Isolation
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """One output: ``(N, size)``, or ``(N, size, H', W')`` where `is_map`.

    `size` is a number, or the name of a dimension that the checkpoint decides ("embedding").
    """

    name: str
    size: Dim
    is_map: bool = False


@dataclass(frozen=True)
class Card:
    """Facts for model cards and the bill of materials.

    `task` is one of Hugging Face's tasks, `tags` are for its search. `takes_pretrained`: the torch
    class loads a weight file by itself, ``CLASS(pretrained=FILE)``.
    """

    title: str
    task: str
    tags: tuple[str, ...]
    summary: str
    input: str
    outputs: tuple[str, ...]
    use: str
    limits: tuple[str, ...]
    paper: str
    takes_pretrained: bool = False


@dataclass(frozen=True)
class KerasPort:
    """The network as it is built in Keras.

    Attributes:
        layers: The scope in TensorFlow of each layer that has weights; several names may stand for
            one scope.
        epsilon: That of every batch normalisation.
        scales: The factor by which a layer's output is multiplied, where it is.
    """

    layers: Mapping[str, str]
    epsilon: float
    scales: Mapping[str, float]


@dataclass(frozen=True)
class Architecture:
    """A network: how its tensors map, where it is compared, and facts for users.

    Attributes:
        name: Its name in reports, receipts and ONNX metadata, such as ``pnet``.
        description: Its name for people.
        class_name: The class in `facenet_models`.
        rows: The mapping, in the order of PyTorch's state_dict.
        outputs: In the order in which the torch network returns them.
        blocks: The probes of ``--probes blocks``; parents come first.
        layers: The probes of ``--probes all``.
        image_layout: Axes of the images that the original is fed.
        feed_size: Height and width, in pixels, of the images that it is tested with.
        odd_feed_size: A second size to test with, odd and not square; None where `feed_size` is
            so itself or where the network takes one size only.
        card: Facts for model cards.
        feed_map: Height and width of the outputs that are maps, for images of `feed_size`.
        leftovers: TensorFlow names that have no counterpart, with the reasons.
        keras: How the ports to Keras name it; None: none is known.
    """

    name: str
    description: str
    class_name: str
    rows: tuple[Row, ...]
    outputs: tuple[Output, ...]
    blocks: tuple[Probe, ...]
    layers: tuple[Probe, ...]
    image_layout: Axes
    feed_size: tuple[int, int]
    card: Card
    odd_feed_size: tuple[int, int] | None = None
    feed_map: tuple[int, int] = (1, 1)
    leftovers: tuple[Drop, ...] = ()
    keras: KerasPort | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return the rows with a tensor on both sides."""
        return tuple(row for row in self.rows if isinstance(row, Rule))

    @cached_property
    def dims(self) -> tuple[str, ...]:
        """Return the names of the sizes that the checkpoint decides, such as "embedding"."""
        named = (dim for row in self.rows for dim in row.shape if isinstance(dim, str))
        return tuple(dict.fromkeys(named))

    @cached_property
    def required_dims(self) -> tuple[str, ...]:
        """Return those of `dims` that the network itself has, without its classifier."""
        features = [row.shape for row in self.rows if row.part == "features"]
        return tuple(dim for dim in self.dims if any(dim in shape for shape in features))

    @cached_property
    def optional(self) -> frozenset[str]:
        """Return the TensorFlow names that a graph has all of, or none: batch-norm scales."""
        rows = (row for row in self.rows if not isinstance(row, Rule))
        return frozenset(row.source for row in rows if row.source)

    def is_within(self, variable: str) -> bool:
        """Return whether a TensorFlow name lies in a scope of the network, or of its classifier."""
        return variable.partition("/")[0] in self._scopes

    @cached_property
    def _scopes(self) -> frozenset[str]:
        return frozenset(rule.source.partition("/")[0] for rule in self.rules)

    @property
    def is_embedding(self) -> bool:
        """Return whether the answers are embeddings, to be compared by their distances."""
        return any(output.size == "embedding" for output in self.outputs)

    @property
    def has_maps(self) -> bool:
        """Return whether the answers are maps, which grow with the images."""
        return any(output.is_map for output in self.outputs)

    def drops(self) -> dict[str, str]:
        """Return every TensorFlow name that may be left behind, with the reason."""
        variables = [row.source for row in self.rows if row.source]
        return {
            drop.source.replace("{variable}", variable): drop.reason
            for drop in self.leftovers
            for variable in (variables if "{variable}" in drop.source else [""])
        }
