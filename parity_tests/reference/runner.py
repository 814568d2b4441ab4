"""Run the TensorFlow side, a stored graph or the project's own, on a CPU."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from converter.sandberg import RENAMED
from converter.sources import archive
from facenet_common.errors import ParityError
from parity_tests.frameworks import quiet_tensorflow, tensorflow
from parity_tests.tf_graphs import GRAPHS, NetworkGraph
from parity_tests.tf_graphs.layers import batch_norms_with_gamma
from parity_tests.tf_graphs.serving import VARIABLE_OPS, ServingGraph, cut

Array = npt.NDArray[Any]
Weights = Callable[[Any, Mapping[str, Any]], None]
"""Sets the variables of a session, given by name."""

OWN_GRAPH = "the project's own graph"


def read_meta(path: Path, architecture: str) -> ServingGraph:
    """Return the graph in a ``.meta`` file, cut down to the outputs of `architecture`.

    Raises:
        ParityError: The file can't be read, is not a MetaGraphDef, or its graph is refused
            (see `parity_tests.tf_graphs.serving`).
    """
    network = _network(architecture)
    meta = tensorflow().compat.v1.MetaGraphDef()
    _parse(meta, path, "a TensorFlow MetaGraphDef")
    info = meta.meta_info_def
    producer_ops = info.stripped_op_list if info.HasField("stripped_op_list") else None
    return cut(
        meta.graph_def,
        path.name,
        images=network.images,
        outputs=tuple(network.outputs.values()),
        producer_ops=producer_ops,
    )


def read_frozen(path: Path, architecture: str) -> ServingGraph:
    """Return the graph in a frozen ``.pb`` file, weights and all, cut down as by `read_meta`.

    Raises:
        ParityError: As `read_meta`.
    """
    network = _network(architecture)
    graph_def = tensorflow().compat.v1.GraphDef()
    _parse(graph_def, path, "a TensorFlow GraphDef")
    outputs = tuple(network.outputs.values())
    return cut(graph_def, path.name, images=network.images, outputs=outputs)


def own_graph(architecture: str, dims: Mapping[str, int], *, gamma: bool = False) -> ServingGraph:
    """Return the project's own graph of `architecture`, without its classifier.

    Args:
        architecture: A name of `parity_tests.tf_graphs.GRAPHS`.
        dims: The sizes that the checkpoint decides.
        gamma: Whether the checkpoint has the scales of batch norms.

    Raises:
        ParityError: There is no such architecture, or `dims` lacks a size of it.
    """
    network = _network(architecture)
    missing = [dim for dim in ARCHITECTURES[architecture].required_dims if dim not in dims]
    if missing:
        raise ParityError(
            f"sizes must be known to build the project's own graph: {', '.join(missing)}"
        )
    graph_def = tensorflow().compat.v1.GraphDef.FromString(
        _built(architecture, tuple(dims.items()), gamma)
    )
    outputs = tuple(network.outputs.values())
    description = f"{OWN_GRAPH}, with gamma" if gamma else OWN_GRAPH
    return cut(graph_def, description, images=network.images, outputs=outputs)


@cache
def _built(architecture: str, dims: tuple[tuple[str, int], ...], gamma: bool) -> bytes:
    """Build a graph of ours once: that takes seconds, reading its bytes milliseconds."""
    with batch_norms_with_gamma(gamma):
        graph = _network(architecture).build(dict(dims))
    graph_def: bytes = graph.as_graph_def().SerializeToString()
    return graph_def


def _network(architecture: str) -> NetworkGraph:
    if architecture not in GRAPHS:
        raise ParityError(f"there is no TensorFlow graph for the architecture {architecture!r}")
    return GRAPHS[architecture]


def weights_in_graph(session: Any, variables: Mapping[str, Any]) -> None:
    """`Weights` of a frozen graph, whose weights are constants: check that it has no variables.

    Raises:
        ParityError: It has variables.
    """
    del session
    if variables:
        raise ParityError(
            f"the graph is not frozen: {next(iter(variables))!r} is a variable",
            next_step="convert the checkpoint from which it was made",
        )


def weights_from_bundle(prefix: Path) -> Weights:
    """Return `Weights` that TensorFlow's own Saver reads from the checkpoint `prefix`.

    `prefix` has no ``.index``.

    The returned function raises:
        ParityError: TensorFlow can't read it, or it lacks a variable that the graph needs, or has
            it in another shape.
    """

    def restore(session: Any, variables: Mapping[str, Any]) -> None:
        tf = tensorflow().compat.v1
        with _on_disk(prefix) as place:
            try:
                stored = tf.train.load_checkpoint(str(place)).get_variable_to_shape_map()
            except (ValueError, tf.errors.OpError) as error:
                raise ParityError(
                    "TensorFlow can't read the checkpoint", file=prefix, found=error
                ) from error
            older = {new: old for old, new in RENAMED.items() if old in stored}
            by_name = {older.get(name, name): tensor for name, tensor in variables.items()}
            _require_same(
                {name: _shape(tensor) for name, tensor in by_name.items()},
                {name: tuple(shape) for name, shape in stored.items() if name in by_name},
                str(prefix),
            )
            tf.train.Saver(by_name).restore(session, str(place))

    return restore


@contextmanager
def _on_disk(prefix: Path) -> Iterator[Path]:
    """Yield the prefix of the same checkpoint on the disk: TensorFlow can't read zip archives."""
    if prefix.parent.is_dir():
        yield prefix
        return
    with TemporaryDirectory() as folder:
        for path in archive.paths_in(prefix.parent):
            if path.name.startswith(prefix.name):
                Path(folder, path.name).write_bytes(archive.read(path))
        yield Path(folder, prefix.name)


def weights_from_arrays(arrays: Mapping[str, Array], source: str) -> Weights:
    """Return `Weights` that set each variable to the array of its name.

    The returned function raises:
        ParityError: Names or shapes differ; `source`, for the message, is the arrays' origin.
    """

    def assign_all(session: Any, variables: Mapping[str, Any]) -> None:
        tf = tensorflow().compat.v1
        _require_same(
            {name: _shape(tensor) for name, tensor in variables.items()},
            {name: array.shape for name, array in arrays.items()},
            source,
        )
        # All operations first: a session starts anew whenever the graph has grown.
        steps = []
        for name, tensor in variables.items():
            value = tf.placeholder(tensor.dtype.base_dtype, tensor.shape)
            steps.append((tf.assign(tensor, value).op, value, name))
        for assign, value, name in steps:
            session.run(assign, {value: arrays[name]})

    return assign_all


class ReferenceRunner:
    """Runs a `ServingGraph`; a context manager around its TensorFlow session.

    Entering imports the graph and sets its variables. It raises `ParityError` if TensorFlow
    refuses the graph; errors of `weights` pass.
    """

    def __init__(self, graph: ServingGraph, weights: Weights) -> None:
        self.name = graph.description
        self._graph = graph
        self._weights = weights
        self._session: Any = None

    def __enter__(self) -> "ReferenceRunner":
        tf = tensorflow().compat.v1
        # A CPU: a GPU may round float32 products to 10 bits.
        config = tf.ConfigProto(device_count={"GPU": 0})
        # The graph is not rewritten. For float64, TensorFlow's optimiser fails, logs hundreds of
        # lines and takes a gigabyte; for float32 it takes 0.8 s and saves no measurable time.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = -1
        session = tf.Session(graph=tf.Graph(), config=config)
        try:
            with quiet_tensorflow(), session.graph.as_default():
                self._import()
                self._weights(session, _variables(session.graph))
        except BaseException:
            session.close()
            raise
        self._session = session
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()
        self._session = None

    def run(self, images: Array) -> tuple[Array, ...]:
        """Run the graph on `images`, float32 NHWC; return one array for each of its outputs.

        Raises:
            ParityError: TensorFlow fails on the graph.
        """
        return self.fetch(images, self._graph.outputs)

    @property
    def tensors(self) -> frozenset[str]:
        """Names that `fetch` accepts, ``NODE:0``: all tensors from which outputs are computed."""
        return frozenset(f"{node.name}:0" for node in self._graph.graph_def.node)

    def fetch(self, images: Array, tensors: Sequence[str]) -> tuple[Array, ...]:
        """Run the graph on `images`, float32 NHWC; return the values of `tensors`.

        Raises:
            ParityError: TensorFlow fails on the graph.
            MemoryError: The images are too many.
        """
        tf = tensorflow().compat.v1
        feeds: dict[str, Any] = {self._graph.images: images}
        if self._graph.phase_train is not None:
            feeds[self._graph.phase_train] = False
        try:
            return tuple(self._session.run(list(tensors), feeds))
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(error.message) from error
        except tf.errors.OpError as error:
            raise ParityError(
                f"TensorFlow failed to run {self.name}", found=error.message
            ) from error

    def _import(self) -> None:
        tf = tensorflow().compat.v1
        try:
            tf.import_graph_def(
                self._graph.graph_def, name="", producer_op_list=self._graph.producer_ops
            )
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise ParityError(
                f"TensorFlow {tf.__version__} refuses the graph in {self.name}",
                found=error,
                next_step=f"move the file out of the folder; {OWN_GRAPH} is then used",
            ) from error


def _variables(graph: Any) -> dict[str, Any]:
    """Return the tensor of each variable in `graph`, by name, in the form that a Saver takes."""
    variables = {}
    for operation in graph.get_operations():
        if operation.type == "VarHandleOp":
            variables[operation.name] = tensorflow().raw_ops.ReadVariableOp(
                resource=operation.outputs[0], dtype=operation.get_attr("dtype")
            )
        elif operation.type in VARIABLE_OPS:
            variables[operation.name] = operation.outputs[0]
    return variables


def _shape(tensor: Any) -> tuple[int | None, ...]:
    return tuple(tensor.shape.as_list())


def _require_same(
    expected: Mapping[str, tuple[int | None, ...]],
    found: Mapping[str, tuple[int, ...]],
    source: str,
) -> None:
    """Raise ParityError unless both have the same names with the same shapes."""
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is not a variable of the graph" for name in found.keys() - expected]
    problems += [
        f"{name} has shape {found[name]}, the graph's has {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ParityError(
            f"{source} does not fit the graph: {'; '.join(sorted(problems)[:5])}{more}"
        )


def _parse(message: Any, path: Path, what: str) -> None:
    """Fill a protocol buffer from a file."""
    decode_error = import_module("google.protobuf.message").DecodeError  # TensorFlow needs it too
    try:
        message.ParseFromString(archive.read(path))
    except OSError as error:
        raise ParityError("can't read the file", file=path, found=error.strerror) from error
    except decode_error as error:
        raise ParityError(
            "the file is damaged, or of another format", file=path, expected=what
        ) from error
