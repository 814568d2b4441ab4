"""Shared parts of P-Net, R-Net and O-Net as TF1 graphs.

Layers and names: davidsandberg/facenet ``src/align/detect_face.py`` at 096ed77. Images are fed as
the original feeds them: NHWC with height and width exchanged, ``(pixel - 127.5) / 128``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from parity_tests.frameworks import quiet_tensorflow, tensorflow
from parity_tests.tf_graphs.layers import Tensor, variable


class Conv(NamedTuple):
    """Square convolution with bias, stride 1, VALID; a PReLU called `prelu` after it."""

    name: str
    filters: int
    kernel: int
    prelu: str


class Pool(NamedTuple):
    """Square max pooling, stride 2."""

    name: str
    kernel: int
    padding: str


class Dense(NamedTuple):
    """Fully connected layer with bias; a PReLU called `prelu` after it. Flattens NHWC first."""

    name: str
    outputs: int
    prelu: str


class Head(NamedTuple):
    """The last layer of one output. `result` is the output's name and `size` its length."""

    name: str
    result: str
    size: int


@dataclass(frozen=True)
class MtcnnNet:
    """One of the three networks, as data.

    Attributes:
        name: Its variable scope.
        original: Its class in the original's ``detect_face.py``.
        size: Height and width of its images; None: any, at least 12.
        layers: From the image to the tensor that all heads share.
        heads: In the order in which the original creates them; probability first.
        outputs: Names of the tensors that the original fetches, by result: regression,
            (landmarks,) probability, in the order in which facenet_models returns them.
    """

    name: str
    original: str
    size: int | None
    layers: tuple[Conv | Pool | Dense, ...]
    heads: tuple[Head, ...]
    outputs: Mapping[str, str]

    @property
    def images(self) -> tuple[str, ...]:
        """Return the name of the placeholder for images."""
        return (f"{self.name}/input",)

    def build(self, dims: Mapping[str, int]) -> Tensor:
        """Return a new ``tf.Graph`` of it; it has no sizes that vary, so `dims` is ignored."""
        del dims
        with tensorflow().Graph().as_default() as graph:
            mtcnn_net(self)
        return graph


def mtcnn_net(net: MtcnnNet) -> Mapping[str, Tensor]:
    """Add `net` to the current graph, with a placeholder ``NAME/input:0`` for the images.

    Returns:
        The outputs by result, as in `MtcnnNet.outputs`: ``(N, W', H', C)`` for P-Net, else
        ``(N, C)``; float32.
    """
    tf = tensorflow().compat.v1
    results: dict[str, Tensor] = {}
    with quiet_tensorflow(), tf.variable_scope(net.name):
        hidden = tf.placeholder(tf.float32, (None, net.size, net.size, 3), name="input")
        for layer in net.layers:
            hidden = _layer(hidden, layer)
        for head in net.heads:
            spatial = hidden.shape.rank == 4
            output = (
                _conv(hidden, head.name, head.size, 1)
                if spatial
                else _dense(hidden, head.name, head.size)
            )
            if head.result == "probability":
                output = _softmax(output)
            results[head.result] = output
    return {result: results[result] for result in net.outputs}


def _layer(hidden: Tensor, layer: Conv | Pool | Dense) -> Tensor:
    tf = tensorflow().compat.v1
    match layer:
        case Conv():
            return _prelu(_conv(hidden, layer.name, layer.filters, layer.kernel), layer.prelu)
        case Pool():
            window = (1, layer.kernel, layer.kernel, 1)
            return tf.nn.max_pool(hidden, window, (1, 2, 2, 1), layer.padding, name=layer.name)
        case Dense():
            flat = tf.reshape(hidden, (-1, hidden.shape[1:].num_elements()))
            return _prelu(_dense(flat, layer.name, layer.outputs), layer.prelu)


def _conv(hidden: Tensor, name: str, filters: int, kernel: int) -> Tensor:
    tf = tensorflow().compat.v1
    with tf.variable_scope(name):
        weights = variable("weights", (kernel, kernel, hidden.shape[3], filters))
        biases = variable("biases", (filters,))
        hidden = tf.nn.conv2d(hidden, weights, (1, 1, 1, 1), "VALID", name="Conv2D")
        return tf.nn.bias_add(hidden, biases, name="BiasAdd")


def _dense(hidden: Tensor, name: str, outputs: int) -> Tensor:
    tf = tensorflow().compat.v1
    with tf.variable_scope(name):
        weights = variable("weights", (hidden.shape[1], outputs))
        biases = variable("biases", (outputs,))
        return tf.nn.xw_plus_b(hidden, weights, biases, name=name)


def _prelu(hidden: Tensor, name: str) -> Tensor:
    """Add a PReLU with one slope per channel, composed of ReLUs as in the original."""
    tf = tensorflow().compat.v1
    with tf.variable_scope(name):
        alpha = variable("alpha", (hidden.shape[-1],))
        return tf.nn.relu(hidden) - alpha * tf.nn.relu(-hidden)


def _softmax(logits: Tensor) -> Tensor:
    """Add a softmax over the last axis, named ``prob1``, with the original's own arithmetic."""
    tf = tensorflow().compat.v1
    powers = tf.exp(logits - tf.reduce_max(logits, -1, keepdims=True))
    return tf.divide(powers, tf.reduce_sum(powers, -1, keepdims=True), name="prob1")
