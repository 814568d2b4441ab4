"""Translate the networks to ONNX graphs, layer by layer, without torch's exporter.

`to_onnx` traces a network's forward pass with torch.fx and writes one or a few ONNX nodes for each
step; the networks have fourteen kinds of steps. This takes 1 second, while ``torch.onnx.export``
takes 16 and needs another package (torch 2.13). The bytes are always the same, and initializers
have the names and the exact values of the state_dict. Batch normalisations remain separate nodes,
which every runtime folds when it loads the file.

A layer without an entry in the tables below is an error; it is never approximated.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from facenet_common.errors import UsageError
from facenet_common.optional import require

MIN_OPSET = 16  # since then the definitions of PRelu, BatchNormalization and ReduceSum are stable
DEFAULT_OPSET = 17
INPUT = "images"


def check_opset(opset: int) -> None:
    """Raise UsageError unless the installed onnx package supports `opset`."""
    newest = require("onnx", "making an ONNX model").defs.onnx_opset_version()
    if not MIN_OPSET <= opset <= newest:
        raise UsageError(
            "this ONNX opset is not supported",
            expected=f"{MIN_OPSET} to {newest}",
            found=opset,
            next_step=f"use {DEFAULT_OPSET}, which nearly every runtime supports",
        )


def to_onnx(
    model: nn.Module,
    outputs: Mapping[str, Sequence[int | str]],
    *,
    image: Sequence[int | str],
    opset: int = DEFAULT_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Translate `model` to the bytes of an ONNX file; equal models give equal bytes.

    Args:
        model: In eval mode, float32, with the layers of this package's networks.
        outputs: Name and shape of each output, in order; a string in a shape is a free dimension.
        image: Shape of the input `INPUT`, ``(N, 3, H, W)``.
        opset: See `check_opset`.
        metadata: The file's ``metadata_props``; they are sorted.

    Raises:
        UsageError: The opset or a layer is not supported.

    Examples:
        >>> outputs, image = describe(model).shapes()  # doctest: +SKIP
        >>> data = to_onnx(model, outputs, image=image)  # doctest: +SKIP
    """
    onnx = require("onnx", "making an ONNX model")
    check_opset(opset)
    graph = _Graph(model)
    results = graph.translate()
    renamed = dict(zip(results, outputs, strict=True))
    for node in graph.nodes:
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [renamed.get(name, name) for name in node.input]
    single = onnx.TensorProto.FLOAT
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            type(model).__name__,
            [onnx.helper.make_tensor_value_info(INPUT, single, image)],
            [onnx.helper.make_tensor_value_info(n, single, s) for n, s in outputs.items()],
            list(graph.initializers.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        producer_name="facenet-parity",
    )
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    for key in sorted(metadata or {}):
        proto.metadata_props.add(key=key, value=(metadata or {})[key])
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


class _Tracer(fx.Tracer):
    """Trace the forward pass of a valid input."""

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Return False for comparisons with ``!=``, which are the networks' checks of shapes."""
        if obj.node.target is operator.ne:
            return False
        return bool(super().to_bool(obj))


class _Graph:
    """Nodes and initializers, in the order of the forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.onnx = require("onnx", "making an ONNX model")
        self.model = model
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.state = {name: value.detach() for name, value in model.state_dict().items()}

    def translate(self) -> list[str]:
        """Add all nodes and initializers, and return the names of the results."""
        traced = fx.GraphModule(self.model, _Tracer().trace(self.model)).graph
        traced.eliminate_dead_code()  # removes the checks of shapes
        values: dict[fx.Node, str] = {}
        for node in traced.nodes:
            inputs = [values[argument] for argument in node.all_input_nodes if argument in values]
            if node.op == "placeholder":
                values[node] = INPUT
            elif node.op == "output":
                return inputs
            elif node.op == "call_module":
                layer = self.model.get_submodule(str(node.target))
                translate = _MODULES.get(type(layer))
                if translate is None:
                    raise _untranslatable(type(layer).__name__)
                values[node] = translate(self, layer, str(node.target), inputs[0])
            else:
                function = _FUNCTIONS.get(node.target)
                if function is None:
                    raise _untranslatable(node.target)
                values[node] = function(self, node, values)
        raise AssertionError("torch.fx gives every graph an output")

    def add(self, kind: str, inputs: Sequence[str], label: str, **attributes: Any) -> str:
        """Append a node, and return the name of its output, which is also the node's name."""
        self.nodes.append(
            self.onnx.helper.make_node(kind, inputs, [label], name=label, **attributes)
        )
        return label

    def weight(self, name: str, shape: Sequence[int] | None = None) -> str:
        """Add the parameter or buffer `name` as an initializer, and return its name."""
        tensor = self.state[name]
        return self.constant(name, tensor.reshape(shape or tensor.shape).cpu().numpy())

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add an initializer if there is none with this name, and return its name."""
        if name not in self.initializers:
            self.initializers[name] = self.onnx.numpy_helper.from_array(
                np.ascontiguousarray(value), name
            )
        return name


def _conv(graph: _Graph, layer: nn.Conv2d, name: str, x: str) -> str:
    assert isinstance(layer.padding, tuple)
    height, width = layer.padding
    return graph.add(
        "Conv",
        [x, graph.weight(f"{name}.weight"), *_bias(graph, layer, name)],
        name,
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=[height, width, height, width],
        dilations=layer.dilation,
        group=layer.groups,
    )


def _linear(graph: _Graph, layer: nn.Linear, name: str, x: str) -> str:
    weight = graph.weight(f"{name}.weight")
    return graph.add("Gemm", [x, weight, *_bias(graph, layer, name)], name, transB=1)


def _bias(graph: _Graph, layer: nn.Conv2d | nn.Linear, name: str) -> list[str]:
    return [] if layer.bias is None else [graph.weight(f"{name}.bias")]


def _batch_norm(graph: _Graph, layer: nn.Module, name: str, x: str) -> str:
    parts = ("weight", "bias", "running_mean", "running_var")
    inputs = [x, *(graph.weight(f"{name}.{part}") for part in parts)]
    return graph.add("BatchNormalization", inputs, name, epsilon=layer.eps)


def _max_pool(graph: _Graph, layer: nn.MaxPool2d, name: str, x: str) -> str:
    return graph.add(
        "MaxPool",
        [x],
        name,
        kernel_shape=_pair(layer.kernel_size),
        strides=_pair(layer.stride),
        ceil_mode=int(layer.ceil_mode),
    )


def _average(graph: _Graph, layer: nn.AdaptiveAvgPool2d, name: str, x: str) -> str:
    if layer.output_size not in (1, (1, 1)):
        raise _untranslatable(layer)
    return graph.add("GlobalAveragePool", [x], name)


def _prelu(graph: _Graph, layer: nn.Module, name: str, x: str) -> str:
    # ONNX broadcasts from the last dimension, torch along the second.
    trailing = (1, 1) if _is_map(graph, x) else ()
    assert isinstance(layer, nn.PReLU)
    slope = graph.weight(f"{name}.weight", (layer.num_parameters, *trailing))
    return graph.add("PRelu", [x, slope], name)


def _is_map(graph: _Graph, x: str) -> bool:
    """Return whether `x` has height and width: it has, unless a dense layer computed it."""
    producer = next(node for node in graph.nodes if node.output[0] == x)
    return bool(producer.op_type != "Gemm")


def _pair(size: Any) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def _binary(kind: str) -> Callable[[_Graph, fx.Node, Mapping[fx.Node, str]], str]:
    """Return the translation of an operator on two values, either of which may be a number."""

    def translate(graph: _Graph, node: fx.Node, values: Mapping[fx.Node, str]) -> str:
        inputs = [
            values[argument]
            if isinstance(argument, fx.Node)
            else graph.constant(f"{node.name}.factor", np.array(argument, np.float32))
            for argument in node.args
        ]
        return graph.add(kind, inputs, node.name)

    return translate


def _cat(graph: _Graph, node: fx.Node, values: Mapping[fx.Node, str]) -> str:
    parts: Any = node.args[0]
    return graph.add("Concat", [values[part] for part in parts], node.name, axis=node.kwargs["dim"])


def _flatten(graph: _Graph, node: fx.Node, values: Mapping[fx.Node, str]) -> str:
    source, axis = node.args
    return graph.add("Flatten", [values[source]], node.name, axis=axis)  # type: ignore[index] # a Node


def _permute(graph: _Graph, node: fx.Node, values: Mapping[fx.Node, str]) -> str:
    source, *order = node.args
    return graph.add("Transpose", [values[source]], node.name, perm=order)  # type: ignore[index] # a Node


def _normalize(graph: _Graph, node: fx.Node, values: Mapping[fx.Node, str]) -> str:
    """Translate ``x / max(|x|, eps)`` along the second dimension."""
    x = values[node.args[0]]  # type: ignore[index] # a Node
    if node.kwargs["p"] != 2.0 or node.kwargs["dim"] != 1:
        raise _untranslatable(node)
    name = node.name
    squares = graph.add("Mul", [x, x], f"{name}.squares")
    axes = graph.constant(f"{name}.axes", np.array([1], np.int64))
    total = graph.add("ReduceSum", [squares, axes], f"{name}.sum", keepdims=1)
    length = graph.add("Sqrt", [total], f"{name}.length")
    floor = graph.constant(f"{name}.eps", np.array(node.kwargs["eps"], np.float32))
    return graph.add("Div", [x, graph.add("Max", [length, floor], f"{name}.bounded")], name)


def _untranslatable(what: object) -> UsageError:
    return UsageError(
        "this model can't be exported as ONNX: it has a layer that the networks of this package "
        "do not have",
        found=what,
        next_step="export it with torch.onnx.export",
    )


# The translation of each layer: a function of (graph, layer, its name, name of its input) that
# returns the name of its output.
_MODULES: dict[type[nn.Module], Callable[[_Graph, Any, str, str], str]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda graph, _layer, name, x: graph.add("Relu", [x], name),
    nn.PReLU: _prelu,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _average,
    nn.Softmax: lambda graph, layer, name, x: graph.add("Softmax", [x], name, axis=layer.dim),
    nn.Dropout: lambda _graph, _layer, _name, x: x,  # eval mode
    nn.Identity: lambda _graph, _layer, _name, x: x,
}

# The same for functions, methods and operators.
_FUNCTIONS: dict[object, Callable[[_Graph, fx.Node, Mapping[fx.Node, str]], str]] = {
    operator.add: _binary("Add"),
    operator.mul: _binary("Mul"),
    torch.cat: _cat,
    F.normalize: _normalize,
    "flatten": _flatten,
    "permute": _permute,
}
