"""Settings of a TensorFlow graph, read off its protocol buffer; no TensorFlow session runs.

Layers are found by the original's scopes and told by the operations in them and by what these are
wired to, not by the operations' own names: those changed from one TensorFlow to the next (slim's
``Conv2D`` was ``convolution`` in 2017), and a batch norm may be fused or spelt out.
"""

from __future__ import annotations

from typing import Any

from facenet_common.errors import ParityError
from parity_tests.scopes import (
    BLOCK8,
    MIXED,
    MTCNN,
    REPEATS,
    STEM,
    Branches,
)
from parity_tests.settings_layers import Layers
from parity_tests.settings_nodes import ADDITIONS
from parity_tests.settings_words import NOT_NORMALISED, OTHER_FUNCTION, POOL_INPUTS, Settings
from parity_tests.tf_graphs.serving import ServingGraph

_QUOTIENTS = ("RealDiv", "Div")
_SCOPE = "InceptionResnetV1"


def graph_settings(graph: ServingGraph, architecture: str) -> Settings:
    """The settings of `graph` while it serves (``phase_train`` false); it is not changed.

    Numbers stored as float32 are read as the shortest decimal that rounds to them: 0.17.

    Args:
        graph: The project's own, or one from a file, of any TensorFlow.
        architecture: "inception_resnet_v1", "pnet", "rnet" or "onet".

    Raises:
        ParityError: A layer isn't there or is there twice, or it isn't what its scope says; the
            message names the node or scope. Or there is no such architecture.
    """
    if architecture in MTCNN:
        return _Mtcnn(graph, architecture).settings()
    if architecture != "inception_resnet_v1":
        raise ParityError(f"there are no settings of the architecture {architecture!r}")
    return _InceptionResnetV1(graph).settings()


class _InceptionResnetV1(Layers):
    def settings(self) -> Settings:
        nodes = self.nodes
        for scope, path in STEM.items():
            self._layer(path, f"{_SCOPE}/{scope}")
        for repeat, (path, block, times, branches, _) in REPEATS.items():
            for number in range(times):
                scope = f"{_SCOPE}/{repeat}/{block}_{number + 1}"
                self._residual(f"{path}.{number}", scope, branches)
            reduction = {"Repeat": "Mixed_6a", "Repeat_1": "Mixed_7a"}.get(repeat)
            if reduction:
                path, branches = MIXED[reduction]
                joined = self._branches(path, f"{_SCOPE}/{reduction}", branches)
                nodes.name_output(joined, path)
        self._residual("block8", f"{_SCOPE}/Block8", BLOCK8)
        self.pool("avgpool_1a", nodes.one(f"{_SCOPE}/Logits", "AvgPool", "Mean", "MaxPool"))
        self.add("dropout", active=nodes.has("RandomUniform"))
        linear = nodes.one(f"{_SCOPE}/Bottleneck", "MatMul")
        self.add("last_linear", input=nodes.layer(linear.input[0]))
        self.transposed("last_linear", linear)
        nodes.name_output(linear, "last_linear")
        self.add("last_bn", input="last_linear")
        nodes.name_output(self.batch_norm("last_bn", linear), "last_bn")
        self._normalisation()
        return self.found

    def _layer(self, path: str, scope: str) -> None:
        """A max pooling, or a convolution with batch norm and perhaps a ReLU."""
        nodes = self.nodes
        if "MaxPool" in scope:
            self.pool(path, nodes.one(scope, "MaxPool", "AvgPool"))
            return
        conv = nodes.one(scope, "Conv2D")
        self.add(path, input=nodes.layer(conv.input[0]))
        self.convolution(f"{path}.conv", conv)
        self._activated(path, self.batch_norm(f"{path}.bn", conv))

    def _activated(self, path: str, node: Any) -> None:
        after = self.nodes.relu_after(node)
        self.add(path, relu=after is not None)
        self.nodes.name_output(after or node, path)

    def _branches(self, path: str, scope: str, branches: Branches) -> Any:
        """Each branch's layers; the node that joins them."""
        for index, layers in enumerate(branches):
            for number, layer in enumerate(layers):
                own = f"{path}.branch{index}" + (f".{number}" if len(layers) > 1 else "")
                self._layer(own, f"{scope}/Branch_{index}/{layer}")
        concat = self.nodes.one(scope, "ConcatV2", "Concat")
        *inputs, axis = concat.input
        if concat.op == "Concat":
            axis, *inputs = concat.input
        ends = {
            f"{path}.branch{i}" + (f".{len(b) - 1}" if len(b) > 1 else ""): f"branch{i}"
            for i, b in enumerate(branches)
        }
        sources = [self.nodes.layer(reference) for reference in inputs]
        order = [ends.get(source, source) for source in sources]
        axes = ("batch", "height", "width", "channels")
        self.add(path, branches=order, axis=_axis(self.nodes.scalar(axis), axes))
        return concat

    def _residual(self, path: str, scope: str, branches: Branches) -> None:
        nodes = self.nodes
        joined = self._branches(path, scope, branches)
        conv = nodes.only_after(joined)
        if conv.op != "Conv2D":
            raise nodes.refusal(conv, f"should be the projection in {scope!r}")
        self.convolution(f"{path}.conv2d", conv)
        change = nodes.only_after(conv)
        if change.op not in ("BiasAdd", *ADDITIONS):
            raise nodes.refusal(change, f"should add the bias of the projection in {scope!r}")
        after, scale = nodes.only_after(change), None
        if after.op == "Mul":
            scale = nodes.scalar(nodes.other_reference(after, change))
            if scale is None:
                raise nodes.refusal(after, "should scale by a constant")
            change, after = after, nodes.only_after(after)
        if after.op not in ADDITIONS:
            raise nodes.refusal(after, f"should add the residual in {scope!r} to its input")
        shortcut = nodes.layer(nodes.other_reference(after, change))
        self.add(path, input=shortcut, scale=1.0 if scale is None else scale)
        self._activated(path, after)

    def _normalisation(self) -> None:
        """``x * rsqrt(max(sum(x * x), epsilon))``, as ``tf.nn.l2_normalize`` spells it."""
        nodes = self.nodes
        output = nodes.outputs[0]
        answer = nodes.source(output)
        if nodes.layer(output) == "last_bn":
            self.add("", answers=["last_bn"], l2_epsilon=NOT_NORMALISED)
            return
        wanted = {"Mul": "Rsqrt", **dict.fromkeys(_QUOTIENTS, "Sqrt")}.get(answer.op)
        roots = [reference for reference in answer.input if nodes.source(reference).op == wanted]
        if len(roots) != 1:
            raise nodes.refusal(answer, "is neither prelogits nor these divided by their length")
        value = next(reference for reference in answer.input if reference != roots[0])
        epsilon = self._bound(nodes.source(nodes.source(roots[0]).input[0]), value)
        self.add("", answers=[nodes.layer(value)], l2_epsilon=epsilon)

    def _bound(self, squared: Any, value: str) -> float | str:
        """Below what the squared length of `value`'s rows can't be."""
        nodes, epsilon = self.nodes, 0.0
        if squared.op == "Maximum":
            numbers = {reference: nodes.scalar(reference) for reference in squared.input}
            constants = [number for number in numbers.values() if number is not None]
            if len(constants) != 1:
                raise nodes.refusal(squared, "should bound the squared length by a constant")
            epsilon = constants[0]
            squared = nodes.source(next(r for r, number in numbers.items() if number is None))
        square = nodes.source(squared.input[0]) if squared.op == "Sum" else squared
        if square.op != "Square":
            raise nodes.refusal(squared, "should be the squared length of the embeddings")
        same = nodes.source(square.input[0]).name == nodes.source(value).name
        return epsilon if same and nodes.scalar(squared.input[1]) in (1, -1) else OTHER_FUNCTION


class _Mtcnn(Layers):
    # The original transposes images before it feeds them.
    swapped = True

    def __init__(self, graph: ServingGraph, net: str) -> None:
        super().__init__(graph)
        self._net = net
        self._maps = set[str]()  # layers that give a feature map

    def settings(self) -> Settings:
        for scope, path, _ in MTCNN[self._net]:
            kind = path.rstrip("0123456789_")
            getattr(self, f"_{kind}")(path, f"{self._net}/{scope}")
            source = self.found[path]["input"]
            if kind in ("conv", "pool") or (kind == "prelu" and source in self._maps):
                self._maps.add(path)
        nodes = self.nodes
        self.add("", answers=[nodes.layer(output) for output in nodes.outputs])
        return self.found

    def _conv(self, path: str, scope: str) -> None:
        conv = self.nodes.one(scope, "Conv2D")
        self.add(path, input=self.nodes.layer(conv.input[0]))
        self.convolution(path, conv)
        self._biased(path, conv)

    def _dense(self, path: str, scope: str) -> None:
        nodes = self.nodes
        product = nodes.one(scope, "MatMul")
        source = nodes.layer(product.input[0])
        self.add(path, input=source)
        if source in self._maps:
            self.add(path, flatten="WHC")  # a Reshape keeps the order of the graph's axes
        self.transposed(path, product)
        self._biased(path, product)

    def _biased(self, path: str, node: Any) -> None:
        after = self.nodes.only_after(node)
        if after.op not in ("BiasAdd", *ADDITIONS):
            raise self.nodes.refusal(after, f"should add the bias to {node.name!r}")
        self.nodes.name_output(after, path)

    def _pool(self, path: str, scope: str) -> None:
        size = POOL_INPUTS.get(self._net, {}).get(path, 0)
        self.pool(path, self.nodes.one(scope, "MaxPool", "AvgPool"), size)

    def _prelu(self, path: str, scope: str) -> None:
        """``relu(x) - alpha * relu(-x)``, with the sign in either place."""
        nodes = self.nodes
        product = nodes.one(scope, "Mul")
        total = nodes.only_after(product)
        shapes = [nodes.shape_or_none(reference) or [] for reference in product.input]
        slopes = [shape for shape in shapes if len(shape) == 1]
        negations = len(nodes.below(scope, "Neg"))
        relus = nodes.below(scope, "Relu")
        signs = {("Sub", 1), *((op, 2) for op in ADDITIONS)}
        if (total.op, negations) not in signs or len(relus) != 2 or len(slopes) != 1:
            raise nodes.refusal(total, f"should end a PReLU in {scope!r}")
        # The other ReLU gets the negated input.
        source = next((r.input[0] for r in relus if nodes.source(r.input[0]).op != "Neg"), None)
        if source is None:
            raise nodes.refusal(total, f"should end a PReLU in {scope!r}")
        self.add(path, input=nodes.layer(source), slopes=slopes[0][0])
        nodes.name_output(total, path)

    def _softmax(self, path: str, scope: str) -> None:
        nodes = self.nodes
        last = nodes.node(scope)
        axis: float | None = -1
        source = last.input[0]
        if last.op != "Softmax":
            parts = [nodes.source(reference) for reference in last.input]
            if last.op not in _QUOTIENTS or [part.op for part in parts] != ["Exp", "Sum"]:
                raise nodes.refusal(last, "should be a softmax")
            powers, total = parts
            axis, source = nodes.scalar(total.input[1]), powers.input[0]
            if nodes.source(source).op == "Sub":  # the largest, so that no power overflows
                source = nodes.source(source).input[0]
        layer = nodes.layer(source)
        plane = ("width", "height") if layer in self._maps else ()
        self.add(path, input=layer, axis=_axis(axis, ("batch", *plane, "channels")))
        nodes.name_output(last, path)


def _axis(number: float | None, axes: tuple[str, ...]) -> str:
    if number is None or not -len(axes) <= number < len(axes):
        return OTHER_FUNCTION
    return axes[int(number)]
