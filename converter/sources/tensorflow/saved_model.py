"""SavedModel folders of TensorFlow 1 and 2: ``saved_model.pb`` and ``variables/``.

The weights are variables, in a checkpoint ``variables/variables``, or constants in the graph or in
its functions. Nothing of the graph is run. Sources: tensorflow/core/protobuf/saved_model.proto,
meta_graph.proto; tensorflow/core/framework/function.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from converter.catalog import Catalog, Naming
from converter.sources import archive
from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow import bundle, frozen_graph, protobuf
from converter.sources.tensorflow.protobuf import DecodeError
from facenet_common.errors import FormatError

FORMAT = "tensorflow-saved-model"
NAMING: Naming = "tensorflow"
FILE = "saved_model.pb"


def recognises(path: Path) -> bool:
    """Return whether `path` is a file ``saved_model.pb``."""
    return path.name == FILE and archive.is_file(path)


def variables_of(path: Path) -> Path:
    """Return the prefix of the checkpoint beside ``saved_model.pb``.

    Examples:
        >>> str(variables_of(Path("faces/saved_model.pb")))
        'faces/variables/variables'
    """
    return path.parent / "variables" / "variables"


def open(path: Path) -> Catalog:
    """Return the model's variables, or where it has none its constants that are weights.

    Raises:
        FormatError: A file is damaged or missing, or there are no weights.
    """
    file = MappedFile(path)
    try:
        return _open(file)
    except DecodeError as error:
        raise FormatError(
            "the SavedModel is damaged",
            file=path,
            found=error,
            next_step="export the model again, or copy its folder again",
        ) from error


def _open(file: MappedFile) -> Catalog:
    path = file.path
    graphs = list(_graphs(file.view()))
    prefix = variables_of(path)
    if bundle.recognises(prefix):
        variables = bundle.open(prefix)
        if len(variables):
            return Catalog(
                variables,
                format=FORMAT,
                naming=NAMING,
                files=(path, *variables.files),
                notes=variables.notes,
                release=variables.release,
            )
    elif any(frozen_graph.is_variable(node) for nodes in graphs for node in nodes):
        raise FormatError(
            "the variables of the SavedModel are missing",
            file=bundle.index_path(prefix),
            expected="a folder variables beside saved_model.pb",
            next_step="copy the whole folder of the model",
        )
    return frozen_graph.constants_of(graphs, file, FORMAT)


def _graphs(model: memoryview) -> Iterator[list[memoryview]]:
    """Yield the nodes of every graph, and of each function in its library."""
    meta_graphs = list(_messages(model, 2))
    if not meta_graphs:
        raise DecodeError("there is no graph in it")
    for meta_graph in meta_graphs:
        for graph in _messages(meta_graph, 2):
            yield list(_messages(graph, 1))
            for library in _messages(graph, 2):
                for function in _messages(library, 1):
                    yield list(_messages(function, 3))


def _messages(message: memoryview, number: int) -> Iterator[memoryview]:
    return (protobuf.view(value) for n, value in protobuf.fields(message) if n == number)
