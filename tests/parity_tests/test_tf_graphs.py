"""The project's own graphs have the original's variables and compute what it computes."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from parity_tests.tf_graphs import MTCNN_NETS, inception_resnet_v1, mtcnn_net

pytestmark = pytest.mark.tensorflow

# Measured on one x86 CPU, both sizes: 6.5e-7 at most.
EMBEDDING_TOLERANCE = 2e-6
# Largest error of end points, prelogits and logits, in standard deviations of the activation.
SAMPLE_TOLERANCE = 1e-4


def build(tf: Any, embedding_size: int, classes: int) -> tuple[Any, Any, Any, Any]:
    """A graph, its images, its phase_train and its tensors."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, (None, 160, 160, 3), name="input")
        phase_train = tf.placeholder(tf.bool, (), name="phase_train")
        tensors = inception_resnet_v1(images, phase_train, embedding_size, classes)
    return graph, images, phase_train, tensors


def fill_variables(tf: Any, session: Any, value: Callable[[str, tuple[int, ...]], Any]) -> None:
    variables = tf.global_variables()
    feeds = {v.initial_value: value(v.op.name, tuple(v.shape.as_list())) for v in variables}
    session.run([v.initializer for v in variables], feeds)


@pytest.mark.parametrize("sizes", ["512-8631", "128-0"])
def test_variables_are_the_originals(
    tensorflow: Any, original_variables: Callable[[str], Any], sizes: str
) -> None:
    tf = tensorflow.compat.v1
    embedding_size, classes = map(int, sizes.split("-"))
    graph, *_ = build(tf, embedding_size, classes)
    with graph.as_default():
        ours = [(v.op.name, tuple(v.shape.as_list())) for v in tf.global_variables()]
        assert tf.trainable_variables() == tf.global_variables()
    assert ours == original_variables(sizes)


@pytest.mark.parametrize("sizes", ["512-8631", "128-0"])
def test_answers_and_end_points_are_the_originals(
    tensorflow: Any, reference_dir: Path, golden_weights: ModuleType, sizes: str
) -> None:
    tf = tensorflow.compat.v1
    embedding_size, classes = map(int, sizes.split("-"))
    graph, images, phase_train, tensors = build(tf, embedding_size, classes)
    fetches = {"embeddings": tensors.embeddings, "prelogits": tensors.prelogits}
    if classes:
        fetches["logits"] = tensors.logits
    with graph.as_default(), tf.Session() as session:
        fill_variables(tf, session, golden_weights.fill)
        feeds = {images: golden_weights.inputs(), phase_train: False}
        answers, end_points = session.run((fetches, dict(tensors.end_points)), feeds)
    with np.load(reference_dir / "golden" / f"inception_resnet_v1-{sizes}.npz") as golden:
        distances = np.linalg.norm(answers["embeddings"] - golden["embeddings"], axis=1)
        assert (distances < EMBEDDING_TOLERANCE).all(), distances
        for name in fetches:
            error = np.abs(answers[name] - golden[name]).max() / golden[name].std()
            assert error < SAMPLE_TOLERANCE, (name, error)
        assert {f"ep/{name}/sample" for name in end_points} == {
            key for key in golden if key.endswith("/sample")
        }
        for name, value in end_points.items():
            assert value.shape == tuple(golden[f"ep/{name}/shape"]), name
            sample = value.reshape(-1)[np.linspace(0, value.size - 1, 257).astype(int)]
            error = np.abs(sample - golden[f"ep/{name}/sample"]).max() / golden[f"ep/{name}/std"]
            assert error < SAMPLE_TOLERANCE, (name, error)


def test_end_points_have_the_originals_tensor_names(tensorflow: Any) -> None:
    *_, tensors = build(tensorflow.compat.v1, 128, 0)
    names = {name: tensor.name for name, tensor in tensors.end_points.items()}
    scope = "InceptionResnetV1"
    assert names["Conv2d_1a_3x3"] == f"{scope}/Conv2d_1a_3x3/Relu:0"
    assert names["MaxPool_3a_3x3"] == f"{scope}/MaxPool_3a_3x3/MaxPool:0"
    assert names["Mixed_5a"] == f"{scope}/Repeat/block35_5/Relu:0"
    assert names["Mixed_6a"] == f"{scope}/Mixed_6a/concat:0"
    assert names["Mixed_6b"] == f"{scope}/Repeat_1/block17_10/Relu:0"
    assert names["Mixed_7a"] == f"{scope}/Mixed_7a/concat:0"
    assert names["Mixed_8a"] == f"{scope}/Repeat_2/block8_5/Relu:0"
    assert names["Mixed_8b"] == names["PrePool"] == f"{scope}/Block8/add:0"
    assert names["PreLogitsFlatten"] == f"{scope}/Logits/Dropout/cond/Merge:0"
    assert tensors.prelogits.name == f"{scope}/Bottleneck/BatchNorm/Reshape_1:0"
    assert tensors.embeddings.name == "embeddings:0"


def test_training_uses_batch_statistics_and_moves_the_averages(
    tensorflow: Any, golden_weights: ModuleType
) -> None:
    tf = tensorflow.compat.v1
    graph, images, phase_train, tensors = build(tf, 128, 0)
    moving = "InceptionResnetV1/Conv2d_1a_3x3/BatchNorm/moving_mean:0"
    with graph.as_default(), tf.Session() as session:
        fill_variables(tf, session, golden_weights.fill)
        batch = golden_weights.inputs()

        def run(training: bool) -> Any:
            return session.run(tensors.embeddings, {images: batch, phase_train: training})

        before, served, mean = run(False), run(False), session.run(moving)
        assert np.array_equal(before, served)
        trained = run(True)
        assert np.linalg.norm(trained - before, axis=1).min() > 0.1
        moved = session.run(moving)
        convolved = session.run("InceptionResnetV1/Conv2d_1a_3x3/Conv2D:0", {images: batch})
    expected = mean + (convolved.mean((0, 1, 2)) - mean) * 0.005  # decay 0.995
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("number", "name"), list(enumerate(MTCNN_NETS, 1)))
def test_mtcnn_nets_answer_as_the_originals(
    tensorflow: Any, reference_dir: Path, number: int, name: str
) -> None:
    tf = tensorflow.compat.v1
    weights = np.load(
        reference_dir / "mtcnn" / f"det{number}.npy", allow_pickle=True, encoding="latin1"
    ).item()
    with tf.Graph().as_default(), tf.Session() as session:
        results = dict(mtcnn_net(MTCNN_NETS[name]))
        assert {k: v.name for k, v in results.items()} == dict(MTCNN_NETS[name].outputs)
        values = {f"{name}/{layer}/{k}": v for layer in weights for k, v in weights[layer].items()}
        assert {v.op.name for v in tf.global_variables()} == values.keys()
        fill_variables(tf, session, lambda variable, _: values[variable])
        with np.load(reference_dir / "golden" / "mtcnn_nets.npz") as golden:
            answers = session.run(results, {f"{name}/input:0": golden[f"{name}/input"]})
            expected = {key: golden[f"{name}/{key}"] for key in answers}
    for key, answer in answers.items():
        assert answer.shape == expected[key].shape
        # Measured: 1.8e-7.
        np.testing.assert_allclose(answer, expected[key], rtol=0, atol=1e-6, err_msg=key)
