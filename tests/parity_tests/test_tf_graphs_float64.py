"""TensorFlow really computes in float64, and there it agrees with torch to the last few bits."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.tf_checkpoints import write_frozen, write_variables
from support.tf_fixtures import GoldenCheckpoint

from converter import demo
from converter.sources import open_source
from facenet_common.errors import ParityError
from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.reference.runner import (
    ReferenceRunner,
    own_graph,
    read_frozen,
    read_meta,
    weights_from_bundle,
    weights_in_graph,
)
from parity_tests.tf_graphs import MTCNN_NETS, float64
from parity_tests.tf_graphs.float64 import in_float64, written_decimal
from parity_tests.tf_graphs.serving import ALLOWED_OPS, ServingGraph, cut

pytestmark = pytest.mark.tensorflow

GATE = 1e-12  # max abs on embeddings
# Measured: 5e-16. Were this near the gate, an error in the graph could hide in rounding.
ROUNDING = 1e-14
ARCHITECTURE = "inception_resnet_v1"
DIMS = {"embedding": 128}
KERNEL = "InceptionResnetV1/Repeat_1/block17_4/Branch_1/Conv2d_0b_1x7/weights"
BATCH_NORM = "InceptionResnetV1/Repeat/block35_2/Branch_1/Conv2d_0b_3x3/BatchNorm"
FLOATS = ("float16", "bfloat16", "float32", "float64")

Array = npt.NDArray[Any]
Weights = dict[str, Array]
Fill = Callable[[str, tuple[int, ...]], Array]
Variables = Callable[[str], list[tuple[str, tuple[int, ...]]]]
MakeState = Callable[[int, int], dict[str, Any]]


def gap(one: Array, two: Array) -> float:
    assert one.dtype == two.dtype == np.float64
    assert one.shape == two.shape
    return float(np.abs(one - two).max())


def answers(graph: ServingGraph, images: Array) -> tuple[Array, ...]:
    with ReferenceRunner(graph, weights_in_graph) as runner:
        return runner.run(images)


def embeddings(graph: ServingGraph, weights: Mapping[str, Array], images: Array) -> Array:
    return answers(in_float64(graph, weights), images)[0]


@pytest.fixture(scope="module")
def golden(golden_weights: ModuleType, original_variables: Variables) -> Weights:
    return {name: golden_weights.fill(name, shape) for name, shape in original_variables("128-0")}


@pytest.fixture(scope="module")
def images(golden_weights: ModuleType) -> Array:
    return np.asarray(golden_weights.inputs(2), np.float64)


@pytest.fixture(scope="module")
def in_torch(candidate_128: Path, images: Array) -> Array:
    """The converted golden weights' embeddings."""
    with CandidateRunner(candidate_128, "torch", ARCHITECTURE, DIMS, "float64") as candidate:
        return candidate.run(images)[0]


@pytest.fixture(scope="module")
def in_tensorflow(tensorflow: Any, golden: Weights, images: Array) -> Array:
    """The oracle's embeddings, of the project's own graph."""
    del tensorflow
    return embeddings(own_graph(ARCHITECTURE, DIMS), golden, images)


# --- the gate ---


def test_own_graph(in_tensorflow: Array, in_torch: Array) -> None:
    assert gap(in_tensorflow, in_torch) <= ROUNDING
    assert np.ptp(in_tensorflow, axis=0).max() > 0.01  # embeddings of two images, not constants


def test_meta_graph(golden_128: GoldenCheckpoint, images: Array, in_torch: Array) -> None:
    stored = open_source(golden_128.prefix)
    weights = {name: ref.load() for name, ref in stored.items()}
    graph = read_meta(golden_128.meta, ARCHITECTURE)
    assert gap(embeddings(graph, weights, images), in_torch) <= ROUNDING


def test_frozen_graph(
    tensorflow: Any, golden_weights: ModuleType, tmp_path: Path, images: Array, in_torch: Array
) -> None:
    del tensorflow
    frozen = read_frozen(write_frozen(tmp_path, 128, fill=golden_weights.fill), ARCHITECTURE)
    assert gap(embeddings(frozen, {}, images), in_torch) <= ROUNDING


def test_demo_weights(
    tensorflow: Any,
    golden_state: MakeState,
    original_variables: Variables,
    images: Array,
    tmp_path: Path,
) -> None:
    import torch

    del tensorflow
    variables = original_variables("128-0")
    weights = {name: demo.value(name, shape) for name, shape in variables}
    state = golden_state(128, 0)
    keys = [key for key in state if not key.endswith(("bn.weight", "num_batches_tracked"))]
    for key, (name, shape) in zip(keys, variables, strict=True):
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(shape)]
        state[key] = torch.from_numpy(np.ascontiguousarray(weights[name].transpose(axes)))
    torch.save(state, tmp_path / "demo.pt")
    with CandidateRunner(tmp_path / "demo.pt", "torch", ARCHITECTURE, DIMS, "float64") as candidate:
        (found,) = candidate.run(images)
    assert gap(embeddings(own_graph(ARCHITECTURE, DIMS), weights, images), found) <= ROUNDING


@pytest.mark.parametrize(("number", "name"), [(1, "pnet"), (2, "rnet"), (3, "onet")])
def test_mtcnn(tensorflow: Any, reference_dir: Path, number: int, name: str) -> None:
    del tensorflow
    source = open_source(reference_dir / "mtcnn" / f"det{number}.npy")
    weights = {f"{name}/{variable}": ref.load() for variable, ref in source.items()}
    size = MTCNN_NETS[name].size
    shape = (size, size) if size else (37, 23)
    batch = np.random.default_rng(3).standard_normal((4, *shape, 3))
    expected = answers(in_float64(own_graph(name, {}), weights), batch)
    published = reference_dir / "published" / f"{name}.pt"
    with CandidateRunner(published, "torch", name, {}, "float64") as candidate:
        found = candidate.run(batch)
    for one, two in zip(expected, found, strict=True):
        # Relative to the largest value of an answer; measured 4e-15. Not to each value: a sum that
        # cancels out to nearly 0 keeps the absolute error of its terms (3e-12 of one of P-Net's).
        assert gap(one, two) <= 1e-13 * np.abs(one).max()


def test_oracle_agrees_with_the_graph_in_float32(
    golden_128: GoldenCheckpoint, images: Array, in_tensorflow: Array
) -> None:
    restored = weights_from_bundle(golden_128.prefix)
    with ReferenceRunner(own_graph(ARCHITECTURE, DIMS), restored) as runner:
        (narrow,) = runner.run(images.astype(np.float32))
    assert narrow.dtype == np.float32
    difference = np.abs(narrow - in_tensorflow).max()
    assert 1e-9 < difference < 1e-5  # near, and visibly less exact


# --- it is float64 everywhere ---


@pytest.mark.parametrize("kind", ["own", "frozen", "pnet", "onet"])
def test_every_floating_tensor_is_float64(
    tensorflow: Any,
    golden: Weights,
    golden_weights: ModuleType,
    tmp_path: Path,
    kind: str,
) -> None:
    weights = golden
    if kind == "own":
        graph = own_graph(ARCHITECTURE, DIMS)
    elif kind == "frozen":
        graph = read_frozen(write_frozen(tmp_path, 128, fill=golden_weights.fill), ARCHITECTURE)
    else:
        graph = own_graph(kind, {})
        shapes = {n.name: n.attr["shape"].shape.dim for n in graph.graph_def.node}
        weights = {name: np.ones([dim.size for dim in dims]) for name, dims in shapes.items()}
    tf = tensorflow.compat.v1

    def floating(graph_def: Any) -> list[str]:
        with tf.Graph().as_default() as imported:
            tf.import_graph_def(graph_def, name="")
            tensors = [out for op in imported.get_operations() for out in op.outputs]
        return [t.dtype.base_dtype.name for t in tensors if t.dtype.base_dtype.name in FLOATS]

    before, after = floating(graph.graph_def), floating(in_float64(graph, weights).graph_def)
    assert set(before) == {"float32"}  # the walk does see what there is
    assert set(after) == {"float64"}
    assert len(after) > (40 if kind in MTCNN_NETS else 1000)


def test_rewriting_leaves_the_graph_alone_and_keeps_names(golden: Weights) -> None:
    graph = own_graph(ARCHITECTURE, DIMS)
    before = graph.graph_def.SerializeToString()
    rewritten = in_float64(graph, golden)
    assert graph.graph_def.SerializeToString() == before
    assert (rewritten.images, rewritten.outputs) == (graph.images, graph.outputs)
    assert rewritten.phase_train is None
    names = {node.name for node in rewritten.graph_def.node}
    assert {f"{BATCH_NORM}/cond/Merge", KERNEL, "embeddings"} <= names
    assert not any("AssignMovingAvg" in name or "dropout" in name for name in names)


def test_defaults_that_a_graph_may_leave_out(tensorflow: Any) -> None:
    del tensorflow
    registry = import_module("tensorflow.python.framework.op_def_registry")
    floats = float64._floats()
    found: dict[str, tuple[str, ...]] = {}
    for op in float64._PLAIN_OPS:
        defaults = {a.name: a.default_value for a in registry.get(op).attr if a.default_value}
        turned = tuple(name for name, value in defaults.items() if value.type in floats)
        found |= {op: turned} if turned else {}
        # A number in an attribute would be one that turning types leaves as it is.
        assert not any(a.type == "float" for a in registry.get(op).attr), op
    assert found == dict(float64.FLOAT_DEFAULTS)
    for op in float64._BATCH_NORMS:
        defaults = {a.name: a.default_value for a in registry.get(op).attr}
        assert written_decimal(np.float32(defaults["epsilon"].f)) == (
            float64.BATCH_NORM_DEFAULT_EPSILON
        )
        assert defaults["is_training"].b
    assert float64._PLAIN_OPS - {"Placeholder"} < ALLOWED_OPS


# --- what is wrong shows ---


def epsilon_up(graph: ServingGraph) -> None:
    """One batch norm's epsilon 1e-9 larger."""
    (node,) = (
        n
        for n in graph.graph_def.node
        if n.name.startswith(BATCH_NORM)
        and "FusedBatchNorm" in n.op
        and not n.attr["is_training"].b
    )
    node.attr["epsilon"].f += 1e-9


def scale_up(graph: ServingGraph) -> None:
    """One residual scale one float32 ulp larger."""
    (node,) = (n for n in graph.graph_def.node if n.name.endswith("block17_3/mul/x"))
    value = node.attr["value"].tensor.float_val
    assert float(np.float32(value[0])) == float(np.float32(0.1))
    value[0] = float(np.nextafter(np.float32(0.1), np.float32(1)))


@pytest.mark.parametrize("damage", [epsilon_up, scale_up])
def test_hyper_parameter_that_is_slightly_off(
    damage: Callable[[ServingGraph], None], golden: Weights, images: Array, in_torch: Array
) -> None:
    graph = own_graph(ARCHITECTURE, DIMS)
    damage(graph)
    found = embeddings(graph, golden, images)
    assert GATE < gap(found, in_torch) < 1e-7


def test_one_ulp_in_one_weight(
    golden_128: GoldenCheckpoint, golden: Weights, images: Array, in_torch: Array, tmp_path: Path
) -> None:
    graph = own_graph(ARCHITECTURE, DIMS)
    changed = golden[KERNEL].copy()
    changed.flat[1000] = np.nextafter(changed.flat[1000], np.float32(1))
    weights = {**golden, KERNEL: changed}
    assert gap(embeddings(graph, weights, images), in_torch) > GATE
    narrow = []
    for prefix in (golden_128.prefix, write_variables(tmp_path / "changed.ckpt-1", weights)):
        with ReferenceRunner(graph, weights_from_bundle(prefix)) as runner:
            narrow += runner.run(images.astype(np.float32))
    assert np.abs(narrow[0] - narrow[1]).max() < 1e-5  # the contract in float32 can't see it


def test_widened_hyper_parameters_would_fail(
    golden: Weights, images: Array, in_torch: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float64, "written_decimal", float)
    found = embeddings(own_graph(ARCHITECTURE, DIMS), golden, images)
    assert gap(found, in_torch) > 100 * GATE  # measured: 2e-9


@pytest.mark.parametrize("decimal", [0.17, 0.1, 0.2, 0.001, 1e-10, 1.0, 0.0, -2.5, 127.5, 0.999999])
def test_written_decimal(decimal: float) -> None:
    assert written_decimal(np.float32(decimal)) == decimal
    assert written_decimal(np.nextafter(np.float32(decimal), np.float32(200))) != decimal


# --- refusals, and forms that own graphs don't have ---


def small(tf: Any, build: Callable[[Any, Any], Any]) -> ServingGraph:
    """The graph of ``embeddings = build(images, phase_train)``."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, (None, 2, 2, 3), name="input")
        phase_train = tf.placeholder(tf.bool, (), name="phase_train")
        tf.identity(build(images, phase_train), "embeddings")
    return cut(graph.as_graph_def(), "small", images=("input",), outputs=("embeddings:0",))


THIRDS = np.arange(1, 25, dtype=np.float64).reshape(2, 2, 2, 3) / 3


def test_branches_are_chosen_for_serving(tensorflow: Any) -> None:
    tf, raw = tensorflow.compat.v1, tensorflow.raw_ops

    def build(images: Any, phase_train: Any) -> Any:
        serving, training = raw.Switch(data=images, pred=tf.identity(phase_train))
        negated = tf.logical_not(phase_train)
        _, inverse = raw.Switch(data=serving * 0.1, pred=negated)
        with tf.control_dependencies([tf.identity(training)]):
            dropped = tf.random.uniform((1,))
        picked = raw.Merge(inputs=[dropped, inverse]).output
        return tf.where(phase_train, picked, picked + 1.0)

    graph = small(tf, build)
    (found,) = answers(in_float64(graph, {}), THIRDS)
    np.testing.assert_allclose(found, THIRDS * 0.1 + 1, rtol=1e-15)


@pytest.mark.parametrize("resource", [False, True])
def test_variables_of_both_kinds(tensorflow: Any, resource: bool) -> None:
    tf = tensorflow.compat.v1

    def build(images: Any, _: Any) -> Any:
        return images * tf.get_variable("w", (3,), tf.float32, use_resource=resource)

    graph = small(tf, build)
    value = np.array([0.1, 0.2, 0.3], np.float32)
    (found,) = answers(in_float64(graph, {"w": value}), THIRDS)
    assert np.array_equal(found, THIRDS * value.astype(np.float64))  # widened, not read as decimals
    for wrong, message in (
        ({}, "'w' of type .* is a variable that the weights lack"),
        ({"w": value[:2]}, r"has shape \(3,\), the weights have \(2,\)"),
        ({"w": value[None]}, r"has shape \(3,\), the weights have \(1, 3\)"),
        ({"w": np.ones(3, np.int32)}, "is floating-point, the weights have int32"),
    ):
        with pytest.raises(ParityError, match=message):
            in_float64(graph, wrong)


def test_half_precision_is_turned_too(tensorflow: Any) -> None:
    tf = tensorflow.compat.v1
    graph = small(tf, lambda images, _: tf.cast(tf.cast(images, tf.float16) * 0.1, tf.float32))
    (found,) = answers(in_float64(graph, {}), THIRDS)
    np.testing.assert_allclose(found, THIRDS * 0.1, rtol=1e-15)


@pytest.mark.parametrize("version", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
def test_fused_batch_norm_is_spelt_out(tensorflow: Any, version: str) -> None:
    tf, raw = tensorflow.compat.v1, tensorflow.raw_ops
    vectors = np.random.default_rng(1).uniform(0.5, 1.5, (4, 3)).astype(np.float32)
    scale, offset, mean, variance = vectors
    parts = {"scale": scale, "offset": offset, "mean": mean, "variance": variance}

    def build(images: Any, _: Any, is_training: bool = False) -> Any:
        norm = getattr(raw, version)(x=images, **parts, epsilon=0.01, is_training=is_training)
        return norm.y + norm.batch_variance

    (found,) = answers(in_float64(small(tf, build), {}), THIRDS)
    scale, offset, mean, variance = vectors.astype(np.float64)
    expected = (THIRDS - mean) / np.sqrt(variance + 0.01) * scale + offset + variance
    np.testing.assert_allclose(found, expected, rtol=1e-14)

    bare = small(tf, build)
    (node,) = (n for n in bare.graph_def.node if n.op == version)
    del node.attr["epsilon"]  # a .meta without defaults
    (found,) = answers(in_float64(bare, {}), THIRDS)
    expected = (THIRDS - mean) / np.sqrt(variance + 0.0001) * scale + offset + variance
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    del node.attr["is_training"]
    with pytest.raises(ParityError, match="batch's own statistics"):
        in_float64(bare, {})


def test_what_cannot_be_turned_is_named(tensorflow: Any) -> None:
    tf, raw = tensorflow.compat.v1, tensorflow.raw_ops

    def refused(build: Callable[[Any, Any], Any]) -> str:
        with pytest.raises(ParityError) as caught:
            in_float64(small(tf, build), {})
        return str(caught.value)

    message = refused(lambda images, _: images + tf.random.uniform((3,), name="noise"))
    assert "'noise/RandomUniform' of type 'RandomUniform' can't be converted" in message

    plain = small(tf, lambda images, _: tf.nn.relu(images, name="act"))
    for node in plain.graph_def.node:
        node.op = "LeakyRelu" if node.name == "act" else node.op  # has a float attribute
    with pytest.raises(ParityError, match="'act' of type 'LeakyRelu' can't be converted"):
        in_float64(plain, {})

    def by_images(images: Any, _: Any) -> Any:
        return raw.Switch(data=images, pred=tf.reduce_max(images) > 0.0, name="way").output_false

    assert "'way' of type 'Switch' chooses by something other than" in refused(by_images)

    def training_only(images: Any, phase_train: Any) -> Any:
        return raw.Switch(data=images, pred=phase_train).output_true

    assert "'embeddings:0' in training only" in refused(training_only)

    def assigning(images: Any, _: Any) -> Any:
        return tf.assign_add(tf.get_variable("n", (3,), use_resource=False), (1, 1, 1)) + images

    assert "changes a variable, even with phase_train false" in refused(assigning)

    def two_ways(images: Any, _: Any) -> Any:
        return raw.Merge(inputs=[images, images + 1.0], name="both").output

    assert "'both' of type 'Merge' has 2 inputs that arrive" in refused(two_ways)

    circle = small(tf, lambda images, _: tf.nn.relu(tf.nn.relu(images, name="a"), name="b"))
    next(n for n in circle.graph_def.node if n.name == "a").input[0] = "b"
    with pytest.raises(ParityError, match="nodes go in a circle"):
        in_float64(circle, {})

    unknown = replace(plain, outputs=("input:0",))
    assert in_float64(unknown, {}).outputs == ("input:0",)


def test_candidate_in_another_type(candidate_128: Path) -> None:
    with pytest.raises(ParityError, match="not in 'float8'"):
        CandidateRunner(candidate_128, "torch", ARCHITECTURE, DIMS, "float8")
