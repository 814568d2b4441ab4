"""The writers that other tests rely on write what TensorFlow reads and what training leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tf_checkpoints import SLOTS, training_leftovers, write_checkpoint, write_variables

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("zero_debias", [False, True])
@pytest.mark.parametrize("optimizer", SLOTS)
def test_leftovers_are_what_tensorflow_makes(
    tensorflow: Any, optimizer: str, zero_debias: bool
) -> None:
    """The original's ``facenet.train``, on two variables."""
    tf = tensorflow.compat.v1
    optimizers = {
        "ADAGRAD": lambda: tf.train.AdagradOptimizer(0.1),
        "ADADELTA": lambda: tf.train.AdadeltaOptimizer(0.1, rho=0.9, epsilon=1e-6),
        "ADAM": lambda: tf.train.AdamOptimizer(0.1, beta1=0.9, beta2=0.999, epsilon=0.1),
        "RMSPROP": lambda: tf.train.RMSPropOptimizer(0.1, 0.9, momentum=0.9, epsilon=1.0),
        "MOM": lambda: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    }
    network = {"net/weights": (2, 3), "net/BatchNorm/moving_mean": (3,)}
    with tf.Graph().as_default():
        step = tf.Variable(0, trainable=False, use_resource=False)
        variables = [tf.get_variable(n, s, use_resource=False) for n, s in network.items()]
        centers = tf.get_variable("centers", (4, 3), trainable=False, use_resource=False)
        losses = [tf.constant(1.0, name=name) for name in ("cross_entropy", "total_loss")]
        averages = tf.train.ExponentialMovingAverage(0.9, name="avg", zero_debias=zero_debias)
        averages.apply(losses)
        learned = [variables[0], centers]
        gradients = [(tf.zeros_like(v), v) for v in learned] + [(None, variables[1])]
        optimizers[optimizer]().apply_gradients(gradients, global_step=step)
        tf.train.ExponentialMovingAverage(0.9999, step).apply(tf.trainable_variables())
        made = {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
    assert made == network | training_leftovers(network, optimizer, (4, 3), zero_debias)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("partitioned", [False, True, ["matrix"]])
def test_any_variables_come_back(
    tensorflow: Any, tmp_path: Path, shards: int, partitioned: Any
) -> None:
    values: dict[str, Any] = {
        "matrix": np.arange(20, dtype=np.float64).reshape(5, 4),
        "scalar": np.array(7, np.int64),
        "half": np.array([1.5, -2], np.float16),
        "brain": np.array([1.5, -2, 3], tensorflow.bfloat16.as_numpy_dtype),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "words": np.array([b"a", b"bc"], object),
    }
    if partitioned is True:  # TensorFlow's own reader doesn't assemble slices of these types
        del values["half"], values["brain"], values["words"]
    prefix = write_variables(tmp_path / "any", values, shards=shards, partitioned=partitioned)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"any.data-{i:05d}-of-{shards:05d}" for i in range(shards)] + ["any.index"]
    reader = tensorflow.compat.v1.train.load_checkpoint(str(prefix))
    assert reader.get_variable_to_shape_map().keys() == values.keys()
    for name, value in values.items():
        found = reader.get_tensor(name)
        assert found.dtype == value.dtype, name
        assert np.array_equal(found, value), name


def test_checkpoint_looks_like_a_published_one(tensorflow: Any, tmp_path: Path) -> None:
    def fill(name: str, shape: tuple[int, ...]) -> Any:
        return np.resize(np.arange(len(name), dtype=np.float32), shape)

    extra = [("global_step", np.array(275, np.int64))]
    write_checkpoint(tmp_path / "plain", 8, 2, fill=fill)
    prefix = write_checkpoint(
        tmp_path / "parts", 8, 2, fill=fill, shards=2, partitioned=True, extra=extra
    )
    stem = "model-20180402-114759"
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "checkpoint",
        f"{stem}.ckpt-275.data-00000-of-00001",
        f"{stem}.ckpt-275.index",
        f"{stem}.meta",
    ]
    load = tensorflow.compat.v1.train.load_checkpoint
    plain, parts = load(str(tmp_path / "plain")), load(str(prefix))
    shapes = plain.get_variable_to_shape_map()
    assert len(shapes) == 492
    assert parts.get_variable_to_shape_map().keys() == {*shapes, "global_step"}
    for name in ("Logits/weights", "InceptionResnetV1/Conv2d_1a_3x3/weights"):
        expected = fill(name, tuple(shapes[name]))
        assert np.array_equal(plain.get_tensor(name), expected)
        assert np.array_equal(parts.get_tensor(name), expected)
