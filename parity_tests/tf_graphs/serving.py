"""Cuts out of a stored graph what the answer needs, and refuses what has no business there.

A ``.meta`` or ``.pb`` file is a program, and it comes from strangers: a graph can hold operations
that read, write and delete files, or call back into Python. So nothing of it reaches TensorFlow
before two things are done here, on the bare protocol buffer:

* Only the ancestors of the answer are kept, up to the tensors that are fed. Everything that
  training left in the file (queues, image files being read, optimisers, savers, summaries) falls
  away, whether this TensorFlow still knows those operations or not. So does the function library.
* Each ancestor's operation must be in `ALLOWED_OPS`: arithmetic on tensors, the choice between
  branches, and variables in memory. None of these touches a file, the network, Python or native
  code. It has to be a list of what is allowed: one of what is forbidden grows stale with every
  release of TensorFlow. And it has to come before the import: while importing, TensorFlow runs
  operations on constants to infer shapes.

A hostile graph can still answer wrongly or ask for more memory than there is; it can do no more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facenet_common.errors import ParityError
from parity_tests.frameworks import tensorflow

VARIABLE_OPS = frozenset({"Variable", "VariableV2", "VarHandleOp"})

# What InceptionResnetV1's embeddings are made of in graphs of TensorFlow 1.0 to 2.21, batch norm
# fused or not, with or without the branch for training (hence the random numbers of the dropout and
# the updates of the moving statistics).
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
    """A graph cut down to one answer, safe to import.

    Attributes:
        description: Which graph this is, for people: a file's name, or "the project's own graph".
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
    """Cut `graph_def` down to what `outputs` need.

    Args:
        graph_def: A ``GraphDef``; it is not changed.
        description: See `ServingGraph`.
        images: Names of nodes that may take the images; the first that the answer depends on does.
        outputs: Names of the tensors to fetch, ``NODE:0``.
        producer_ops: See `ServingGraph`.

    Raises:
        ParityError: A node is missing or named twice, the answer depends on none of `images` or on
            another placeholder, or on an operation that is not allowed.
    """
    nodes = _by_name(graph_def, description)
    wanted = [output.partition(":")[0] for output in outputs]
    for name in wanted:
        if name not in nodes:
            raise ParityError(
                f"{description} has no tensor {name!r}, so it is not the graph of such a model. "
                "Leave the file out of the folder, and the project's own graph serves"
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
    """Names of all nodes that `wanted` depend on, themselves included, not looking behind `fed`."""
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
                    f"{description} is damaged: node {name!r} takes {reference!r}, which is "
                    "not there"
                )
            pending.append(parent)
    return reached


def _refuse_unsafe(nodes: Iterable[Any], description: str) -> None:
    for node in nodes:
        if node.op in ("Placeholder", "PlaceholderV2"):
            raise ParityError(
                f"{description}: the answer depends on the placeholder {node.name!r}, and nothing "
                "is known to feed it with. Leave the file out, and the project's own graph serves"
            )
        if node.op not in ALLOWED_OPS:
            raise ParityError(
                f"{description}: the answer depends on node {node.name!r} of type {node.op!r}, "
                "which is not among the operations that a graph from a file may run. Nothing of it "
                "was run. Leave the file out, and the project's own graph serves"
            )


def _subgraph(graph_def: Any, reached: set[str], fed: set[str]) -> Any:
    """The nodes in `reached`, without device or colocation; those in `fed` as placeholders."""
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
        copy.device = ""  # a GPU that may not be here
        copy.attr.pop("_class", None)  # names nodes that may be cut away
    return kept
