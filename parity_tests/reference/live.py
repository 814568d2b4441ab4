"""The TensorFlow side, run live."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from converter.catalog import Catalog, TensorRef
from converter.compare import tensors_by_name
from converter.plan import make_plan
from converter.resolve import Source
from facenet_common.errors import ParityError
from parity_tests.batches import Batches
from parity_tests.candidate.torch_runner import network
from parity_tests.feeds import Feed
from parity_tests.frameworks import tensorflow, torch
from parity_tests.gates import weights_gate
from parity_tests.model import GateResult
from parity_tests.probes import Which
from parity_tests.reference.original import GraphValues, original
from parity_tests.reference.runner import ReferenceRunner, Weights, weights_in_graph
from parity_tests.rounding import rounding_scale
from parity_tests.tf_graphs.float64 import in_float64
from parity_tests.tf_graphs.serving import ServingGraph

Array = npt.NDArray[Any]


class LiveReference:
    """A checkpoint, frozen graph or ``.npy`` file whose graph TensorFlow runs.

    It implements `parity_tests.reference.protocol.Reference`.
    """

    probes: Which | None = "all"
    has_float64 = True
    is_recorded = False

    def __init__(
        self,
        source: Source,
        catalog: Catalog,
        architecture: str,
        dims: Mapping[str, int],
        feeds: tuple[Feed, ...],
    ) -> None:
        self.name = str(source.path)
        self.architecture = architecture
        self.dims = dims
        self.feeds = feeds
        self.versions: Mapping[str, str] = {}
        self._source = source
        self._catalog = catalog
        self._values = GraphValues(catalog, architecture)

    @property
    def description(self) -> str:
        return f"{self.name} ({self.graph})"

    @property
    def graph(self) -> str:
        """A description of the graph that runs."""
        description: str = self._original[0].description
        return description

    @property
    def catalog(self) -> Catalog:
        """The weights."""
        return self._catalog

    def dtypes(self) -> Mapping[str, str]:
        refs = tensors_by_name(self._catalog, "torch")
        return {name: ref.dtype.name for name, ref in refs.items()}

    def weights_gate(self, candidate: Catalog) -> GateResult:
        return weights_gate(self._catalog, candidate, self._unused())

    def unproven(self) -> tuple[TensorRef, ...]:
        """Return the tensors of which nothing shows that the outputs don't depend on them."""
        unused = self._unused()
        return tuple(ref for ref in self._unexplained if ref.name not in unused)

    def _unused(self) -> frozenset[str]:
        """Return the unexplained tensors outside the network that its graph does not use.

        Without a graph of its own it is not known what uses them.
        """
        known = ARCHITECTURES[self.architecture]
        outside = {ref.name for ref in self._unexplained if not known.is_within(ref.name)}
        if not outside or self._source.graph is None:
            return frozenset()
        return frozenset(outside - {node.name for node in self._original[0].graph_def.node})

    @cached_property
    def _unexplained(self) -> tuple[TensorRef, ...]:
        return make_plan(self._catalog, to="torch", strict=False).unproven

    def use(self, feeds: tuple[Feed, ...]) -> None:
        self.feeds = feeds

    def answers(self, batches: Batches) -> Array:
        batches.notes += [f"reference: {note}" for note in self._catalog.notes]
        return self._rows(self._runner, batches, "float32")

    def oracle(self, batches: Batches) -> Array:
        with ReferenceRunner(self._float64, weights_in_graph) as runner:
            return self._rows(runner, batches, "float64")

    def rounding(self) -> Array:
        """Return the scale of rounding, computed with the reference's own weights."""
        th, state = torch(), {}
        rows = ARCHITECTURES[self.architecture].rows
        classifier = {row.target for row in rows if row.part == "logits"}
        for name, ref in tensors_by_name(self._catalog, "torch").items():
            if name in classifier:  # no embedding is computed from it
                continue
            value = ref.load()
            dtype = value.dtype if value.dtype.kind in "iu" else np.dtype(np.float32)
            state[name] = th.from_numpy(np.array(value, dtype, order="C"))  # torch's from now on
            self._catalog.release(ref.nbytes)
        model = network(self.architecture, self.dims, state)
        return rounding_scale(model, self.architecture, self.feeds)

    def _rows(self, runner: ReferenceRunner, batches: Batches, dtype: str) -> Array:
        rows, taken = [], []
        for feed in self.feeds:
            try:
                rows.append(batches.feed(runner, feed, dtype))
            except ParityError as error:
                if not feed.optional:
                    raise self._of_size(feed, error) from error
                why = str(error).partition("\n")[0]
                batches.notes.append(f"the reference can't take the feed {feed.name!r}: {why}")
                continue
            taken.append(feed)
        self.feeds = tuple(taken)
        return np.concatenate(rows)

    def _of_size(self, feed: Feed, error: ParityError) -> ParityError:
        """Return `error`, or one that names the size of the images if they are no usual ones."""
        size, usual = feed.images.shape[1:3], ARCHITECTURES[self.architecture].feed_size
        if size == usual:
            return error
        found, expected = (" by ".join(map(str, edges)) for edges in (size, usual))
        return ParityError(
            "the reference does not take images of the only size that the candidate takes",
            file=self.name,
            expected=f"{expected}, for which the published models were made",
            found=f"{found}: {error.found or error.problem}",
            next_step="export the candidate for images of the size for which the graph was made, "
            "or with free height and width",
        )

    @contextmanager
    def activations(self, *, float64: bool = False) -> Iterator[ReferenceRunner]:
        if not float64:
            yield self._runner
            return
        with ReferenceRunner(self._float64, weights_in_graph) as runner:
            yield runner

    @cached_property
    def _runner(self) -> ReferenceRunner:
        """The graph with its weights, open as long as this object exists: restoring is slow."""
        runner = ReferenceRunner(*self._original)
        weakref.finalize(self, runner.__exit__, None, None, None)
        return runner.__enter__()

    @cached_property
    def _original(self) -> tuple[ServingGraph, Weights]:
        self.versions = {"TensorFlow": tensorflow().__version__}
        path, graph = self._source.path, self._source.graph
        return original(
            self.architecture, self.dims, self._catalog.format, path, graph, self._values
        )

    @cached_property
    def _float64(self) -> ServingGraph:
        return in_float64(self._original[0], self._values)
