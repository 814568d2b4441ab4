"""Layers of the TF1 graph, with the variables and operations that tf.contrib.slim created.

Variables are the reference kind (``VariableV2``), as in 2018. The batch norm and the dropout choose
their branch at run time by ``phase_train``, with ``Switch`` and ``Merge`` operations. ``tf.cond``
created these in 2018, and does now only if control flow v2 is off for the whole process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from parity_tests.frameworks import tensorflow

Tensor = Any
"""A symbolic tensor; TensorFlow ships no types."""

BATCH_NORM_EPSILON = 0.001  # inception_resnet_v1.py, batch_norm_params
BATCH_NORM_DECAY = 0.995  # likewise; only training uses it
KEEP_PROBABILITY = 0.8  # inception_resnet_v1.py, dropout_keep_prob; only training uses it

_GAMMA: ContextVar[bool] = ContextVar("gamma", default=False)


class Conv(NamedTuple):
    """A convolution without bias, then batch norm, then ReLU. `kernel` is (height, width)."""

    name: str
    filters: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"


class Pool(NamedTuple):
    """A 3x3 max pooling with stride 2 and no padding."""

    name: str


def variable(name: str, shape: tuple[int, ...], *, trainable: bool = True, fill: float = 0) -> Any:
    """Create a float32 reference variable in the current scope, initially all `fill`."""
    tf = tensorflow().compat.v1
    return tf.get_variable(
        name,
        shape,
        tf.float32,
        tf.constant_initializer(fill),
        trainable=trainable,
        use_resource=False,
    )


def conv(net: Tensor, spec: Conv, phase_train: Tensor) -> Tensor:
    """Add convolution, batch norm and ReLU of an NHWC tensor."""
    tf = tensorflow().compat.v1
    with tf.variable_scope(spec.name):
        weights = variable("weights", (*spec.kernel, net.shape[3], spec.filters))
        strides = (1, spec.stride, spec.stride, 1)
        net = tf.nn.conv2d(net, weights, strides, spec.padding, name="Conv2D")
        return tf.nn.relu(batch_norm(net, phase_train), name="Relu")


def projection(net: Tensor, name: str, filters: int) -> Tensor:
    """Add a 1x1 convolution of an NHWC tensor, with bias, without batch norm or ReLU."""
    tf = tensorflow().compat.v1
    with tf.variable_scope(name):
        weights = variable("weights", (1, 1, net.shape[3], filters))
        biases = variable("biases", (filters,))
        net = tf.nn.conv2d(net, weights, (1, 1, 1, 1), "SAME", name="Conv2D")
        return tf.nn.bias_add(net, biases, name="BiasAdd")


def max_pool(net: Tensor, spec: Pool) -> Tensor:
    """Add 3x3 max pooling of an NHWC tensor, stride 2, VALID."""
    tf = tensorflow().compat.v1
    with tf.name_scope(spec.name):
        return tf.nn.max_pool(net, (1, 3, 3, 1), (1, 2, 2, 1), "VALID", name="MaxPool")


@contextmanager
def batch_norms_with_gamma(gamma: bool = True) -> Iterator[None]:
    """Give each batch norm that is built inside a scale to learn, as slim's ``scale=True`` does.

    The original's have none.
    """
    token = _GAMMA.set(gamma)
    try:
        yield
    finally:
        _GAMMA.reset(token)


def batch_norm(net: Tensor, phase_train: Tensor) -> Tensor:
    """Add a batch norm with offset over the channels of an NHWC tensor.

    It has no scale, unless built within `batch_norms_with_gamma`.

    With `phase_train` false it uses the moving statistics, with true those of the batch, towards
    which it updates the moving ones. The moving statistics are in the collection of trainable
    variables, as in the original, whose Saver saves nothing else:
    https://github.com/davidsandberg/facenet/blob/096ed77/src/models/inception_resnet_v1.py
    """
    tf = tensorflow().compat.v1
    raw = tensorflow().raw_ops
    channels = net.shape[-1]
    with tf.variable_scope("BatchNorm"):
        beta = variable("beta", (channels,))
        gamma = variable("gamma", (channels,), fill=1) if _GAMMA.get() else None
        mean = variable("moving_mean", (channels,))
        variance = variable("moving_variance", (channels,), fill=1)
        scale = tf.ones((channels,), name="Const") if gamma is None else gamma
        with tf.name_scope("cond"):
            serving, training = raw.Switch(data=net, pred=phase_train)
            served = raw.FusedBatchNormV3(
                x=serving,
                scale=scale,
                offset=beta,
                mean=mean,
                variance=variance,
                epsilon=BATCH_NORM_EPSILON,
                is_training=False,
            )
            trained = raw.FusedBatchNormV3(
                x=training,
                scale=scale,
                offset=beta,
                mean=tf.constant([], tf.float32),
                variance=tf.constant([], tf.float32),
                epsilon=BATCH_NORM_EPSILON,
                is_training=True,
            )
            updates = [
                _move(mean, trained.batch_mean, phase_train),
                _move(variance, trained.batch_variance, phase_train),
            ]
            with tf.control_dependencies(updates):
                after_updates = tf.identity(trained.y)
            return raw.Merge(inputs=[served.y, after_updates], name="Merge").output


def _move(moving: Any, batch: Tensor, phase_train: Tensor) -> Tensor:
    """Update a moving statistic towards that of the batch; only in training."""
    tf = tensorflow().compat.v1
    raw = tensorflow().raw_ops
    with tf.name_scope("AssignMovingAvg"):
        step = (moving.read_value() - batch) * (1 - BATCH_NORM_DECAY)
        reference = raw.RefSwitch(data=moving._ref(), pred=phase_train).output_true
        return raw.AssignSub(ref=reference, value=step)


def dropout(net: Tensor, phase_train: Tensor) -> Tensor:
    """Add dropout if `phase_train` is true, else the tensor itself."""
    tf = tensorflow().compat.v1
    raw = tensorflow().raw_ops
    with tf.name_scope("Dropout/cond"):
        serving, training = raw.Switch(data=net, pred=phase_train)
        dropped = tf.nn.dropout(training, rate=1 - KEEP_PROBABILITY)
        return raw.Merge(inputs=[serving, dropped], name="Merge").output
