"""Finds one's way in a graph that serves: by scope, back along inputs, on along consumers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from facenet_common.errors import ParityError
from parity_tests.frameworks import tensorflow
from parity_tests.settings_words import IMAGES, VARIED
from parity_tests.tf_graphs.float64 import written_decimal
from parity_tests.tf_graphs.serving import VARIABLE_OPS, ServingGraph
from parity_tests.tf_graphs.training_branches import serving_only

Array = npt.NDArray[Any]

ADDITIONS = ("Add", "AddV2")
# What passes a tensor on; Reshape and Squeeze change its axes only.
_PASSING = frozenset({"Identity", "RefIdentity", "ReadVariableOp", "StopGradient"})
_RESHAPING = frozenset({"Reshape", "Squeeze", "ExpandDims"})


class Nodes:
    """The nodes of a graph's serving part.

    Raises:
        ParityError: See `parity_tests.tf_graphs.training_branches.serving_only`.
    """

    def __init__(self, graph: ServingGraph) -> None:
        served = serving_only(graph)
        self._description = graph.description
        self.outputs = served.outputs
        self._nodes: dict[str, Any] = {}
        self._by_op: dict[str, list[Any]] = defaultdict(list)
        self._consumers: dict[str, list[Any]] = defaultdict(list)
        self._layers = {graph.images.partition(":")[0]: IMAGES}
        for node in served.graph_def.node:
            self._nodes[node.name] = node
            self._by_op[node.op].append(node)
            for parent in dict.fromkeys(reference.partition(":")[0] for reference in node.input):
                self._consumers[parent].append(node)

    def has(self, op: str) -> bool:
        return op in self._by_op

    def node(self, name: str) -> Any:
        """The node of that name; the scope's only one will not do."""
        if name not in self._nodes:
            raise ParityError(f"{self._description} has no node {name!r}")
        return self._nodes[name]

    def below(self, scope: str, *ops: str) -> list[Any]:
        """All nodes of those types that are called `scope` or are in it."""
        return [
            node
            for op in ops
            for node in self._by_op.get(op, ())
            if node.name == scope or node.name.startswith(f"{scope}/")
        ]

    def one(self, scope: str, *ops: str) -> Any:
        """The only such node."""
        found = self.below(scope, *ops)
        if len(found) == 1:
            return found[0]
        kinds = " or ".join(ops)
        if not found:
            raise ParityError(f"{self._description} has no {kinds} in the scope {scope!r}")
        names = ", ".join(repr(node.name) for node in found[:4])
        raise ParityError(
            f"{self._description} has {len(found)} nodes of type {kinds} in the scope {scope!r}, "
            f"so it can't be told which is the layer: {names}"
        )

    def source(self, reference: str, *, reshaped: bool = False) -> Any:
        """The node whose output a reference is, behind what only passes it on.

        Raises:
            ParityError: It is another than the first output, which only training has a use for.
        """
        while True:
            name, _, index = reference.partition(":")
            node = self._nodes[name]
            if index not in ("", "0"):
                raise self.refusal(node, f"is used for {reference!r}, no answer of a layer")
            passes = node.op in _PASSING or (reshaped and node.op in _RESHAPING)
            if not passes or name in self._layers:
                return node
            reference = node.input[0]

    def only_after(self, node: Any) -> Any:
        """The only node that takes the output, beyond what passes it on or reshapes it."""
        after = self._after(node)
        if len(after) != 1:
            names = ", ".join(repr(other.name) for other in after[:4]) or "nothing"
            raise self.refusal(node, f"should lead to one operation, and leads to {names}")
        return after[0]

    def relu_after(self, node: Any) -> Any | None:
        """The ReLU of the output, or None."""
        after = self._after(node)
        relus = [other for other in after if other.op == "Relu"]
        if relus and len(after) > 1:
            raise self.refusal(node, "leads to a ReLU and past it")
        return relus[0] if relus else None

    def _after(self, node: Any) -> list[Any]:
        found: list[Any] = []
        for consumer in self._consumers[node.name]:
            if consumer.op in _PASSING or consumer.op in _RESHAPING:
                found += self._after(consumer)
            elif consumer.op != "Shape":
                found.append(consumer)
        return found

    def other_reference(self, node: Any, one: Any) -> str:
        """The other input of a node that takes `one`'s output."""
        others = [
            reference
            for reference in node.input
            if self.source(reference, reshaped=True).name != one.name
        ]
        if len(node.input) != 2 or len(others) != 1:
            raise self.refusal(node, f"should take {one.name!r} and one other input")
        return str(others[0])

    def other(self, node: Any, one: Any) -> Any:
        return self.source(self.other_reference(node, one), reshaped=True)

    def name_output(self, node: Any, path: str) -> None:
        """Note that a node gives a layer's output."""
        self._layers[node.name] = path

    def layer(self, reference: str) -> str:
        """Path of the layer whose output that is, or the images; else the node's own name."""
        name = str(self.source(reference, reshaped=True).name)
        return self._layers.get(name, name)

    # --- Values ---

    def text(self, node: Any, name: str, default: str = "") -> str:
        return repr(node.attr[name].s)[2:-1] if name in node.attr else default

    def numbers(self, node: Any, name: str) -> list[int]:
        return [int(i) for i in node.attr[name].list.i] if name in node.attr else []

    def shape_or_none(self, reference: str) -> list[int] | None:
        """Axes of a variable or constant."""
        node = self.source(reference)
        if node.op in VARIABLE_OPS:
            return [int(dim.size) for dim in node.attr["shape"].shape.dim]
        if node.op == "Const":
            return [int(dim.size) for dim in node.attr["value"].tensor.tensor_shape.dim]
        return None

    def shape(self, reference: str) -> list[int]:
        found = self.shape_or_none(reference)
        if found is None:
            node = self.source(reference)
            raise self.refusal(node, "should be a variable or a constant")
        return found

    def is_stored(self, reference: str) -> bool:
        """Whether it is a variable or a constant, and not computed."""
        return self.shape_or_none(reference) is not None

    def constant(self, reference: str) -> Array | None:
        node = self.source(reference)
        if node.op != "Const":
            return None
        value: Array = tensorflow().make_ndarray(node.attr["value"].tensor)
        return value

    def scalar(self, reference: str) -> float | None:
        """The one number of a constant, as the shortest decimal that rounds to it."""
        value = self.constant(reference) if self._is_single(reference) else None
        return None if value is None else _decimal(value.ravel()[0])

    def _is_single(self, reference: str) -> bool:
        shape = self.shape_or_none(reference)
        return shape is not None and all(size == 1 for size in shape)

    def uniform(self, reference: str) -> float | str:
        """The number that fills a constant, or in words that it is something else."""
        node = self.source(reference)
        value = self.constant(node.input[1] if node.op == "Fill" else reference)
        if value is None:
            return f"is {node.name}"
        same = value.size and (value == value.ravel()[0]).all()
        return _decimal(value.ravel()[0]) if same else VARIED

    def decimal(self, value: float) -> float:
        """The decimal of a float attribute, which has room for a float32."""
        return written_decimal(np.float32(value))

    def refusal(self, node: Any, why: str) -> ParityError:
        return ParityError(f"{self._description}: node {node.name!r} of type {node.op!r} {why}")


def _decimal(value: Any) -> float:
    return written_decimal(value) if value.dtype.kind == "f" else float(value)
