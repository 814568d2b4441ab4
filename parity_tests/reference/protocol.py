"""What `parity_tests.verify` asks of the TensorFlow side, whether it runs or was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy.typing as npt

from converter.catalog import Catalog
from parity_tests.batches import Batches
from parity_tests.feeds import Feed
from parity_tests.model import GateResult
from parity_tests.probes import Which

Array = npt.NDArray[Any]


class Activations(Protocol):
    """What gives the reference's activations: `ReferenceRunner`, or a store."""

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors that there are."""
        ...

    def fetch(self, images: Array, tensors: Sequence[str]) -> tuple[Array, ...]:
        """The values of `tensors` for `images`, the first of the first feed."""
        ...


class Reference(Protocol):
    """The side that is right by definition.

    Attributes:
        name: What was named, for people.
        architecture, dims: The network and its sizes.
        feeds: What it answers to.
        versions: Of what computed it, by name; complete once it has run.
        probes: Those whose activations there are, "all" including "blocks"; None: none.
        sharp: Whether there are activations in float64 too.
    """

    name: str
    architecture: str
    dims: Mapping[str, int]
    feeds: tuple[Feed, ...]
    versions: Mapping[str, str]
    probes: Which | None
    sharp: bool

    @property
    def description(self) -> str:
        """What runs, for people; known once it has run."""
        ...

    def dtypes(self) -> Mapping[str, str]:
        """The element types of its weights, by PyTorch's names."""
        ...

    def weights_gate(self, candidate: Catalog) -> GateResult:
        """Its weights against the candidate's."""
        ...

    def answers(self, batches: Batches) -> Array:
        """Its answers to its feeds in float32, a row an image.

        A feed that is optional and that it can't take is taken out of `feeds`, with a note.
        """
        ...

    def oracle(self, batches: Batches) -> Array:
        """The same in float64."""
        ...

    def rounding(self) -> Array:
        """The scale of rounding for each sample, see `parity_tests.rounding`.

        Raises:
            ParityError: It is not recorded, or can't be computed without torch.
        """
        ...

    def activations(self, *, wide: bool) -> AbstractContextManager[Activations]:
        """A context manager around its `Activations`, in float32, or `wide`: in float64."""
        ...
