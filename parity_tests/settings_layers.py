"""Layers of a TensorFlow graph, each read off the few nodes that it is made of."""

from __future__ import annotations

from typing import Any

from parity_tests.settings_nodes import ADDITIONS, Nodes
from parity_tests.settings_words import (
    BATCH,
    BY_SIZE,
    LAST_MAP,
    SAME,
    STORED,
    VALID,
    WHOLE_MAP,
    Settings,
    convolution_padding,
    pooling_padding,
)
from parity_tests.tf_graphs.serving import ServingGraph

_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_FUSED_EPSILON = 0.0001  # TensorFlow's default, which a graph may leave out


class Layers:
    """Reads layers in the network's order, and remembers which node is which layer's output."""

    swapped = False  # whether the graph's height is the image's width

    def __init__(self, graph: ServingGraph) -> None:
        self.nodes = Nodes(graph)
        self.found: Settings = {}

    def convolution(self, path: str, conv: Any) -> None:
        """The settings of a convolution; not its activation."""
        nodes = self.nodes
        if nodes.text(conv, "data_format", "NHWC") != "NHWC":
            raise nodes.refusal(conv, "does not take NHWC")
        kernel = self._plane(nodes.shape(conv.input[1])[:2])
        stride = self._plane(nodes.numbers(conv, "strides")[1:3])
        dilation = self._plane((nodes.numbers(conv, "dilations") or [1] * 4)[1:3])
        word = nodes.text(conv, "padding")
        totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        if word == VALID:
            sides = [[0, 0], [0, 0]]
        elif word == SAME:
            sides = [[total // 2, total - total // 2] for total in totals]
        else:
            flat = nodes.numbers(conv, "explicit_paddings")
            sides = self._plane([flat[2:4], flat[4:6]])
        padding: Any = convolution_padding(kernel, dilation, sides)
        if word == SAME == padding and stride != [1, 1]:
            padding = BY_SIZE
        self.add(path, kernel=kernel, stride=stride, padding=padding, dilation=dilation)

    def pool(self, path: str, node: Any, size: int = 0) -> None:
        """A pooling; `size`: see `POOL_INPUTS`."""
        nodes = self.nodes
        kind = "max" if node.op == "MaxPool" else "average"
        settings: dict[str, Any] = {"input": nodes.layer(node.input[0]), "kind": kind}
        kernel: Any = WHOLE_MAP
        stride, padding = [1, 1], VALID
        if node.op == "Mean":
            axes = nodes.constant(node.input[1])
            if axes is None or sorted(axes.ravel().tolist()) != [1, 2]:
                raise nodes.refusal(node, "averages over other axes than height and width")
        else:
            kernel = self._plane(nodes.numbers(node, "ksize")[1:3])
            stride = self._plane(nodes.numbers(node, "strides")[1:3])
            same = nodes.text(node, "padding") == SAME
            padding = pooling_padding(same, kernel, stride, size)
            if path == "avgpool_1a" and kernel == LAST_MAP:
                kernel = WHOLE_MAP
        self.add(path, **settings, kernel=kernel, stride=stride, padding=padding)
        nodes.name_output(node, path)

    def batch_norm(self, path: str, before: Any) -> Any:
        """The batch norm after `before`; its last node."""
        nodes = self.nodes
        after = nodes.only_after(before)
        if after.op in _FUSED:
            epsilon = _FUSED_EPSILON
            if "epsilon" in after.attr:
                epsilon = nodes.decimal(after.attr["epsilon"].f)
            stored = "is_training" in after.attr and not after.attr["is_training"].b
            gain = nodes.uniform(after.input[1])
        elif after.op == "Mul":
            root, gain = self._unfused(after, before)
            variance, epsilon = self._raised(root)
            stored = nodes.is_stored(variance)
            after = nodes.only_after(after)
            if after.op not in ADDITIONS:
                raise nodes.refusal(after, "should add a batch norm's offset")
        else:
            raise nodes.refusal(after, f"should be the batch norm of {before.name!r}")
        statistics = STORED if stored else BATCH
        self.add(path, epsilon=epsilon, statistics=statistics, gain=gain)
        return after

    def _unfused(self, product: Any, before: Any) -> tuple[Any, Any]:
        """The ``Rsqrt`` that `before` is multiplied by, and the factor beside it."""
        nodes = self.nodes
        factor = nodes.other(product, before)
        gain: Any = 1.0
        if factor.op == "Mul":
            one, two = factor.input
            if nodes.source(one).op != "Rsqrt":
                one, two = two, one
            factor, gain = nodes.source(one), nodes.uniform(two)
        if factor.op != "Rsqrt":
            raise nodes.refusal(product, "should scale by 1 / sqrt(variance + epsilon)")
        return factor, gain

    def _raised(self, root: Any) -> tuple[str, float]:
        """The variance below a root, and the scalar that is added to it."""
        total = self.nodes.source(root.input[0])
        if total.op in ADDITIONS:
            for one, two in (total.input, reversed(total.input)):
                epsilon = self.nodes.scalar(two)
                if epsilon is not None:
                    return one, epsilon
        raise self.nodes.refusal(root, "should be the root of variance plus epsilon")

    def transposed(self, path: str, product: Any) -> None:
        """Note a matrix product that turns one of its factors; none should."""
        for name in ("transpose_a", "transpose_b"):
            if name in product.attr and product.attr[name].b:
                self.add(path, **{name: True})

    def _plane(self, numbers: Any) -> list[Any]:
        """Height and width."""
        return list(reversed(numbers)) if self.swapped else list(numbers)

    def add(self, path: str, **settings: Any) -> None:
        """Settings of a layer, besides those that it has."""
        self.found[path] = self.found.get(path, {}) | settings
