"""Rewrite the original's graph so that TensorFlow computes it in float64: the oracle.

Two networks that compute the same function agree in float64 to about 1e-15; larger differences are
not rounding. The oracle must therefore have exactly the graph's meaning. Its numbers are of two
kinds:

* A *weight* is the float32 number that was trained. Converting it to float64 is exact.
* A *hyper-parameter* is a decimal that somebody wrote: 0.17, 0.001. A graph stores the nearest
  float32, whose float64 value is 0.17000000178813934: a relative error of 1e-8, while the gate
  demands 1e-12 (measured on embeddings, against torch in float64: differences of 2e-9 with
  converted hyper-parameters, 5e-16 with decimals). So scalar constants and float attributes are
  read as the shortest decimal that rounds to the stored float32. That is the number the author
  wrote if it had at most 6 significant digits, which float32 preserves (IEEE 754). A changed
  hyper-parameter is still found: one float32 ulp away is another decimal.

Constants with axes are weights, those without are hyper-parameters; no network here has a weight
without axes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from facenet_common.errors import ParityError
from parity_tests.frameworks import tensorflow
from parity_tests.tf_graphs.serving import VARIABLE_OPS, ServingGraph
from parity_tests.tf_graphs.training_branches import serving_only, short, tensor_name

Array = npt.NDArray[Any]

# Operations that mean the same in every floating-point type and have no numeric attributes: only
# their type attributes must be changed.
_PLAIN_OPS = frozenset(
    """
    Add AddV2 AvgPool BiasAdd Cast Concat ConcatV2 Conv2D Div Equal Exp ExpandDims Fill Floor
    Greater GreaterEqual Identity IdentityN Less LogicalNot MatMul Max MaxPool Maximum Mean Minimum
    Mul Neg Pack Placeholder PlaceholderWithDefault Pow Prod RealDiv Relu Reshape Rsqrt Select
    SelectV2 Shape Slice Softmax Sqrt Square SquaredDifference Squeeze StopGradient StridedSlice Sub
    Sum
    """.split()  # noqa: SIM905 # one quoted name a line would be 52 lines
)
_BATCH_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
_READS = frozenset({"ReadVariableOp", "RefIdentity"})
# Attributes that a graph may omit at TensorFlow's registered defaults, and that matter here. A test
# compares them with the registry.
FLOAT_DEFAULTS: Mapping[str, tuple[str, ...]] = {"MaxPool": ("T",)}
BATCH_NORM_DEFAULT_EPSILON = 0.0001


def in_float64(graph: ServingGraph, weights: Mapping[str, Array]) -> ServingGraph:
    """Return `graph` with every floating-point tensor in float64 and variables as constants.

    The branches for training are removed (see `serving_only`), and fused batch norms, which
    TensorFlow has in float32 only, are expanded. Nodes keep their names.

    Args:
        graph: A graph; it is not changed.
        weights: Value of each of the graph's variables, by name. Only these are read, so the
            mapping may be lazy. For a frozen graph it may be empty.

    Raises:
        ParityError: A weight is missing, of another shape or not floating-point, or a node can't
            be converted; the message names it.

    Examples:
        >>> with ReferenceRunner(in_float64(graph, weights), weights_in_graph) as runner:
        ...     (embeddings,) = runner.run(images.astype(np.float64))
        >>> embeddings.dtype
        dtype('float64')
    """
    serving = serving_only(graph)
    rewritten = tensorflow().compat.v1.GraphDef(versions=serving.graph_def.versions)
    rewriter = _Rewriter(graph.description, weights, rewritten)
    for node in serving.graph_def.node:
        rewriter.add(node)
    for node in rewritten.node:
        for index, reference in enumerate(node.input):
            node.input[index] = short(rewriter.source(reference))
    outputs = tuple(rewriter.source(output) for output in serving.outputs)
    description = f"{graph.description}, in float64"
    return replace(serving, description=description, graph_def=rewritten, outputs=outputs)


def written_decimal(value: np.floating[Any]) -> float:
    """Return the shortest decimal that rounds to `value` in its own type.

    Examples:
        >>> written_decimal(np.float32(0.17))
        0.17
    """
    return float(np.format_float_scientific(value, unique=True))


class _Rewriter:
    """Adds nodes in float64 to `graph_def`, one or more for each node of the old graph."""

    def __init__(self, description: str, weights: Mapping[str, Array], graph_def: Any) -> None:
        self._nodes = graph_def.node
        self._description = description
        self._weights = weights
        self._moved: dict[str, str] = {}  # tensor of the old graph: its tensor in the new one
        self._batch_norms: set[str] = set()

    def source(self, reference: str) -> str:
        """Return the tensor of the new graph that corresponds to one of the old graph."""
        tensor = tensor_name(reference)
        tensor = self._moved.get(tensor, tensor)
        node, _, index = tensor.partition(":")
        if node in self._batch_norms and index != "0":
            raise ParityError(f"{self._description}: {tensor!r} of a batch norm is for training")
        return tensor

    def add(self, node: Any) -> None:
        if node.op in VARIABLE_OPS:
            self._constant(node.name, self._weight(node))
        elif node.op == "Const":
            self._add_constant(node)
        elif node.op in _BATCH_NORMS:
            self._add_batch_norm(node)
        elif node.op in _READS:
            self._node(node.name, "Identity", node.input[0])
        elif node.op in _PLAIN_OPS:
            self._add_plain(node)
        else:
            raise self._refusal(node, "can't be converted to float64")

    def _weight(self, node: Any) -> Array:
        if node.attr["dtype"].type not in _floats():
            raise self._refusal(node, "is a variable that is not floating-point")
        try:
            value = np.asarray(self._weights[node.name])
        except KeyError:
            raise self._refusal(node, "is a variable that the weights lack") from None
        declared = node.attr["shape"].shape
        shape = tuple(dim.size for dim in declared.dim)
        if not declared.unknown_rank and (
            len(shape) != value.ndim
            or any(size not in (-1, found) for size, found in zip(shape, value.shape, strict=True))
        ):
            raise self._refusal(node, f"has shape {shape}, the weights have {value.shape}")
        if value.dtype.kind in "biuOSUcmM":  # bfloat16 has a kind of its own
            raise self._refusal(node, f"is floating-point, the weights have {value.dtype}")
        return value.astype(np.float64)

    def _add_constant(self, node: Any) -> None:
        if node.attr["dtype"].type not in _floats():
            self._add_plain(node)
            return
        value = tensorflow().make_ndarray(node.attr["value"].tensor)
        if value.ndim == 0 and value.dtype.kind == "f":  # bfloat16 has a kind of its own
            value = np.array(written_decimal(value[()]))
        self._constant(node.name, value.astype(np.float64))

    def _add_batch_norm(self, node: Any) -> None:
        """Add (x - mean) * rsqrt(variance + epsilon) * scale + offset."""
        if "is_training" not in node.attr or node.attr["is_training"].b:
            raise self._refusal(node, "uses the batch's own statistics, which is for training only")
        if "data_format" in node.attr and node.attr["data_format"].s != b"NHWC":
            raise self._refusal(node, f"has the layout {node.attr['data_format'].s!r}, not NHWC")
        epsilon = BATCH_NORM_DEFAULT_EPSILON
        if "epsilon" in node.attr:
            epsilon = written_decimal(np.float32(node.attr["epsilon"].f))
        x, scale, offset, mean, variance = node.input
        scope = f"{node.name}/float64"
        self._constant(f"{scope}/epsilon", np.array(epsilon))
        self._node(f"{scope}/variance", "AddV2", variance, f"{scope}/epsilon")
        self._node(f"{scope}/rsqrt", "Rsqrt", f"{scope}/variance")
        self._node(f"{scope}/centred", "Sub", x, mean)
        self._node(f"{scope}/normalised", "Mul", f"{scope}/centred", f"{scope}/rsqrt")
        self._node(f"{scope}/scaled", "Mul", f"{scope}/normalised", scale)
        self._node(node.name, "AddV2", f"{scope}/scaled", offset)
        # The statistics are outputs too; the outputs after them are for gradients only.
        self._moved[f"{node.name}:1"] = tensor_name(mean)
        self._moved[f"{node.name}:2"] = tensor_name(variance)
        self._batch_norms.add(node.name)

    def _node(self, name: str, op: str, *inputs: str) -> None:
        node = self._nodes.add(name=name, op=op, input=inputs)
        node.attr["T"].type = _double()

    def _constant(self, name: str, value: Array) -> None:
        node = self._nodes.add(name=name, op="Const")
        node.attr["dtype"].type = _double()
        tensor = node.attr["value"].tensor
        tensor.dtype = _double()
        tensor.tensor_shape.SetInParent()  # no axes is a shape too
        for size in value.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = value.astype("<f8").tobytes()

    def _add_plain(self, node: Any) -> None:
        """Add `node` with its floating-point types changed to float64."""
        converted = self._nodes.add()
        converted.CopyFrom(node)
        floats, double = _floats(), _double()
        for name in FLOAT_DEFAULTS.get(node.op, ()):
            if name not in converted.attr:
                converted.attr[name].type = double
        for name, attribute in list(converted.attr.items()):
            if name.startswith("_"):  # annotations of the TensorFlow that wrote it, such as shapes
                del converted.attr[name]
            elif attribute.type in floats:
                attribute.type = double
            else:
                for index, kind in enumerate(attribute.list.type):
                    attribute.list.type[index] = double if kind in floats else kind

    def _refusal(self, node: Any, why: str) -> ParityError:
        return ParityError(f"{self._description}: node {node.name!r} of type {node.op!r} {why}")


def _floats() -> frozenset[int]:
    """Return the numbers of the floating-point types that are converted."""
    tf = tensorflow()
    kinds = (tf.float32, tf.float16, tf.bfloat16)
    return frozenset(int(kind.as_datatype_enum) for kind in kinds)


def _double() -> int:
    return int(tensorflow().float64.as_datatype_enum)
