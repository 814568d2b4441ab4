"""The interface of a reference, whether TensorFlow runs it or it was recorded."""

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
    """A source of the reference's activations: a `ReferenceRunner`, or a record."""

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the available tensors."""
        ...

    def fetch(self, images: Array, tensors: Sequence[str]) -> tuple[Array, ...]:
        """Return the values of `tensors` for `images`, which are the first of the first feed."""
        ...


class Reference(Protocol):
    """The side that is correct by definition.

    Attributes:
        name: The path, for messages.
        architecture, dims: The network and its sizes.
        feeds: The images that it is run on.
        versions: Versions of the libraries that computed it, by name; complete once it has run.
        probes: The probes whose activations are available, "all" including "blocks"; None: none.
        has_float64: Whether activations are available in float64 too.
        is_recorded: Whether its outputs are known already, so that feeds can only be left out.
    """

    name: str
    architecture: str
    dims: Mapping[str, int]
    feeds: tuple[Feed, ...]
    versions: Mapping[str, str]
    probes: Which | None
    has_float64: bool
    is_recorded: bool

    @property
    def description(self) -> str:
        """A description of what runs, for messages; known once it has run."""
        ...

    def dtypes(self) -> Mapping[str, str]:
        """Return the dtypes of its weights, by PyTorch's names."""
        ...

    def weights_gate(self, candidate: Catalog) -> GateResult:
        """Compare its weights with the candidate's."""
        ...

    def use(self, feeds: tuple[Feed, ...]) -> None:
        """Use these feeds from now on; a record: some of those that it has."""
        ...

    def answers(self, batches: Batches) -> Array:
        """Return its outputs for its feeds in float32, one row for each image.

        An optional feed that it can't take is removed from `feeds`, with a note in `batches`.
        """
        ...

    def oracle(self, batches: Batches) -> Array:
        """Return its outputs in float64."""
        ...

    def rounding(self) -> Array:
        """Return the scale of rounding for each sample, see `parity_tests.rounding`.

        Raises:
            ParityError: It is not recorded, or can't be computed without torch.
        """
        ...

    def activations(self, *, float64: bool = False) -> AbstractContextManager[Activations]:
        """Return a context manager around its `Activations`, in float32 or float64."""
        ...
