"""Cut a stored graph down to its outputs, and refuse unsafe operations.

A ``.meta`` or ``.pb`` file is an untrusted program: a graph can have operations that read, write
and delete files, or call Python functions. So before TensorFlow imports any of it, two things are
done here on the protocol buffer:

* Only the ancestors of the outputs are kept, up to the tensors that are fed. Everything else that
  training put in the file (queues, reading of images, optimisers, savers, summaries) is removed,
  whether this TensorFlow still has those operations or not. So is the function library.
* Each ancestor's operation must be in `ALLOWED_OPS`: arithmetic on tensors, the choice between
  branches, and variables in memory. None of these accesses a file, the network, Python or native
  code. It must be a list of allowed operations: a list of forbidden ones is incomplete with every
  release of TensorFlow. And the check must precede the import: while importing, TensorFlow runs
  operations on constants to infer shapes (https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md).

A hostile graph can still return wrong outputs or allocate too much memory, but nothing worse.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facenet_common.errors import ParityError
from parity_tests.frameworks import tensorflow

_USE_OWN_GRAPH = "move the file out of the folder; the project's own graph is then used"
VARIABLE_OPS = frozenset({"Variable", "VariableV2", "VarHandleOp"})

# The operations from which InceptionResnetV1's embeddings are computed in graphs of TensorFlow 1.0
# to 2.21, batch norm fused or not, with or without the branch for training (hence the random
# numbers of dropout and the updates of moving statistics).
ALLOWED_OPS = VARIABLE_OPS | frozenset(
    """
    Add AddV2 AssignAdd AssignSub AssignSubVariableOp AssignVariableOp Assign AvgPool BiasAdd Cast
    Concat ConcatV2 Const Conv2D Div Equal Exp ExpandDims Fill Floor FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 Greater GreaterEqual Identity IdentityN Less LogicalNot MatMul Max MaxPool
    Maximum Mean Merge Minimum Mul Neg NoOp Pack PlaceholderWithDefault Pow Prod RandomUniform
    ReadVariableOp RealDiv RefIdentity RefMerge RefSwitch Relu Reshape Rsqrt Select SelectV2 Shape
    Slice Softmax Sqrt Square SquaredDifference Squeeze StopGradient StridedSlice Sub Sum Switch
    """.split()  # noqa: SIM905 # one quoted name a line would be 66 lines
)


@dataclass(frozen=True)
class ServingGraph:
    """A graph cut down to its outputs, safe to import.

    Attributes:
        description: For messages: the file's name, or "the project's own graph".
        graph_def: ``GraphDef`` of the ancestors; the fed tensors are placeholders.
        images: Name of the tensor to feed with images.
        phase_train: Name of the boolean tensor to feed with False, or None.
        outputs: Names of the tensors to fetch.
        producer_ops: ``OpList`` of the TensorFlow that stored the graph, or None.
    """

    description: str
    graph_def: Any
    images: str
    phase_train: str | None
    outputs: tuple[str, ...]
    producer_ops: Any = None


def cut(
    graph_def: Any,
    description: str,
    *,
    images: Sequence[str],
    outputs: Sequence[str],
    producer_ops: Any = None,
) -> ServingGraph:
    """Cut `graph_def` down to the ancestors of `outputs`.

    Args:
        graph_def: A ``GraphDef``; it is not changed.
        description: See `ServingGraph`.
        images: Names of nodes that may take the images; the first that an output depends on is fed.
        outputs: Names of the tensors to fetch, ``NODE:0``.
        producer_ops: See `ServingGraph`.

    Raises:
        ParityError: A node is missing or named twice, the outputs depend on none of `images`, on
            another placeholder, or on an operation that is not allowed.
    """
    nodes = _by_name(graph_def, description)
    wanted = [output.partition(":")[0] for output in outputs]
    for name in wanted:
        if name not in nodes:
            raise ParityError(
                f"{description} has no tensor {name!r}, so it is not the graph of such a model",
                next_step=_USE_OWN_GRAPH,
            )
    for image in images:
        fed = {image, "phase_train"} & nodes.keys()
        reached = _ancestors(nodes, wanted, fed, description)
        if image in reached:
            break
    else:
        raise ParityError(
            f"{description}: {outputs[0]} depends on none of the inputs that images are fed to: "
            f"{', '.join(images)}"
        )
    _refuse_unsafe((n for n in graph_def.node if n.name in reached - fed), description)
    phase_train = "phase_train:0" if "phase_train" in reached else None
    kept = _subgraph(graph_def, reached, fed)
    return ServingGraph(description, kept, f"{image}:0", phase_train, tuple(outputs), producer_ops)


def _by_name(graph_def: Any, description: str) -> dict[str, Any]:
    nodes: dict[str, Any] = {}
    for node in graph_def.node:
        if node.name in nodes:
            raise ParityError(f"{description} is damaged: two nodes are named {node.name!r}")
        nodes[node.name] = node
    return nodes


def _ancestors(
    nodes: Mapping[str, Any], wanted: Iterable[str], fed: set[str], description: str
) -> set[str]:
    """Return the names of `wanted` and all nodes they depend on, without the inputs of `fed`."""
    reached: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in fed:
            continue
        for reference in nodes[name].input:
            parent = reference.removeprefix("^").partition(":")[0]
            if parent not in nodes:
                raise ParityError(
                    f"{description} is damaged: node {name!r} takes {reference!r}, which is missing"
                )
            pending.append(parent)
    return reached


def _refuse_unsafe(nodes: Iterable[Any], description: str) -> None:
    for node in nodes:
        if node.op in ("Placeholder", "PlaceholderV2"):
            raise ParityError(
                f"{description}: the output depends on the placeholder {node.name!r}, for which "
                "there is no value",
                next_step=_USE_OWN_GRAPH,
            )
        if node.op not in ALLOWED_OPS:
            raise ParityError(
                f"{description}: the output depends on node {node.name!r} of type {node.op!r}, "
                "which is not among the operations that a graph from a file may run. Nothing of it "
                "was run",
                next_step=_USE_OWN_GRAPH,
            )


def _subgraph(graph_def: Any, reached: set[str], fed: set[str]) -> Any:
    """Copy the nodes in `reached` without device or colocation, those in `fed` as placeholders."""
    tf = tensorflow().compat.v1
    kept = tf.GraphDef(versions=graph_def.versions)
    for node in graph_def.node:
        if node.name not in reached:
            continue
        if node.name in fed:
            dtype = tf.bool if node.name == "phase_train" else tf.float32
            placeholder = kept.node.add(name=node.name, op="Placeholder")
            placeholder.attr["dtype"].type = dtype.as_datatype_enum
            continue
        copy = kept.node.add()
        copy.CopyFrom(node)
        copy.device = ""  # it may name a GPU that this machine lacks
        copy.attr.pop("_class", None)  # it may name nodes that were removed
    return kept
