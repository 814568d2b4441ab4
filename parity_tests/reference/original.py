"""Choose the graph to run for a source, and the source of its variables' values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from converter.catalog import Catalog
from converter.sandberg import RENAMED
from converter.sources import mtcnn_npy
from converter.sources.keras import archive as keras_archive
from converter.sources.keras import h5 as keras_h5
from converter.sources.tensorflow import bundle, frozen_graph, saved_model, saver_v1
from facenet_common.errors import ParityError
from parity_tests.reference.original_detector import original_available, original_graph
from parity_tests.reference.runner import (
    Weights,
    own_graph,
    read_frozen,
    read_meta,
    weights_from_arrays,
    weights_from_bundle,
    weights_in_graph,
)
from parity_tests.tf_graphs.serving import ServingGraph

Array = npt.NDArray[Any]
KERAS = (keras_h5.FORMAT, keras_archive.FORMAT)
# Their own graphs, with functions and Python code, are not run.
BY_VALUE = (*KERAS, saved_model.FORMAT, bundle.OBJECT_BASED)


class GraphValues(Mapping[str, Array]):
    """A catalog's tensors by the graph's variable names, loaded on access."""

    def __init__(self, catalog: Catalog, architecture: str) -> None:
        self._catalog = catalog
        # Names in the .npy files lack the scope that the variables have in the graph.
        self._scope = f"{architecture}/" if catalog.format == mtcnn_npy.FORMAT else ""

    def __getitem__(self, name: str) -> Array:
        known = RENAMED.get(name, name.removeprefix(self._scope))
        return self._catalog[known].load()

    def __iter__(self) -> Iterator[str]:
        return (self._scope + name for name in self._catalog)

    def __len__(self) -> int:
        return len(self._catalog)


def original(
    architecture: str,
    dims: Mapping[str, int],
    source_format: str,
    source: Path,
    graph: Path | None,
    values: Mapping[str, Array],
) -> tuple[ServingGraph, Weights]:
    """Return the graph of a source, and the function that sets its variables.

    For an ``.npy`` file it is the original's own graph if that is available (see
    `parity_tests.reference.original_detector`), else the project's; for a file of Keras, a
    SavedModel and an object-based checkpoint the project's.

    Args:
        architecture, dims: As `parity_tests.reference.runner.own_graph` takes them.
        source_format: The converter's name of the source's format.
        source: A checkpoint's prefix, a ``.pb`` or an ``.npy`` file.
        graph: A checkpoint's ``.meta`` file; None: the project's own graph.
        values: Arrays by variable name; read only of an ``.npy`` file, which TensorFlow can't read,
            and of formats whose own graph is not run.

    Raises:
        ParityError: There is no graph for this format, or it can't be read or is refused.
    """
    if source_format == frozen_graph.FORMAT:
        return read_frozen(source, architecture), weights_in_graph
    if source_format == mtcnn_npy.FORMAT:
        folder = original_available()
        chosen = (
            own_graph(architecture, dims) if not folder else original_graph(architecture, folder)
        )
        return chosen, weights_from_arrays(dict(values), str(source))
    if source_format not in (*BY_VALUE, bundle.FORMAT, saver_v1.FORMAT):
        raise ParityError("there is no graph for this format", file=source, found=source_format)
    if graph is not None and source_format not in BY_VALUE:
        return read_meta(graph, architecture), weights_from_bundle(source)
    gamma = any(name in values for name in ARCHITECTURES[architecture].optional)
    chosen = own_graph(architecture, dims, gamma=gamma)
    if source_format not in BY_VALUE:
        return chosen, weights_from_bundle(source)
    known = ARCHITECTURES[architecture]
    names = {rule.source for rule in known.rules if rule.part == "features"} | known.optional
    arrays = {name: values[name] for name in values if name in names}
    return chosen, weights_from_arrays(arrays, str(source))
