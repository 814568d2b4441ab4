"""Graphs from files: cut down, checked, and only then run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facenet_common.errors import ParityError
from parity_tests.reference.runner import (
    OWN_GRAPH,
    ReferenceRunner,
    own_graph,
    read_frozen,
    read_meta,
    weights_from_arrays,
    weights_from_bundle,
    weights_in_graph,
)
from parity_tests.tf_graphs import inference_graph

pytestmark = pytest.mark.tensorflow

IMAGES = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
MATRIX = np.arange(24, dtype=np.float32).reshape(12, 2) / 10
EXPECTED = IMAGES.reshape(2, 12) @ MATRIX
Tamper = Callable[[Any, Any], Any]


def write_small(
    tf: Any,
    folder: Path,
    tamper: Tamper = lambda _, answer: answer,
    *,
    resource: bool = False,
    names: tuple[str, str] = ("image_batch", "input"),
) -> tuple[Path, Path]:
    """A model small enough to build in no time: ``embeddings = images @ matrix``.

    `tamper` is given the flattened images and the answer and returns the answer to use. The images
    come out of a queue, as in training.

    Returns:
        Prefix of the checkpoint and the ``.meta``.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(10, [tf.float32], [(2, 2, 3)])
        images = queue.dequeue_many(2)
        for name in names:
            images = tf.identity(images, name)
        flat = tf.reshape(images, (-1, 12))
        matrix = tf.get_variable("matrix", initializer=MATRIX, use_resource=resource)
        answer = tamper(flat, tf.matmul(flat, matrix))
        tf.identity(answer, "embeddings")
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver()
        prefix = Path(saver.save(session, str(folder / "small.ckpt"), 1, write_meta_graph=False))
        saver.export_meta_graph(str(folder / "small.meta"))
    return prefix, folder / "small.meta"


def answer_of(prefix: Path, meta: Path) -> Any:
    with ReferenceRunner(
        read_meta(meta, "inception_resnet_v1"), weights_from_bundle(prefix)
    ) as runner:
        assert runner.name == "small.meta"
        (answer,) = runner.run(IMAGES)
    return answer


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("names", [("image_batch", "input"), ("image_batch",)])
def test_meta_is_run_without_its_queue(
    tensorflow: Any, tmp_path: Path, resource: bool, names: tuple[str, str]
) -> None:
    files = write_small(tensorflow.compat.v1, tmp_path, resource=resource, names=names)
    np.testing.assert_allclose(answer_of(*files), EXPECTED, rtol=1e-6)


def test_file_writing_operation_is_refused_and_does_not_run(
    tensorflow: Any, tmp_path: Path
) -> None:
    tf = tensorflow.compat.v1
    trace = tmp_path / "written-by-the-graph"

    def tamper(_: Any, answer: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(trace), "gotcha")]):
            return tf.identity(answer)

    prefix, meta = write_small(tf, tmp_path, tamper)
    with tf.Graph().as_default(), tf.Session() as session:  # the trap works if one walks into it
        tf.train.import_meta_graph(str(meta)).restore(session, str(prefix))
        session.run("embeddings:0", {"input:0": IMAGES})
    assert trace.read_text() == "gotcha"
    trace.unlink()

    with pytest.raises(ParityError, match=r"small\.meta.*'WriteFile'.*Nothing of it was run"):
        answer_of(prefix, meta)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["ReadFile", "EagerPyFunc", "StatelessIf", "PrintV2"])
def test_other_operations_with_effects_are_refused(
    tensorflow: Any, tmp_path: Path, kind: str
) -> None:
    tf = tensorflow.compat.v1
    tampers: dict[str, Tamper] = {
        "ReadFile": lambda _, y: y + tf.cast(tf.strings.length(tf.read_file("x")), tf.float32),
        "EagerPyFunc": lambda _, y: tf.py_function(lambda v: v, [y], tf.float32),
        "StatelessIf": lambda x, y: tf.cond(x[0, 0] > 0, lambda: y, lambda: -y),
        "PrintV2": lambda _, y: _after(tf, tensorflow.raw_ops.PrintV2(input="boo"), y),
    }
    files = write_small(tf, tmp_path, tampers[kind])
    with pytest.raises(ParityError, match=f"of type '{kind}'"):
        answer_of(*files)


def _after(tf: Any, operation: Any, answer: Any) -> Any:
    with tf.control_dependencies([operation]):
        return tf.identity(answer)


def test_same_operations_beside_the_answer_do_no_harm(tensorflow: Any, tmp_path: Path) -> None:
    tf = tensorflow.compat.v1
    trace = tmp_path / "written-by-the-graph"

    def tamper(_: Any, answer: Any) -> Any:
        tf.io.write_file(str(trace), "gotcha")
        return answer

    np.testing.assert_allclose(answer_of(*write_small(tf, tmp_path, tamper)), EXPECTED, rtol=1e-6)
    assert not trace.exists()


def test_operation_unknown_to_this_tensorflow_beside_the_answer(
    tensorflow: Any, tmp_path: Path
) -> None:
    tf = tensorflow.compat.v1
    prefix, path = write_small(tf, tmp_path)
    meta = tf.MetaGraphDef.FromString(path.read_bytes())
    meta.graph_def.node.add(name="old", op="OperationOf2018")
    path.write_bytes(meta.SerializeToString())
    np.testing.assert_allclose(answer_of(prefix, path), EXPECTED, rtol=1e-6)


def test_devices_and_neighbours_of_the_training_machine_are_forgotten(
    tensorflow: Any, tmp_path: Path
) -> None:
    tf = tensorflow.compat.v1
    prefix, path = write_small(tf, tmp_path)
    meta = tf.MetaGraphDef.FromString(path.read_bytes())
    product = _node(meta, "MatMul")
    product.device = "/job:trainer/device:GPU:7"
    product.attr["_class"].list.s.append(b"loc:@fifo_queue")
    path.write_bytes(meta.SerializeToString())
    np.testing.assert_allclose(answer_of(prefix, path), EXPECTED, rtol=1e-6)


def _rename_answer(meta: Any) -> None:
    _node(meta, "embeddings").name = "vectors"


def _cut_wire(meta: Any) -> None:
    _node(meta, "embeddings").input[0] = "nowhere:0"


def _name_twice(meta: Any) -> None:
    meta.graph_def.node.add().CopyFrom(_node(meta, "embeddings"))


def _bypass_input(meta: Any) -> None:
    _node(meta, "Reshape").input[0] = "matrix/read"


def _placeholder(meta: Any) -> None:
    _node(meta, "matrix/read").op = "Placeholder"


def _bad_attribute(meta: Any) -> None:
    del _node(meta, "MatMul").attr["T"]
    _node(meta, "MatMul").attr["T"].s = b"no type"


def _node(meta: Any, name: str) -> Any:
    return next(node for node in meta.graph_def.node if node.name == name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_rename_answer, "has no tensor 'embeddings'"),
        (_cut_wire, "'embeddings' takes 'nowhere:0', which is missing"),
        (_name_twice, "two nodes are named 'embeddings'"),
        (_bypass_input, "depends on none of the inputs"),
        (_placeholder, "depends on the placeholder 'matrix/read'"),
        (_bad_attribute, "refuses the graph in small.meta"),
    ],
)
def test_damaged_meta(
    tensorflow: Any, tmp_path: Path, damage: Callable[[Any], None], message: str
) -> None:
    tf = tensorflow.compat.v1
    prefix, path = write_small(tf, tmp_path)
    meta = tf.MetaGraphDef.FromString(path.read_bytes())
    damage(meta)
    path.write_bytes(meta.SerializeToString())
    with pytest.raises(ParityError, match=message):
        answer_of(prefix, path)


@pytest.mark.parametrize("read", [read_meta, read_frozen])
def test_file_that_is_no_graph(
    tensorflow: Any, tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    del tensorflow
    path = tmp_path / "page.meta"
    with pytest.raises(ParityError, match=r"(?s)can't read.*page\.meta"):
        read(path, "inception_resnet_v1")
    path.write_text("<html>404</html>")
    with pytest.raises(
        ParityError, match=r"(?s)damaged, or of another format.*page\.meta.*a TensorFlow"
    ):
        read(path, "inception_resnet_v1")
    path.write_bytes(b"")
    with pytest.raises(ParityError, match="has no tensor 'embeddings'"):
        read(path, "inception_resnet_v1")


def test_variable_missing_from_the_checkpoint(tensorflow: Any, tmp_path: Path) -> None:
    tf = tensorflow.compat.v1

    def tamper(_: Any, answer: Any) -> Any:
        return answer + tf.get_variable("offset", (), use_resource=False)

    (tmp_path / "other").mkdir()
    prefix, _ = write_small(tf, tmp_path / "other")
    _, meta = write_small(tf, tmp_path, tamper)
    with pytest.raises(ParityError, match="does not fit the graph: offset is missing"):
        answer_of(prefix, meta)


def test_unreadable_checkpoint(tensorflow: Any, tmp_path: Path) -> None:
    prefix, meta = write_small(tensorflow.compat.v1, tmp_path)
    index = prefix.with_name(f"{prefix.name}.index")
    index.write_bytes(index.read_bytes()[:-5])
    with pytest.raises(ParityError, match="TensorFlow can't read the checkpoint"):
        answer_of(prefix, meta)


def test_frozen_graph_must_hold_its_weights(tensorflow: Any, tmp_path: Path) -> None:
    tf = tensorflow.compat.v1
    _, meta = write_small(tf, tmp_path)
    path = tmp_path / "small.pb"
    path.write_bytes(tf.MetaGraphDef.FromString(meta.read_bytes()).graph_def.SerializeToString())
    with (
        pytest.raises(ParityError, match="not frozen: 'matrix' is a variable"),
        ReferenceRunner(read_frozen(path, "inception_resnet_v1"), weights_in_graph),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("rnet/conv1/weights", (3, 3, 28, 3), r"weights has shape \(3, 3, 28, 3\), the graph's"),
        ("rnet/conv1/gamma", (28,), "rnet/conv1/gamma is not a variable of the graph"),
        ("rnet/conv1/weights", None, "rnet/conv1/weights is missing"),
    ],
)
def test_arrays_that_do_not_fit(
    tensorflow: Any, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    tf = tensorflow.compat.v1
    graph = own_graph("rnet", {})
    arrays = {
        node.name: np.zeros([d.size for d in node.attr["shape"].shape.dim], np.float32)
        for node in graph.graph_def.node
        if node.op == "VariableV2"
    }
    if shape is None:
        del arrays[name]
    else:
        arrays[name] = np.zeros(shape, np.float32)
    runner = ReferenceRunner(graph, weights_from_arrays(arrays, "det2.npy"))
    with pytest.raises(ParityError, match=f"det2.npy does not fit the graph: .*{message}"), runner:
        pass
    del tf


def test_own_graph_comes_without_classifier_and_training_leftovers(tensorflow: Any) -> None:
    del tensorflow
    graph = own_graph("inception_resnet_v1", {"embedding": 128, "classes": 10})
    assert graph.description == OWN_GRAPH
    names = {node.name for node in graph.graph_def.node}
    assert len([node for node in graph.graph_def.node if node.op == "VariableV2"]) == 490
    assert not any(name.startswith("Logits") or "Initializer" in name for name in names)
    everything = {node.name for node in inference_graph(128, 10).as_graph_def().node}
    assert names < everything


@pytest.mark.parametrize(("architecture", "dims"), [("vgg", {}), ("inception_resnet_v1", {})])
def test_own_graph_of_the_unknown(tensorflow: Any, architecture: str, dims: dict[str, int]) -> None:
    del tensorflow
    with pytest.raises(ParityError):
        own_graph(architecture, dims)
