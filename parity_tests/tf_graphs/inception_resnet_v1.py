"""InceptionResnetV1 as a TF1 graph.

Layers, names and order: davidsandberg/facenet ``src/models/inception_resnet_v1.py`` and
``src/train_softmax.py`` at 096ed77; the architecture is Inception-ResNet-v1 of arXiv:1602.07261.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from parity_tests.frameworks import quiet_tensorflow, tensorflow
from parity_tests.tf_graphs.layers import (
    Conv,
    Pool,
    Tensor,
    batch_norm,
    conv,
    dropout,
    max_pool,
    projection,
    variable,
)

IMAGE_SIZE = 160  # height and width of the published models' input
L2_EPSILON = 1e-10  # train_softmax.py: tf.nn.l2_normalize(prelogits, 1, 1e-10)

Branch = tuple[Conv | Pool, ...]


class Residual(NamedTuple):
    """Branches, joined, projected to the input's depth, times `scale`, added to the input."""

    branches: tuple[Branch, ...]
    scale: float
    relu: bool = True


class Repeat(NamedTuple):
    """`times` residual blocks, scopes ``SCOPE/BLOCK_1`` to ``SCOPE/BLOCK_times``."""

    scope: str
    block: str
    times: int
    residual: Residual


class Reduction(NamedTuple):
    """Branches, each ending at half the size, joined."""

    scope: str
    branches: tuple[Branch, ...]


_BLOCK35 = Residual(
    branches=(
        (Conv("Conv2d_1x1", 32, (1, 1)),),
        (Conv("Conv2d_0a_1x1", 32, (1, 1)), Conv("Conv2d_0b_3x3", 32, (3, 3))),
        (
            Conv("Conv2d_0a_1x1", 32, (1, 1)),
            Conv("Conv2d_0b_3x3", 32, (3, 3)),
            Conv("Conv2d_0c_3x3", 32, (3, 3)),
        ),
    ),
    scale=0.17,
)
_BLOCK17 = Residual(
    branches=(
        (Conv("Conv2d_1x1", 128, (1, 1)),),
        (
            Conv("Conv2d_0a_1x1", 128, (1, 1)),
            Conv("Conv2d_0b_1x7", 128, (1, 7)),
            Conv("Conv2d_0c_7x1", 128, (7, 1)),
        ),
    ),
    scale=0.10,
)
_BLOCK8 = Residual(
    branches=(
        (Conv("Conv2d_1x1", 192, (1, 1)),),
        (
            Conv("Conv2d_0a_1x1", 192, (1, 1)),
            Conv("Conv2d_0b_1x3", 192, (1, 3)),
            Conv("Conv2d_0c_3x1", 192, (3, 1)),
        ),
    ),
    scale=0.20,
)
_LAST_BLOCK8 = _BLOCK8._replace(scale=1.0, relu=False)

_REDUCTION_A = Reduction(
    "Mixed_6a",
    (
        (Conv("Conv2d_1a_3x3", 384, (3, 3), 2, "VALID"),),
        (
            Conv("Conv2d_0a_1x1", 192, (1, 1)),
            Conv("Conv2d_0b_3x3", 192, (3, 3)),
            Conv("Conv2d_1a_3x3", 256, (3, 3), 2, "VALID"),
        ),
        (Pool("MaxPool_1a_3x3"),),
    ),
)
_REDUCTION_B = Reduction(
    "Mixed_7a",
    (
        (Conv("Conv2d_0a_1x1", 256, (1, 1)), Conv("Conv2d_1a_3x3", 384, (3, 3), 2, "VALID")),
        (Conv("Conv2d_0a_1x1", 256, (1, 1)), Conv("Conv2d_1a_3x3", 256, (3, 3), 2, "VALID")),
        (
            Conv("Conv2d_0a_1x1", 256, (1, 1)),
            Conv("Conv2d_0b_3x3", 256, (3, 3)),
            Conv("Conv2d_1a_3x3", 256, (3, 3), 2, "VALID"),
        ),
        (Pool("MaxPool_1a_3x3"),),
    ),
)

# From image to last block: (name of the end point, step).
_TRUNK: tuple[tuple[str, Conv | Pool | Repeat | Reduction], ...] = (
    ("Conv2d_1a_3x3", Conv("Conv2d_1a_3x3", 32, (3, 3), 2, "VALID")),
    ("Conv2d_2a_3x3", Conv("Conv2d_2a_3x3", 32, (3, 3), 1, "VALID")),
    ("Conv2d_2b_3x3", Conv("Conv2d_2b_3x3", 64, (3, 3))),
    ("MaxPool_3a_3x3", Pool("MaxPool_3a_3x3")),
    ("Conv2d_3b_1x1", Conv("Conv2d_3b_1x1", 80, (1, 1), 1, "VALID")),
    ("Conv2d_4a_3x3", Conv("Conv2d_4a_3x3", 192, (3, 3), 1, "VALID")),
    ("Conv2d_4b_3x3", Conv("Conv2d_4b_3x3", 256, (3, 3), 2, "VALID")),
    ("Mixed_5a", Repeat("Repeat", "block35", 5, _BLOCK35)),
    ("Mixed_6a", _REDUCTION_A),
    ("Mixed_6b", Repeat("Repeat_1", "block17", 10, _BLOCK17)),
    ("Mixed_7a", _REDUCTION_B),
    ("Mixed_8a", Repeat("Repeat_2", "block8", 5, _BLOCK8)),
)


@dataclass(frozen=True)
class InceptionResnetV1Graph:
    """Tensors of the graph, float32.

    Attributes:
        embeddings: ``(N, embedding_size)``, rows of L2 norm 1; its name is ``embeddings:0``.
        prelogits: The same before normalisation.
        logits: ``(N, classes)``, or None without a classifier.
        end_points: NHWC activations (``PreLogitsFlatten``: NC) by the original's names, in order.
    """

    embeddings: Tensor
    prelogits: Tensor
    logits: Tensor | None
    end_points: Mapping[str, Tensor]


def inception_resnet_v1(
    images: Tensor, phase_train: Tensor, embedding_size: int, classes: int = 0
) -> InceptionResnetV1Graph:
    """Add InceptionResnetV1 to the current graph.

    Args:
        images: Float32 ``(N, H, W, 3)``, H and W known and at least 75.
        phase_train: Boolean scalar tensor; true: batch statistics and dropout.
        embedding_size: Length of an embedding.
        classes: Outputs of the classifier ``Logits``; 0 leaves it out.
    """
    tf = tensorflow().compat.v1
    with quiet_tensorflow():
        end_points: dict[str, Tensor] = {}
        with tf.variable_scope("InceptionResnetV1"):
            net = images
            for end_point, step in _TRUNK:
                net = end_points[end_point] = _step(net, step, phase_train)
            with tf.variable_scope("Block8"):
                net = _residual(net, _LAST_BLOCK8, phase_train)
            end_points["Mixed_8b"] = end_points["PrePool"] = net
            with tf.name_scope("Logits"):
                net = end_points["PreLogitsFlatten"] = _pool_and_flatten(net, phase_train)
            prelogits = _bottleneck(net, embedding_size, phase_train)
        logits = _classifier(prelogits, classes) if classes else None
        embeddings = tf.nn.l2_normalize(prelogits, 1, L2_EPSILON, name="embeddings")
    return InceptionResnetV1Graph(embeddings, prelogits, logits, end_points)


def inference_graph(embedding_size: int, classes: int = 0, size: int = IMAGE_SIZE) -> Tensor:
    """Build a graph of InceptionResnetV1 with the original's own inputs and outputs.

    ``input:0`` is float32 ``(N, size, size, 3)``, the identity of ``image_batch:0``;
    ``phase_train:0`` is false unless fed; ``label_batch:0`` is int32 ``(N,)`` and unused;
    ``embeddings:0`` is the output.

    Returns:
        A ``tf.Graph``.
    """
    tf = tensorflow().compat.v1
    with tf.Graph().as_default() as graph, quiet_tensorflow():
        batch = tf.placeholder(tf.float32, (None, size, size, 3), name="image_batch")
        images = tf.identity(batch, name="input")
        tf.placeholder(tf.int32, (None,), name="label_batch")
        phase_train = tf.placeholder_with_default(False, (), name="phase_train")
        inception_resnet_v1(images, phase_train, embedding_size, classes)
    return graph


class _Graph:
    """Implements `parity_tests.tf_graphs.network.NetworkGraph`."""

    name = "inception_resnet_v1"
    images = ("input", "image_batch")  # facenet.py feeds the first; old graphs have only the second
    outputs: Mapping[str, str] = {"embeddings": "embeddings:0"}

    def build(self, dims: Mapping[str, int]) -> Tensor:
        """Return a new ``tf.Graph`` without the classifier, which no output needs."""
        return inference_graph(dims["embedding"])


INCEPTION_RESNET_V1 = _Graph()


def _step(net: Tensor, step: Conv | Pool | Repeat | Reduction, phase_train: Tensor) -> Tensor:
    tf = tensorflow().compat.v1
    match step:
        case Conv():
            return conv(net, step, phase_train)
        case Pool():
            return max_pool(net, step)
        case Reduction():
            with tf.variable_scope(step.scope):
                return _branches(net, step.branches, phase_train)
        case Repeat():
            with tf.variable_scope(step.scope):
                for number in range(1, step.times + 1):
                    with tf.variable_scope(f"{step.block}_{number}"):
                        net = _residual(net, step.residual, phase_train)
            return net


def _branches(net: Tensor, branches: tuple[Branch, ...], phase_train: Tensor) -> Tensor:
    """Add each branch in a scope ``Branch_I``, and concatenate their outputs along the channels."""
    tf = tensorflow().compat.v1
    outputs = []
    for index, branch in enumerate(branches):
        with tf.variable_scope(f"Branch_{index}"):
            output = net
            for step in branch:
                output = _step(output, step, phase_train)
        outputs.append(output)
    return tf.concat(outputs, 3, name="concat")


def _residual(net: Tensor, residual: Residual, phase_train: Tensor) -> Tensor:
    tf = tensorflow().compat.v1
    mixed = _branches(net, residual.branches, phase_train)
    change = projection(mixed, "Conv2d_1x1", net.shape[3])
    net = tf.add(net, tf.multiply(residual.scale, change, name="mul"), name="add")
    return tf.nn.relu(net, name="Relu") if residual.relu else net


def _pool_and_flatten(net: Tensor, phase_train: Tensor) -> Tensor:
    """Add the mean over all positions, then dropout: NHWC to NC."""
    tf = tensorflow().compat.v1
    with tf.name_scope("AvgPool_1a_8x8"):
        window = (1, net.shape[1], net.shape[2], 1)
        pooled = tf.nn.avg_pool(net, window, (1, 1, 1, 1), "VALID", name="AvgPool")
    flat = tf.reshape(pooled, (-1, net.shape[3]), name="Flatten/flatten/Reshape")
    return dropout(flat, phase_train)


def _bottleneck(net: Tensor, embedding_size: int, phase_train: Tensor) -> Tensor:
    tf = tensorflow().compat.v1
    with tf.variable_scope("Bottleneck"):
        weights = variable("weights", (net.shape[1], embedding_size))
        net = tf.reshape(tf.matmul(net, weights, name="MatMul"), (-1, 1, 1, embedding_size))
        net = batch_norm(net, phase_train)
        return tf.reshape(net, (-1, embedding_size), name="BatchNorm/Reshape_1")


def _classifier(net: Tensor, classes: int) -> Tensor:
    tf = tensorflow().compat.v1
    with tf.variable_scope("Logits"):
        weights = variable("weights", (net.shape[1], classes))
        biases = variable("biases", (classes,))
        return tf.nn.bias_add(tf.matmul(net, weights), biases, name="BiasAdd")
