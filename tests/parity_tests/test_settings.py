"""Both sides tell the same settings, and each one that is off is found, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tf_checkpoints import write_checkpoint, write_frozen

from facenet_common.errors import ParityError
from parity_tests.localise.modules import patched
from parity_tests.model import Finding
from parity_tests.reference.original_detector import original_available, original_graph
from parity_tests.reference.runner import own_graph, read_frozen, read_meta
from parity_tests.settings import Settings, compare_settings, graph_settings, module_settings
from parity_tests.settings_words import (
    convolution_padding,
    pooling_padding,
    rounded_up_padding,
)
from parity_tests.tf_graphs import layers
from parity_tests.tf_graphs.serving import ServingGraph

pytestmark = pytest.mark.tensorflow
torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[parity]'")
nn = torch.nn

INCEPTION = "inception_resnet_v1"
ARCHITECTURES = (INCEPTION, "pnet", "rnet", "onet")
DIMS = {"embedding": 128}
SCOPE = "InceptionResnetV1"
FUSED = "FusedBatchNormV3"
NAN = float("nan")


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Networks as they should be; a test that changes one sets it back."""
    from facenet_models import InceptionResnetV1, ONet, PNet, RNet

    made = (InceptionResnetV1(embedding_size=128, num_classes=3), PNet(), RNet(), ONet())
    return {name: model.eval() for name, model in zip(ARCHITECTURES, made, strict=True)}


@pytest.fixture(scope="module")
def graphs(tensorflow: Any) -> dict[str, ServingGraph]:
    """The project's own; a test that changes one copies it."""
    del tensorflow
    return {name: own_graph(name, DIMS) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def expected(graphs: dict[str, ServingGraph]) -> dict[str, Settings]:
    return {name: graph_settings(graph, name) for name, graph in graphs.items()}


def slims_unfused(net: Any, phase_train: Any) -> Any:
    """tf.contrib.slim's batch norm with ``fused=False``, as graphs of TensorFlow 1.0 have it."""
    import tensorflow

    tf, raw = tensorflow.compat.v1, tensorflow.raw_ops
    with tf.variable_scope("BatchNorm"):
        beta = layers.variable("beta", (net.shape[-1],))
        moving = [layers.variable(f"moving_{name}", (net.shape[-1],)) for name in MOMENTS]
        chosen = []
        for stored, batch in zip(moving, tf.nn.moments(net, (0, 1, 2)), strict=True):
            serving, _ = raw.Switch(data=stored.read_value(), pred=phase_train)
            _, training = raw.Switch(data=batch, pred=phase_train)
            chosen.append(raw.Merge(inputs=[serving, training]).output)
        return tf.nn.batch_normalization(net, *chosen, beta, None, 0.001, name="batchnorm")


MOMENTS = ("mean", "variance")


@pytest.fixture
def unfused(monkeypatch: pytest.MonkeyPatch) -> ServingGraph:
    monkeypatch.setattr(layers, "batch_norm", slims_unfused)
    monkeypatch.setattr(
        import_module("parity_tests.tf_graphs.inception_resnet_v1"), "batch_norm", slims_unfused
    )
    return own_graph(INCEPTION, DIMS)


# --- both sides agree ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_graph_and_module_agree(
    architecture: str, models: dict[str, Any], expected: dict[str, Settings]
) -> None:
    found = module_settings(models[architecture], architecture)
    assert compare_settings(expected[architecture], found) == ()
    assert found == expected[architecture]


def test_what_there_is_to_see(expected: dict[str, Settings]) -> None:
    """Written out, so that both sides can't be wrong in the same way."""
    found = expected[INCEPTION]
    assert len([path for path in found if path.endswith(".conv")]) == 111
    assert found["conv2d_1a.conv"] == {
        "kernel": [3, 3],
        "stride": [2, 2],
        "padding": "VALID",
        "dilation": [1, 1],
    }
    assert found["repeat_2.3.branch1.1.conv"]["kernel"] == [1, 7]
    assert found["repeat_2.3.branch1.1.conv"]["padding"] == "SAME"
    assert found["conv2d_1a.bn"] == {"epsilon": 0.001, "statistics": "stored", "gain": 1.0}
    scales = {path: s["scale"] for path, s in found.items() if "scale" in s}
    assert [scales[f"repeat_{n}.4"] for n in (1, 2, 3)] == [0.17, 0.10, 0.20]
    assert len(scales) == 21
    assert found["repeat_1.1"] == {
        "branches": ["branch0", "branch1", "branch2"],
        "axis": "channels",
        "input": "repeat_1.0",
        "scale": 0.17,
        "relu": True,
    }
    assert (found["block8"]["scale"], found["block8"]["relu"]) == (1.0, False)
    assert found["mixed_7a.branch2.0"] == {"input": "repeat_2.9", "relu": True}
    assert found["avgpool_1a"]["kernel"] == "the whole map"
    assert found["last_linear"] == {"input": "avgpool_1a"}
    assert found[""] == {"answers": ["last_bn"], "l2_epsilon": 1e-10}
    onet = expected["onet"]
    assert [onet[f"pool{i}"]["padding"] for i in (1, 2, 3)] == ["SAME", "VALID", "VALID"]
    assert onet["dense5"] == {"input": "prelu4", "flatten": "WHC"}
    assert onet[""] == {"answers": ["dense6_2", "dense6_3", "softmax6_1"]}


def test_graphs_from_files_agree(
    tmp_path: Path,
    fill: Callable[[str, tuple[int, ...]], np.ndarray],
    expected: dict[str, Settings],
) -> None:
    prefix = write_checkpoint(tmp_path, 128, 5, fill=fill)
    meta = read_meta(next(prefix.parent.glob("*.meta")), INCEPTION)
    assert graph_settings(meta, INCEPTION) == expected[INCEPTION]
    frozen = read_frozen(write_frozen(tmp_path, 128, fill=fill), "inception_resnet_v1")
    assert graph_settings(frozen, INCEPTION) == expected[INCEPTION]


@pytest.mark.parametrize("net", ARCHITECTURES[1:])
def test_the_originals_own_graph_agrees(net: str, expected: dict[str, Settings]) -> None:
    folder = original_available()
    if folder is None:
        pytest.skip("the submodule is not checked out")
    assert graph_settings(original_graph(net, folder), net) == expected[net]


def test_classifier_is_no_difference(models: dict[str, Any], expected: dict[str, Settings]) -> None:
    model = models[INCEPTION]
    with patched(model, classify=True):
        assert module_settings(model, INCEPTION) == expected[INCEPTION]
        assert model.classify


def test_batch_norm_that_is_not_fused(
    tensorflow: Any, unfused: ServingGraph, expected: dict[str, Settings]
) -> None:
    assert not any("FusedBatchNorm" in node.op for node in unfused.graph_def.node)
    assert graph_settings(unfused, INCEPTION) == expected[INCEPTION]
    scope = f"{SCOPE}/Repeat/block35_2/Branch_1/Conv2d_0b_3x3/BatchNorm/batchnorm"
    set_constant(tensorflow, unfused, f"{scope}/add/y", 1e-5)
    findings = compare_settings(graph_settings(unfused, INCEPTION), expected[INCEPTION])
    layer = "repeat_1.1.branch1.1.bn"
    assert findings == (Finding(layer, "epsilon differs", "1e-05", "0.001"),)
    addition = node(unfused, f"{scope}/add")
    variance, epsilon = addition.input
    addition.input[:] = [epsilon, variance]
    assert compare_settings(graph_settings(unfused, INCEPTION), expected[INCEPTION]) == findings


def test_statistics_of_the_batch_in_serving(
    unfused: ServingGraph, expected: dict[str, Settings]
) -> None:
    scope = f"{SCOPE}/Repeat/block35_2/Branch_1/Conv2d_0b_3x3/BatchNorm"
    node(unfused, f"{scope}/batchnorm/add").input[0] = f"{scope}/moments/variance"
    # The batch's moments depend on what is normalised, which then leads to two places.
    with pytest.raises(ParityError, match=r"block35_2/Branch_1/Conv2d_0b_3x3/Conv2D' .*leads to"):
        graph_settings(unfused, INCEPTION)
    node(unfused, f"{scope}/batchnorm/add").input[0] = f"{SCOPE}/Conv2d_1a_3x3/Relu"
    findings = compare_settings(graph_settings(unfused, INCEPTION), expected[INCEPTION])
    layer = "repeat_1.1.branch1.1.bn"
    assert findings == (Finding(layer, "statistics differs", "of the batch", "stored"),)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_type_of_the_weights_does_not_matter(dtype: str, expected: dict[str, Settings]) -> None:
    from facenet_models import InceptionResnetV1

    model = InceptionResnetV1(embedding_size=8).eval().to(getattr(torch, dtype))
    assert compare_settings(expected[INCEPTION], module_settings(model, INCEPTION)) == ()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reading_changes_nothing(
    architecture: str, models: dict[str, Any], graphs: dict[str, ServingGraph]
) -> None:
    model, graph = models[architecture], graphs[architecture]
    stored = graph.graph_def.SerializeToString()
    attributes = {path: sorted(vars(module)) for path, module in model.named_modules()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    module_settings(model, architecture)
    graph_settings(graph, architecture)
    assert graph.graph_def.SerializeToString() == stored
    assert attributes == {path: sorted(vars(module)) for path, module in model.named_modules()}
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


# --- defects of the network ---

# Architecture, module, attributes set on it, layer found, what, expected, found.
MODULE_DEFECTS = [
    (INCEPTION, "last_bn", {"eps": 1e-5}, "last_bn", "epsilon differs", "0.001", "1e-05"),
    (
        INCEPTION,
        "repeat_2.7.branch1.2.bn",
        {"eps": 1.0000001e-3},
        "repeat_2.7.branch1.2.bn",
        "epsilon differs",
        "0.001",
        "0.0010000001",
    ),
    (
        INCEPTION,
        "conv2d_2a.bn",
        {"training": True},
        "conv2d_2a.bn",
        "statistics differs",
        "stored",
        "of the batch",
    ),
    (
        INCEPTION,
        "conv2d_2a.bn",
        {"track_running_stats": False},
        "conv2d_2a.bn",
        "statistics differs",
        "stored",
        "of the batch",
    ),
    (
        INCEPTION,
        "conv2d_2b.conv",
        {"stride": (2, 2)},
        "conv2d_2b.conv",
        "stride differs",
        "[1, 1]",
        "[2, 2]",
    ),
    (
        INCEPTION,
        "repeat_2.0.branch1.1.conv",
        {"padding": (0, 2)},
        "repeat_2.0.branch1.1.conv",
        "padding differs",
        "SAME",
        "[[0, 0], [2, 2]]",
    ),
    (
        INCEPTION,
        "conv2d_2b.conv",
        {"padding": (0, 0)},
        "conv2d_2b.conv",
        "padding differs",
        "SAME",
        "VALID",
    ),
    (
        INCEPTION,
        "conv2d_2b.conv",
        {"padding_mode": "reflect"},
        "conv2d_2b.conv",
        "padding differs",
        "SAME",
        "SAME, reflect",
    ),
    (
        INCEPTION,
        "conv2d_4a.conv",
        {"padding": (1, 1)},
        "conv2d_4a.conv",
        "padding differs",
        "VALID",
        "SAME",
    ),
    (
        INCEPTION,
        "conv2d_4a.conv",
        {"dilation": (2, 2)},
        "conv2d_4a.conv",
        "dilation differs",
        "[1, 1]",
        "[2, 2]",
    ),
    (INCEPTION, "conv2d_3b", {"relu": nn.Identity()}, "conv2d_3b", "relu differs", "true", "false"),
    (
        INCEPTION,
        "conv2d_3b",
        {"relu": nn.LeakyReLU()},
        "conv2d_3b",
        "relu differs",
        "true",
        "another function",
    ),
    (INCEPTION, "repeat_1.2", {"scale": 0.1}, "repeat_1.2", "scale differs", "0.17", "0.1"),
    (INCEPTION, "repeat_2.9", {"scale": 1.0}, "repeat_2.9", "scale differs", "0.1", "1.0"),
    (INCEPTION, "repeat_3.0", {"scale": 0.0}, "repeat_3.0", "scale differs", "0.2", "0.0"),
    (INCEPTION, "repeat_3.0", {"scale": -0.2}, "repeat_3.0", "scale differs", "0.2", "-0.2"),
    (INCEPTION, "block8", {"scale": 0.2}, "block8", "scale differs", "1.0", "0.2"),
    (INCEPTION, "block8", {"relu": nn.ReLU()}, "block8", "relu differs", "false", "true"),
    (INCEPTION, "repeat_3.4", {"relu": None}, "repeat_3.4", "relu differs", "true", "false"),
    (
        INCEPTION,
        "repeat_1.3",
        {"_names": ("branch1", "branch0", "branch2")},
        "repeat_1.3",
        "branches differs",
        '["branch0", "branch1", "branch2"]',
        '["branch1", "branch0", "branch2"]',
    ),
    (
        INCEPTION,
        "mixed_6a",
        {"_names": ("branch0", "branch2", "branch1")},
        "mixed_6a",
        "branches differs",
        '["branch0", "branch1", "branch2"]',
        '["branch0", "branch2", "branch1"]',
    ),
    *(
        (
            INCEPTION,
            path,
            {"ceil_mode": True},
            path,
            "padding differs",
            "VALID",
            "VALID, rounded up",
        )
        for path in ("maxpool_3a", "mixed_6a.branch2", "mixed_7a.branch3")
    ),
    (
        INCEPTION,
        "maxpool_3a",
        {"kernel_size": 2},
        "maxpool_3a",
        "kernel differs",
        "[3, 3]",
        "[2, 2]",
    ),
    (INCEPTION, "maxpool_3a", {"stride": 3}, "maxpool_3a", "stride differs", "[2, 2]", "[3, 3]"),
    (
        INCEPTION,
        "maxpool_3a",
        {"padding": 1},
        "maxpool_3a",
        "padding differs",
        "VALID",
        "[[1, 1], [1, 1]]",
    ),
    (
        INCEPTION,
        "avgpool_1a",
        {"output_size": 3},
        "avgpool_1a",
        "kernel differs",
        "the whole map",
        "gives 3",
    ),
    (
        INCEPTION,
        "",
        {"avgpool_1a": nn.AdaptiveMaxPool2d(1)},
        "avgpool_1a",
        "kind differs",
        "average",
        "max",
    ),
    (INCEPTION, "dropout", {"training": True}, "dropout", "active differs", "false", "true"),
    ("pnet", "pool1", {"ceil_mode": False}, "pool1", "padding differs", "SAME", "VALID"),
    ("rnet", "pool1", {"ceil_mode": False}, "pool1", "padding differs", "SAME", "VALID"),
    ("onet", "pool1", {"ceil_mode": False}, "pool1", "padding differs", "SAME", "VALID"),
    (
        "rnet",
        "pool2",
        {"ceil_mode": True},
        "pool2",
        "padding differs",
        "VALID",
        "VALID, rounded up",
    ),
    (
        "onet",
        "pool2",
        {"ceil_mode": True},
        "pool2",
        "padding differs",
        "VALID",
        "VALID, rounded up",
    ),
    (
        "onet",
        "pool3",
        {"ceil_mode": True},
        "pool3",
        "padding differs",
        "VALID",
        "VALID, rounded up",
    ),
    ("pnet", "conv3", {"padding": (1, 1)}, "conv3", "padding differs", "VALID", "SAME"),
    ("onet", "conv1", {"stride": (2, 2)}, "conv1", "stride differs", "[1, 1]", "[2, 2]"),
    ("pnet", "softmax4_1", {"dim": -1}, "softmax4_1", "axis differs", "channels", "width"),
    ("onet", "softmax6_1", {"dim": 0}, "softmax6_1", "axis differs", "channels", "batch"),
]


@pytest.mark.parametrize("defect", MODULE_DEFECTS, ids=lambda d: f"{d[0]}-{d[1]}-{'-'.join(d[2])}")
def test_defect_of_the_network_is_named(
    defect: tuple[Any, ...], models: dict[str, Any], expected: dict[str, Settings]
) -> None:
    architecture, path, values, *finding = defect
    model = models[architecture]
    with patched(model.get_submodule(path), **values):
        found = module_settings(model, architecture)
    assert compare_settings(expected[architecture], found) == (Finding(*finding),)
    assert module_settings(model, architecture) == expected[architecture]


def test_every_epsilon_and_scale_is_looked_at(
    models: dict[str, Any], expected: dict[str, Settings]
) -> None:
    model = models[INCEPTION]
    norms = [
        (p, m) for p, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    blocks = [(p, m) for p, m in model.named_modules() if hasattr(m, "scale")]
    assert (len(norms), len(blocks)) == (112, 21)
    with ExitStack() as stack:
        for number, (_, norm) in enumerate(norms):
            stack.enter_context(patched(norm, eps=number * 1e-6))
        for number, (_, block) in enumerate(blocks):
            stack.enter_context(patched(block, scale=2.0 + number))
        findings = compare_settings(expected[INCEPTION], module_settings(model, INCEPTION))
    wanted = {p: f"{n * 1e-6}" for n, (p, _) in enumerate(norms)}
    wanted |= {p: f"{2.0 + n}" for n, (p, _) in enumerate(blocks)}
    assert {f.layer: f.found for f in findings} == wanted
    assert len(findings) == len(wanted)


def test_scale_that_is_nan(models: dict[str, Any], expected: dict[str, Settings]) -> None:
    model = models[INCEPTION]
    with patched(model.get_submodule("repeat_3.1"), scale=NAN):
        findings = compare_settings(expected[INCEPTION], module_settings(model, INCEPTION))
    assert Finding("repeat_3.1", "scale differs", "0.2", "NaN") in findings
    assert {finding.layer for finding in findings} == {"repeat_3.1"}


def answered(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda value, **_: function(value)


@pytest.mark.parametrize(
    ("normalise", "found"),
    [
        (lambda x: x, "not normalised"),
        (lambda x: x / x.norm(dim=1, keepdim=True).clamp_min(1e-12), "1e-24"),
        (lambda x: x / x.norm(dim=1, keepdim=True), "0.0"),
        (lambda x: x / x.abs().sum(dim=1, keepdim=True), "another function"),
        (lambda x: x / (x.norm(dim=1, keepdim=True) + 1e-5), "another function"),
        (lambda x: x / x.norm(), "another function"),
    ],
)
def test_normalisation(
    normalise: Callable[[Any], Any],
    found: str,
    models: dict[str, Any],
    expected: dict[str, Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.nn.functional, "normalize", answered(normalise))
    findings = compare_settings(expected[INCEPTION], module_settings(models[INCEPTION], INCEPTION))
    assert findings == (Finding("the network", "l2_epsilon differs", "1e-10", found),)


def test_epsilon_of_the_normalisation(
    models: dict[str, Any], expected: dict[str, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from facenet_models.networks import inception_resnet_v1

    monkeypatch.setattr(inception_resnet_v1, "NORMALIZE_EPS", 1.1e-5)
    findings = compare_settings(expected[INCEPTION], module_settings(models[INCEPTION], INCEPTION))
    assert findings == (Finding("the network", "l2_epsilon differs", "1e-10", "1.21e-10"),)


def test_one_gain_that_is_not_one(models: dict[str, Any], expected: dict[str, Settings]) -> None:
    model = models[INCEPTION]
    weight = model.get_submodule("conv2d_4b.bn").weight
    with torch.no_grad():
        weight[7] = float(np.nextafter(np.float32(1), np.float32(2)))
        findings = compare_settings(expected[INCEPTION], module_settings(model, INCEPTION))
        weight[7] = 1
    what = "gain differs"
    assert findings == (Finding("conv2d_4b.bn", what, "1.0", "differs by channel"),)


def test_forward_that_is_wired_otherwise(
    models: dict[str, Any], expected: dict[str, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["rnet"]

    def without_pool(x: Any) -> Any:
        x = model.pool1(model.prelu1(model.conv1(x)))
        x = model.prelu3(model.conv3(model.prelu2(model.conv2(x))))
        x = model.prelu4(model.dense4(x.flatten(1)))
        return model.softmax5_1(model.dense5_1(x)), model.dense5_2(x).relu()

    monkeypatch.setattr(model, "forward", without_pool)
    findings = compare_settings(expected["rnet"], module_settings(model, "rnet"))
    assert [str(finding) for finding in findings] == [
        "pool2: input differs (expected prelu2, found nothing: it is never called)",
        "conv3: input differs (expected pool2, found prelu2)",
        "dense4: flatten differs (expected WHC, found CHW)",
        'the network: answers differs (expected ["dense5_2", "softmax5_1"], '
        'found ["softmax5_1", "another function"])',
    ]


def test_block_that_is_wired_otherwise(
    models: dict[str, Any], expected: dict[str, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = models[INCEPTION].get_submodule("repeat_1.0")

    def crossed(x: Any) -> Any:
        joined = torch.cat([block.branch0(x), block.branch1(2 * x), block.branch2(x)], dim=1)
        return block.relu(block.conv2d(joined) * block.scale + 2 * x)

    monkeypatch.setattr(block, "forward", crossed)
    findings = compare_settings(expected[INCEPTION], module_settings(models[INCEPTION], INCEPTION))
    assert [(f.layer, f.what, f.found) for f in findings] == [
        ("repeat_1.0", "branches differs", '["branch0", "another function", "branch2"]'),
        ("repeat_1.0", "input differs", "2 times conv2d_4b"),
    ]


def test_layers_too_many_and_too_few(expected: dict[str, Settings]) -> None:
    from facenet_models import PNet

    model = PNet()
    model.prelu2 = nn.Identity()
    model.extra = nn.Conv2d(3, 3, 3)
    findings = compare_settings(expected["pnet"], module_settings(model, "pnet"))
    assert [(f.layer, f.what) for f in findings] == [
        ("prelu2", "input is missing"),
        ("prelu2", "slopes is missing"),
        ("prelu2", "kind has no counterpart in the reference"),
        ("extra", "has no counterpart in the reference"),
    ]


def test_network_that_raises_is_a_finding(
    models: dict[str, Any], expected: dict[str, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("no such luck")

    block = models[INCEPTION].get_submodule("repeat_1.0")
    monkeypatch.setattr(block, "forward", broken)
    findings = compare_settings(expected[INCEPTION], module_settings(models[INCEPTION], INCEPTION))
    assert {finding.layer for finding in findings} == {"repeat_1.0"}
    assert findings[0].found == "RuntimeError: no such luck"


# --- defects of the graph ---


def edited(graph: ServingGraph) -> ServingGraph:
    copy = type(graph.graph_def)()
    copy.CopyFrom(graph.graph_def)
    return replace(graph, graph_def=copy)


def node(graph: ServingGraph, name: str) -> Any:
    return next(node for node in graph.graph_def.node if node.name == name)


def set_constant(tensorflow: Any, graph: ServingGraph, name: str, value: Any) -> None:
    changed = node(graph, name)
    old = tensorflow.make_ndarray(changed.attr["value"].tensor)
    proto = tensorflow.make_tensor_proto(np.full(old.shape, value, old.dtype))
    changed.attr["value"].tensor.CopyFrom(proto)


def constant(name: str, value: Any) -> Callable[[Any, ServingGraph], None]:
    return lambda tf, graph: set_constant(tf, graph, name, value)


def attribute(name: str, key: str, value: Any) -> Callable[[Any, ServingGraph], None]:
    def change(_: Any, graph: ServingGraph) -> None:
        held = node(graph, name).attr[key]
        if isinstance(value, list):
            held.list.i[:] = value
        else:
            setattr(held, {bytes: "s", bool: "b", float: "f"}[type(value)], value)

    return change


def operation(name: str, op: str, *inputs: str) -> Callable[[Any, ServingGraph], None]:
    def change(_: Any, graph: ServingGraph) -> None:
        node(graph, name).op = op
        if inputs:
            node(graph, name).input[:] = inputs

    return change


BLOCK17 = f"{SCOPE}/Repeat_1/block17_3"
CONV_1A = f"{SCOPE}/Conv2d_1a_3x3"
GRAPH_DEFECTS = [
    (
        INCEPTION,
        attribute(f"{CONV_1A}/BatchNorm/cond/{FUSED}", "epsilon", 1e-5),
        ("conv2d_1a.bn", "epsilon differs", "1e-05", "0.001"),
    ),
    (
        INCEPTION,
        attribute(f"{CONV_1A}/BatchNorm/cond/{FUSED}", "is_training", True),
        ("conv2d_1a.bn", "statistics differs", "of the batch", "stored"),
    ),
    (
        INCEPTION,
        constant(f"{CONV_1A}/BatchNorm/Const", 2.0),
        ("conv2d_1a.bn", "gain differs", "2.0", "1.0"),
    ),
    (
        INCEPTION,
        attribute(f"{CONV_1A}/Conv2D", "strides", [1, 1, 1, 1]),
        ("conv2d_1a.conv", "stride differs", "[1, 1]", "[2, 2]"),
    ),
    (
        INCEPTION,
        attribute(f"{CONV_1A}/Conv2D", "padding", b"SAME"),
        ("conv2d_1a.conv", "padding differs", "SAME, by the input's size", "VALID"),
    ),
    (
        INCEPTION,
        attribute(f"{CONV_1A}/Conv2D", "dilations", [1, 2, 3, 1]),
        ("conv2d_1a.conv", "dilation differs", "[2, 3]", "[1, 1]"),
    ),
    (
        INCEPTION,
        operation(f"{CONV_1A}/Relu", "Identity"),
        ("conv2d_1a", "relu differs", "false", "true"),
    ),
    (
        INCEPTION,
        attribute(f"{SCOPE}/MaxPool_3a_3x3/MaxPool", "padding", b"SAME"),
        ("maxpool_3a", "padding differs", "SAME", "VALID"),
    ),
    (
        INCEPTION,
        attribute(f"{SCOPE}/MaxPool_3a_3x3/MaxPool", "ksize", [1, 2, 3, 1]),
        ("maxpool_3a", "kernel differs", "[2, 3]", "[3, 3]"),
    ),
    (
        INCEPTION,
        operation(f"{SCOPE}/MaxPool_3a_3x3/MaxPool", "AvgPool"),
        ("maxpool_3a", "kind differs", "average", "max"),
    ),
    (
        INCEPTION,
        constant(f"{BLOCK17}/mul/x", 0.17),
        ("repeat_2.2", "scale differs", "0.17", "0.1"),
    ),
    (
        INCEPTION,
        constant(f"{BLOCK17}/mul/x", np.nextafter(np.float32(0.1), np.float32(1))),
        ("repeat_2.2", "scale differs", "0.10000001", "0.1"),
    ),
    (
        INCEPTION,
        operation(f"{BLOCK17}/Relu", "Identity"),
        ("repeat_2.2", "relu differs", "false", "true"),
    ),
    (
        INCEPTION,
        operation(f"{BLOCK17}/add", "AddV2", f"{SCOPE}/Mixed_6a/concat", f"{BLOCK17}/mul"),
        ("repeat_2.2", "input differs", "mixed_6a", "repeat_2.1"),
    ),
    (
        INCEPTION,
        operation(
            f"{SCOPE}/Mixed_6a/concat",
            "ConcatV2",
            f"{SCOPE}/Mixed_6a/Branch_1/Conv2d_1a_3x3/Relu",
            f"{SCOPE}/Mixed_6a/Branch_0/Conv2d_1a_3x3/Relu",
            f"{SCOPE}/Mixed_6a/Branch_2/MaxPool_1a_3x3/MaxPool",
            f"{SCOPE}/Mixed_6a/concat/axis",
        ),
        (
            "mixed_6a",
            "branches differs",
            '["branch1", "branch0", "branch2"]',
            '["branch0", "branch1", "branch2"]',
        ),
    ),
    (
        INCEPTION,
        constant(f"{SCOPE}/Mixed_7a/concat/axis", 1),
        ("mixed_7a", "axis differs", "height", "channels"),
    ),
    (
        INCEPTION,
        attribute(f"{SCOPE}/Logits/AvgPool_1a_8x8/AvgPool", "ksize", [1, 2, 2, 1]),
        ("avgpool_1a", "kernel differs", "[2, 2]", "the whole map"),
    ),
    (
        INCEPTION,
        constant("embeddings/Maximum/y", 1e-12),
        ("the network", "l2_epsilon differs", "1e-12", "1e-10"),
    ),
    (
        INCEPTION,
        constant("embeddings/Sum/reduction_indices", 0),
        ("the network", "l2_epsilon differs", "another function", "1e-10"),
    ),
    (
        INCEPTION,
        operation("embeddings/Square", "Square", f"{SCOPE}/Block8/add"),
        ("the network", "l2_epsilon differs", "another function", "1e-10"),
    ),
    (
        INCEPTION,
        operation("embeddings", "Identity", f"{SCOPE}/Bottleneck/BatchNorm/Reshape_1"),
        ("the network", "l2_epsilon differs", "not normalised", "1e-10"),
    ),
    (
        "pnet",
        attribute("pnet/pool1", "padding", b"VALID"),
        ("pool1", "padding differs", "VALID", "SAME"),
    ),
    (
        "onet",
        attribute("onet/pool2", "padding", b"SAME"),
        ("pool2", "padding differs", "SAME", "VALID"),
    ),
    (
        "pnet",
        constant("pnet/Sum/reduction_indices", 1),
        ("softmax4_1", "axis differs", "width", "channels"),
    ),
    # The original feeds images with height and width exchanged.
    (
        "rnet",
        attribute("rnet/conv2/Conv2D", "strides", [1, 2, 3, 1]),
        ("conv2", "stride differs", "[3, 2]", "[1, 1]"),
    ),
    (
        "rnet",
        operation("rnet/conv2/Conv2D", "Conv2D", "rnet/conv1/BiasAdd", "rnet/conv2/weights/read"),
        ("conv2", "input differs", "conv1", "pool1"),
    ),
]


@pytest.mark.parametrize("defect", GRAPH_DEFECTS, ids=lambda d: "-".join(d[2][:2]))
def test_defect_of_the_graph_is_named(
    defect: tuple[Any, ...],
    tensorflow: Any,
    graphs: dict[str, ServingGraph],
    models: dict[str, Any],
) -> None:
    architecture, change, finding = defect
    graph = edited(graphs[architecture])
    if finding[1] == "input differs" and architecture == "rnet":
        # Nothing else needs what is bypassed: an answer keeps it in the graph.
        graph = replace(graph, outputs=(*graph.outputs, "rnet/pool1:0"))
    change(tensorflow, graph)
    found = module_settings(models[architecture], architecture)
    findings = compare_settings(graph_settings(graph, architecture), found)
    assert findings[:1] == (Finding(*finding),)
    assert [f for f in findings[1:] if f.what != "answers differs"] == []


def test_stride_of_a_padded_convolution(graphs: dict[str, ServingGraph]) -> None:
    """What SAME adds depends on the input's size then, which torch's padding never does."""
    graph = edited(graphs[INCEPTION])
    attribute(f"{SCOPE}/Conv2d_2b_3x3/Conv2D", "strides", [1, 2, 2, 1])(None, graph)
    found = graph_settings(graph, INCEPTION)["conv2d_2b.conv"]
    assert (found["stride"], found["padding"]) == ([2, 2], "SAME, by the input's size")


@pytest.mark.parametrize(
    ("architecture", "change", "message"),
    [
        (INCEPTION, operation(f"{CONV_1A}/Conv2D", "MatMul"), f"no Conv2D .*'{CONV_1A}'"),
        (INCEPTION, operation(f"{BLOCK17}/mul", "Sub"), f"'{BLOCK17}/mul' .*should add"),
        (INCEPTION, operation(f"{BLOCK17}/add", "Sub"), f"'{BLOCK17}/add' .*should add"),
        (INCEPTION, operation("embeddings/Maximum", "Minimum"), "'embeddings/Maximum' .*length"),
        (INCEPTION, operation("embeddings/Rsqrt", "Sqrt"), "'embeddings' .*neither"),
        (INCEPTION, attribute(f"{CONV_1A}/Conv2D", "data_format", b"NCHW"), "does not take NHWC"),
        (
            INCEPTION,
            operation(f"{CONV_1A}/BatchNorm/cond/Merge", "Relu", f"{CONV_1A}/Conv2D"),
            f"'{CONV_1A}/BatchNorm/cond/Merge' .*should be the batch norm",
        ),
        (
            INCEPTION,
            operation(
                f"{SCOPE}/Repeat_1/block17_4/add",
                "AddV2",
                f"{BLOCK17}/add",
                f"{SCOPE}/Repeat_1/block17_4/mul",
            ),
            f"'{BLOCK17}/add' .*leads to a ReLU and past it",
        ),
        ("rnet", operation("rnet/prob1", "Mul"), "'rnet/prob1' .*should be a softmax"),
        ("pnet", operation("pnet/PReLU2/sub", "AddV2"), "'pnet/PReLU2/sub' .*PReLU"),
        ("pnet", operation("pnet/conv2/BiasAdd", "Sub"), "'pnet/conv2/BiasAdd' .*bias"),
    ],
)
def test_graph_that_is_no_such_network(
    architecture: str,
    change: Callable[[Any, ServingGraph], None],
    message: str,
    graphs: dict[str, ServingGraph],
) -> None:
    graph = edited(graphs[architecture])
    change(None, graph)
    with pytest.raises(ParityError, match=message):
        graph_settings(graph, architecture)


def test_two_candidates_for_a_layer(graphs: dict[str, ServingGraph]) -> None:
    graph = edited(graphs[INCEPTION])
    twin = graph.graph_def.node.add()
    twin.CopyFrom(node(graph, f"{CONV_1A}/Conv2D"))
    twin.name = f"{CONV_1A}/Conv2D_1"
    node(graph, f"{CONV_1A}/Relu").input.append(twin.name)
    with pytest.raises(ParityError, match=r"2 nodes of type Conv2D .*Conv2D_1'"):
        graph_settings(graph, INCEPTION)


@pytest.mark.parametrize("read", [graph_settings, module_settings])
def test_unknown_architecture(read: Callable[..., Settings], graphs: dict[str, Any]) -> None:
    with pytest.raises(ParityError, match="no settings of the architecture 'vgg'"):
        read(graphs["pnet"], "vgg")


# --- the words for padding, against what TensorFlow and torch do ---


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_words_for_pooling(tensorflow: Any, kernel: int, stride: int) -> None:
    seen = set()
    for size in range(5, 14):
        values = np.random.default_rng(size).standard_normal((1, size, size, 1)).astype(np.float32)
        valid, same = (
            tensorflow.nn.max_pool2d(values, kernel, stride, padding).numpy()[0, :, :, 0]
            for padding in ("VALID", "SAME")
        )
        image = torch.from_numpy(values[..., 0])
        ceil = nn.MaxPool2d(kernel, stride, ceil_mode=True)(image).numpy()[0]
        two = ([kernel] * 2, [stride] * 2)
        word = pooling_padding(True, *two, size)
        assert (word == "VALID") == np.array_equal(valid, same), size
        if np.array_equal(ceil, same) and not np.array_equal(ceil, valid):
            assert rounded_up_padding(*two, size) == "SAME"
        elif stride <= kernel:  # else windows would start beyond the end, and torch drops them
            assert rounded_up_padding(*two, size) == "VALID, rounded up"
        seen.add(rounded_up_padding(*two, size))
    if (kernel, stride) == (3, 2):
        assert seen == {"SAME", "VALID, rounded up"}


@pytest.mark.parametrize(
    ("kernel", "dilation", "sides", "word"),
    [
        ([1, 1], [1, 1], [[0, 0], [0, 0]], "VALID"),
        ([3, 3], [1, 1], [[1, 1], [1, 1]], "SAME"),
        ([1, 7], [1, 1], [[0, 0], [3, 3]], "SAME"),
        ([7, 1], [1, 1], [[0, 0], [3, 3]], [[0, 0], [3, 3]]),
        ([3, 3], [2, 2], [[2, 2], [2, 2]], "SAME"),
        ([3, 3], [2, 2], [[1, 1], [1, 1]], [[1, 1], [1, 1]]),
        ([2, 2], [1, 1], [[0, 1], [0, 1]], "SAME"),  # TensorFlow pads the odd one at the end
        ([2, 2], [1, 1], [[1, 0], [1, 0]], [[1, 0], [1, 0]]),
    ],
)
def test_words_for_convolutions(
    kernel: list[int], dilation: list[int], sides: list[list[int]], word: Any
) -> None:
    assert convolution_padding(kernel, dilation, sides) == word


# --- comparing ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_json_round_trip(architecture: str, expected: dict[str, Settings]) -> None:
    stored = json.loads(json.dumps(expected[architecture], allow_nan=False))
    assert stored == expected[architecture]
    assert compare_settings(stored, expected[architecture]) == ()


@pytest.mark.parametrize(
    ("expected", "found", "findings"),
    [
        ({"a": {"x": 1}}, {"a": {"x": 1.0}}, []),
        ({"a": {"x": [1, 2]}}, {"a": {"x": (1, 2)}}, []),
        ({"a": {"x": NAN}}, {"a": {"x": NAN}}, ["a: x differs (expected NaN, found NaN)"]),
        (
            {"a": {"x": [1, NAN]}},
            {"a": {"x": [1, NAN]}},
            ["a: x differs (expected [1, NaN], found [1, NaN])"],
        ),
        ({"a": {"x": 1}}, {"a": {"x": True}}, ["a: x differs (expected 1, found true)"]),
        ({"a": {"x": [1]}}, {"a": {"x": [1, 1]}}, ["a: x differs (expected [1], found [1, 1])"]),
        ({"a": {"x": None}}, {"a": {}}, ["a: x is missing (expected null, found nothing)"]),
        (
            {"a": {}},
            {"a": {"x": None}},
            ["a: x has no counterpart in the reference (expected nothing, found null)"],
        ),
        ({"a": {}}, {}, ["a: is missing"]),
        ({}, {"": {}}, ["the network: has no counterpart in the reference"]),
        (
            {"b": {"x": 1}, "a": {"x": 1}},
            {"a": {"x": 2}, "c": {}, "b": {"x": 2}},
            [
                "b: x differs (expected 1, found 2)",
                "a: x differs (expected 1, found 2)",
                "c: has no counterpart in the reference",
            ],
        ),
    ],
)
def test_comparison(expected: Settings, found: Settings, findings: list[str]) -> None:
    assert [str(finding) for finding in compare_settings(expected, found)] == findings
