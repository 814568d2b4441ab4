"""Remove a graph's branches for training, on the protocol buffer.

Graphs of 2018 choose between training and serving at run time, by ``phase_train``: ``Switch``
passes a tensor to one of two branches, and ``Merge`` takes the result of the branch that ran. Here
the choice is made once, for ``phase_train`` false, and nodes that only training needs are removed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from facenet_common.errors import ParityError
from parity_tests.frameworks import tensorflow
from parity_tests.tf_graphs.serving import ServingGraph

_SWITCHES = frozenset({"Switch", "RefSwitch"})
_MERGES = frozenset({"Merge", "RefMerge"})
_PASSING = frozenset({"Identity", "RefIdentity", "StopGradient", "PlaceholderWithDefault"})


def serving_only(graph: ServingGraph) -> ServingGraph:
    """Return `graph` for ``phase_train`` false, without ``Switch`` and ``Merge``.

    Each ``Merge`` becomes an ``Identity`` of its name; each ``Switch`` is replaced by its input.
    Control inputs are removed: they order side effects, and there are none.

    Raises:
        ParityError: A choice depends on anything but ``phase_train``, an output is computed in
            training only, serving would assign to a variable, or the nodes form a circle.
    """
    tf = tensorflow().compat.v1
    nodes = {node.name: node for node in graph.graph_def.node}
    choices = _Choices(graph, nodes)
    outputs = tuple(choices.required(output) for output in graph.outputs)
    reached = _reached(nodes, choices, outputs)
    kept = tf.GraphDef(versions=graph.graph_def.versions)
    for name, node in nodes.items():
        if name not in reached:
            continue
        copy = kept.node.add()
        if f"{name}:0" == graph.phase_train:
            copy.CopyFrom(tf.NodeDef(name=name, op="Const"))
            copy.attr["dtype"].type = tf.bool.as_datatype_enum
            copy.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(False))
            continue
        copy.CopyFrom(node)
        del copy.input[:]
        if node.op in _MERGES:
            copy.op = "Identity"
            del copy.attr["N"]
        copy.input.extend(short(source) for source in choices.inputs(node))
    return replace(graph, graph_def=kept, phase_train=None, outputs=outputs)


def tensor_name(reference: str) -> str:
    """Return the full name, ``NODE:INDEX``, of the tensor that a data input refers to."""
    return reference if ":" in reference else f"{reference}:0"


def short(tensor: str) -> str:
    """Return a tensor's name as in the inputs of nodes: without ``:0``."""
    return tensor.removesuffix(":0")


class _Choices:
    """The tensors that serving computes, and the sources of those that a ``Switch`` passes on."""

    def __init__(self, graph: ServingGraph, nodes: Mapping[str, Any]) -> None:
        self._description = graph.description
        self._phase_train = graph.phase_train
        self._dead: set[str] = set()  # nodes, and single outputs of switches
        self._sources: dict[str, str] = {}  # tensor that a switch passes on: its source
        self._known: dict[str, bool] = {}  # value of a boolean tensor
        self._merged: dict[str, str] = {}  # Merge node: its only live input
        for name in self._ordered(nodes):
            self._decide(nodes[name])

    def source(self, reference: str) -> str:
        tensor = tensor_name(reference)
        return self._sources.get(tensor, tensor)

    def required(self, reference: str) -> str:
        """Return the source of a tensor that must be computed."""
        if self._is_dead(reference):
            raise ParityError(f"{self._description} computes {reference!r} in training only")
        return self.source(reference)

    def inputs(self, node: Any) -> list[str]:
        """Return the tensors that a node of the serving graph takes."""
        if node.op in _MERGES:
            return [self._merged[node.name]]
        sources = [self.source(reference) for reference in node.input if reference[0] != "^"]
        for source in sources:
            parent, _, index = source.partition(":")
            if parent in self._merged and index != "0":
                raise self._refusal(node, f"takes {source!r}, the number of a branch")
        return sources

    def _ordered(self, nodes: Mapping[str, Any]) -> Iterable[str]:
        parents = {
            name: {reference.removeprefix("^").partition(":")[0] for reference in node.input}
            for name, node in nodes.items()
        }
        try:
            return tuple(TopologicalSorter(parents).static_order())
        except CycleError as error:
            circle = " -> ".join(map(str, error.args[1][:4]))
            raise ParityError(f"{self._description}: nodes go in a circle: {circle}") from error

    def _decide(self, node: Any) -> None:
        controls = [reference for reference in node.input if reference[0] == "^"]
        data = [reference for reference in node.input if reference[0] != "^"]
        live = [reference for reference in data if not self._is_dead(reference)]
        merges = node.op in _MERGES
        if any(map(self._is_dead, controls)) or not (live if merges else len(live) == len(data)):
            self._dead.add(node.name)
        elif merges:
            if len(live) > 1:
                raise self._refusal(node, f"has {len(live)} inputs that arrive: {', '.join(live)}")
            self._merged[node.name] = self.source(live[0])
        elif node.op in _SWITCHES:
            chosen = self._known.get(self.source(data[1]))
            if chosen is None:
                raise self._refusal(node, "chooses by something other than phase_train")
            self._sources[f"{node.name}:{int(chosen)}"] = self.source(data[0])
            self._dead.add(f"{node.name}:{int(not chosen)}")
        elif node.op.startswith("Assign"):
            raise self._refusal(node, "changes a variable, even with phase_train false")
        else:
            self._learn(node, data)

    def _learn(self, node: Any, data: list[str]) -> None:
        """Record the value of a boolean tensor if it is known."""
        output = f"{node.name}:0"
        if output == self._phase_train:
            self._known[output] = False
        elif node.op == "Const" and node.attr["value"].tensor.dtype == _bool():
            value = tensorflow().make_ndarray(node.attr["value"].tensor)
            if value.shape == ():
                self._known[output] = bool(value)
        elif node.op in _PASSING | {"LogicalNot"} and self.source(data[0]) in self._known:
            value = self._known[self.source(data[0])]
            self._known[output] = not value if node.op == "LogicalNot" else value

    def _is_dead(self, reference: str) -> bool:
        if reference[0] == "^":
            return reference[1:] in self._dead
        tensor = self.source(reference)
        return tensor in self._dead or tensor.partition(":")[0] in self._dead

    def _refusal(self, node: Any, why: str) -> ParityError:
        return ParityError(f"{self._description}: node {node.name!r} of type {node.op!r} {why}")


def _reached(nodes: Mapping[str, Any], choices: _Choices, outputs: Iterable[str]) -> set[str]:
    """Return the names of the nodes from which `outputs` are computed."""
    reached: set[str] = set()
    pending = [output.partition(":")[0] for output in outputs]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += (source.partition(":")[0] for source in choices.inputs(nodes[name]))
    return reached


def _bool() -> int:
    return int(tensorflow().bool.as_datatype_enum)
