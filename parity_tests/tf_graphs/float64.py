"""The original's own graph, rewritten so that TensorFlow computes it in float64: the oracle.

Two networks that compute the same agree in float64 to about 1e-15; what differs by more is not
rounding. So the oracle must mean exactly what the graph means, and numbers come in two kinds:

* A *weight* is the float32 number that was trained. It is widened; that changes nothing.
* A *hyper-parameter* is a decimal that someone wrote: 0.17, 0.001. A graph has room only for the
  nearest float32, and widening that would give 0.17000000178813934: a relative error of 1e-8, where
  the gate of 1e-12 is to tell right from wrong (measured on embeddings, against torch in
  float64: 2e-9 apart with widened hyper-parameters, 5e-16 with decimals). So scalar constants
  and float attributes are read back as the shortest decimal that rounds to the stored float32,
  which is what the author wrote wherever that had at most 6 significant digits (IEEE 754 holds
  that many in float32, both ways). A changed hyper-parameter still shows: one float32 ulp away is
  another decimal.

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

# Operations that mean the same in every floating point type and hold no number but their inputs:
# turning their type attributes is all they need.
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
# Attributes that a graph may leave out at these values, though they matter here: TensorFlow's
# registered defaults. A test compares them with the registry.
FLOAT_DEFAULTS: Mapping[str, tuple[str, ...]] = {"MaxPool": ("T",)}
BATCH_NORM_DEFAULT_EPSILON = 0.0001


def in_float64(graph: ServingGraph, weights: Mapping[str, Array]) -> ServingGraph:
    """`graph` with every floating point tensor in float64, its variables as constants.

    The branches for training are dropped (see `serving_only`), and fused batch norms, which
    TensorFlow has in float32 only, are spelt out. Nodes keep their names. Run it with
    ``ReferenceRunner(in_float64(...), weights_in_graph)``: float64 images in, float64 answers out.

    Args:
        graph: Is not changed.
        weights: Value of each of the graph's variables, by name. Others are not looked at, so the
            mapping may be lazy. For a frozen graph it may be empty.

    Raises:
        ParityError: A weight is missing, of another shape or not floating point, or a node can't
            be turned; the message names it.
    """
    served = serving_only(graph)
    rewritten = tensorflow().compat.v1.GraphDef(versions=served.graph_def.versions)
    rewriter = _Rewriter(graph.description, weights, rewritten)
    for node in served.graph_def.node:
        rewriter.add(node)
    for node in rewritten.node:
        for index, reference in enumerate(node.input):
            node.input[index] = short(rewriter.source(reference))
    outputs = tuple(rewriter.source(output) for output in served.outputs)
    description = f"{graph.description}, in float64"
    return replace(served, description=description, graph_def=rewritten, outputs=outputs)


def written_decimal(value: np.floating[Any]) -> float:
    """The shortest decimal that rounds to `value` in its own type: 0.17 for ``float32(0.17)``."""
    return float(np.format_float_scientific(value, unique=True))


class _Rewriter:
    """Adds nodes to `graph_def`, in float64, one or more for each of the old."""

    def __init__(self, description: str, weights: Mapping[str, Array], graph_def: Any) -> None:
        self._nodes = graph_def.node
        self._description = description
        self._weights = weights
        self._moved: dict[str, str] = {}  # tensor of an old node: the same in the new graph
        self._batch_norms: set[str] = set()

    def source(self, reference: str) -> str:
        """The tensor of the new graph that stands for one of the old."""
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
            raise self._refusal(node, "can't be turned into float64")

    def _weight(self, node: Any) -> Array:
        if node.attr["dtype"].type not in _floats():
            raise self._refusal(node, "is a variable that is not floating point")
        try:
            value = np.asarray(self._weights[node.name])
        except KeyError:
            raise self._refusal(node, "is a variable, and the weights lack it") from None
        declared = node.attr["shape"].shape
        shape = tuple(dim.size for dim in declared.dim)
        if not declared.unknown_rank and (
            len(shape) != value.ndim
            or any(size not in (-1, found) for size, found in zip(shape, value.shape, strict=True))
        ):
            raise self._refusal(node, f"has shape {shape}, the weights have {value.shape}")
        if value.dtype.kind in "biuOSUcmM":  # bfloat16 has a kind of its own
            raise self._refusal(node, f"is floating point, the weights have {value.dtype}")
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
        """(x - mean) * rsqrt(variance + epsilon) * scale + offset."""
        if "is_training" not in node.attr or node.attr["is_training"].b:
            raise self._refusal(node, "uses the batch's own statistics, as only training may")
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
        # The statistics used are answers too; those after them are for gradients only.
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
        """`node` with its floating point types turned into float64."""
        turned = self._nodes.add()
        turned.CopyFrom(node)
        floats, double = _floats(), _double()
        for name in FLOAT_DEFAULTS.get(node.op, ()):
            if name not in turned.attr:
                turned.attr[name].type = double
        for name, attribute in list(turned.attr.items()):
            if name.startswith("_"):  # notes of the TensorFlow that stored it, such as shapes
                del turned.attr[name]
            elif attribute.type in floats:
                attribute.type = double
            else:
                for index, kind in enumerate(attribute.list.type):
                    attribute.list.type[index] = double if kind in floats else kind

    def _refusal(self, node: Any, why: str) -> ParityError:
        return ParityError(f"{self._description}: node {node.name!r} of type {node.op!r} {why}")


def _floats() -> frozenset[int]:
    """Numbers of the floating point types that are turned."""
    tf = tensorflow()
    kinds = (tf.float32, tf.float16, tf.bfloat16)
    return frozenset(int(kind.as_datatype_enum) for kind in kinds)


def _double() -> int:
    return int(tensorflow().float64.as_datatype_enum)
