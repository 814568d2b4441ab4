"""The mapping is complete, explicit and reversible, and refuses what it doesn't understand."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from converter.architectures import ARCHITECTURES, INCEPTION_RESNET_V1, ONET, PNET, RNET
from converter.architectures.record import Architecture
from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import BY_NAME, FLOAT32, DType
from converter.execute import settle
from converter.plan import Plan, detect, make_plan
from facenet_common.errors import MappingError

Shapes = dict[str, tuple[int, ...]]


def catalog_of(shapes: Shapes, naming: Naming = "tensorflow", dtype: DType = FLOAT32) -> Catalog:
    """A catalog without values: plans look at names, types and shapes only."""

    def must_not_load() -> np.ndarray:
        raise AssertionError("planning touched data")

    refs = {
        name: TensorRef(
            name,
            BY_NAME["int64"] if name.endswith("num_batches_tracked") else dtype,
            shape,
            must_not_load,
        )
        for name, shape in shapes.items()
    }
    return Catalog(refs, format="test", naming=naming, files=(Path("test"),))


def tensorflow_shapes(architecture: Architecture, **dims: int) -> Shapes:
    return {
        rule.source: tuple(dims[d] if isinstance(d, str) else d for d in rule.shape)
        for rule in architecture.rules
        if rule.part == "features" or "classes" in dims
    }


@pytest.fixture
def shapes() -> Shapes:
    return tensorflow_shapes(INCEPTION_RESNET_V1, embedding=512, classes=8631)


def findings(shapes: Shapes, **options: object) -> dict[str, str]:
    with pytest.raises(MappingError) as caught:
        make_plan(catalog_of(shapes), to="torch", **options)  # type: ignore[arg-type] # as given
    return {finding.tensor: finding.kind for finding in caught.value.findings}  # type: ignore[attr-defined] # Finding


# --- complete


@pytest.mark.parametrize("name", ["512-8631", "128-0"])
def test_source_names_and_shapes_are_the_original_graphs(reference_dir: Path, name: str) -> None:
    path = reference_dir / "variables" / f"inception_resnet_v1-{name}.json"
    original = json.loads(path.read_text())
    dims = {"embedding": original["embedding_size"], "classes": original["classes"]}
    ours = tensorflow_shapes(INCEPTION_RESNET_V1, **{k: v for k, v in dims.items() if v})
    assert ours == {name: tuple(shape) for name, shape in original["variables"]}


def test_targets_are_facenet_pytorchs_in_order(reference_dir: Path, shapes: Shapes) -> None:
    path = reference_dir / "variables" / "facenet_pytorch-inception_resnet_v1.json"
    expected = json.loads(path.read_text())
    plan = make_plan(catalog_of(shapes), to="torch")
    assert [step.target for step in plan.steps] == list(expected)
    edges = {edge.target: edge.layout.shape(edge.source.shape) for edge in plan.edges}
    fills = {fill.target: fill.shape for fill in plan.fills}
    found = {name: list(shape) for name, shape in (edges | fills).items()}
    assert found == {name: shape for name, (shape, _) in expected.items()}
    types = {fill.target: fill.row.dtype.name for fill in plan.fills}
    assert all(f"torch.{kind}" == expected[name][1] for name, kind in types.items())


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda a: a.name)
def test_names_are_unique_on_both_sides(architecture: Architecture) -> None:
    sources = [rule.source for rule in architecture.rules]
    targets = [row.target for row in architecture.rows]
    assert len(set(sources)) == len(sources)
    assert len(set(targets)) == len(targets)
    assert not any("{" in name for name in sources + targets)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda a: a.name)
def test_a_plan_inverts(architecture: Architecture) -> None:
    start = tensorflow_shapes(architecture, embedding=128, classes=7)
    there = make_plan(catalog_of(start), to="torch")
    middle = {edge.target: edge.layout.shape(edge.source.shape) for edge in there.edges}
    middle |= {fill.target: fill.shape for fill in there.fills}
    back = make_plan(catalog_of(middle, "torch"), to="tensorflow")
    certain = [edge for edge in back.edges if edge.optional is None]
    assert {e.target: e.layout.shape(e.source.shape) for e in certain} == start
    assert [e.target for e in certain] == sorted(start)
    optional = {edge.target for edge in back.edges if edge.optional}
    assert optional == architecture.optional
    left = {drop.source.name for drop in back.dropped}
    assert left == {fill.target for fill in there.fills if fill.row.source is None}


@pytest.mark.parametrize("architecture", [PNET, RNET, ONET], ids=lambda a: a.name)
def test_mtcnn_networks_are_told_apart(architecture: Architecture) -> None:
    assert detect(catalog_of(tensorflow_shapes(architecture))) is architecture


@pytest.mark.parametrize(
    "dims",
    [
        {"embedding": 512, "classes": 8631},
        {"embedding": 512, "classes": 10575},
        {"embedding": 128},
        {"embedding": 64, "classes": 1},
    ],
    ids=str,
)
def test_sizes_are_inferred(dims: dict[str, int]) -> None:
    plan = make_plan(catalog_of(tensorflow_shapes(INCEPTION_RESNET_V1, **dims)), to="torch")
    assert plan.dims == dims
    assert any("has no classifier" in note for note in plan.notes) == ("classes" not in dims)


def test_block_numbers_are_not_prefixes_of_each_other(shapes: Shapes) -> None:
    plan = make_plan(catalog_of(shapes), to="torch")
    name = "InceptionResnetV1/Repeat_1/block17_{}/Conv2d_1x1/biases"
    targets = {edge.source.name: edge.target for edge in plan.edges}
    assert [targets[name.format(i)] for i in (1, 2, 10)] == [
        f"repeat_2.{i}.conv2d.bias" for i in (0, 1, 9)
    ]


# --- parts


@pytest.mark.parametrize(
    ("part", "kept"), [("features", False), ("logits", True)], ids=["features", "logits"]
)
def test_parts(shapes: Shapes, part: str, kept: bool) -> None:
    plan = make_plan(catalog_of(shapes), to="torch", part=part)  # type: ignore[arg-type] # a literal
    assert all(step.target.startswith("logits.") == kept for step in plan.steps)
    assert all(drop.source.name.startswith("Logits/") != kept for drop in plan.dropped)
    assert len(plan.steps) == (2 if kept else 714)


def test_the_classifier_alone_converts_back() -> None:
    logits = {"logits.weight": (7, 64), "logits.bias": (7,)}
    plan = make_plan(catalog_of(logits, "torch"), to="tensorflow")
    assert [edge.target for edge in plan.edges] == ["Logits/biases", "Logits/weights"]


def test_asking_for_a_classifier_that_is_not_there() -> None:
    shapes = tensorflow_shapes(INCEPTION_RESNET_V1, embedding=128)
    assert findings(shapes, part="logits") == {
        "Logits/weights": "missing",
        "Logits/biases": "missing",
    }


# --- leftovers of training

_CONV = "InceptionResnetV1/Conv2d_1a_3x3/weights"
_BATCH_NORM = "InceptionResnetV1/Bottleneck/BatchNorm"
LEFTOVERS = [
    "Variable",
    "global_step",
    "beta1_power",
    "beta2_power",
    "cross_entropy/avg",
    "total_loss/avg",
    "centers",
    "centers/Adam_1",
    "Logits/weights/ExponentialMovingAverage",
    "InceptionResnetV1/Conv2d_1a_3x3/BatchNorm/gamma/Adam",
    f"{_BATCH_NORM}/moving_mean/ExponentialMovingAverage",
    *(f"{_CONV}/{slot}" for slot in ("Adagrad", "Adadelta", "Adadelta_1", "Adam", "Adam_1")),
    *(f"{_CONV}/{slot}" for slot in ("RMSProp", "RMSProp_1", "Momentum")),
]


@pytest.mark.parametrize("name", LEFTOVERS)
def test_training_leftovers_are_dropped_with_a_reason(shapes: Shapes, name: str) -> None:
    plan = make_plan(catalog_of(shapes | {name: ()}), to="torch")
    (drop,) = plan.dropped
    assert drop.source.name == name
    assert drop.reason
    assert not plan.unproven


@pytest.mark.parametrize(
    "name",
    [
        f"{_CONV}/Lion",
        f"{_CONV}/Adam_2",
        "total_loss/avg/biased",
        "Adam",
        "my/centers",
        "InceptionResnetV1/Repeat/block35_6/Conv2d_1x1/biases",
    ],
)
def test_anything_else_is_refused_or_dropped_on_request(shapes: Shapes, name: str) -> None:
    assert findings(shapes | {name: (3,)}) == {name: "unexplained"}
    plan = make_plan(catalog_of(shapes | {name: (3,)}), to="torch", strict=False)
    assert [drop.source.name for drop in plan.dropped] == [name]
    assert "--no-strict" in plan.dropped[0].reason
    assert [ref.name for ref in plan.unproven] == [name]


# --- refusals


def test_problems_are_reported_together(shapes: Shapes) -> None:
    renamed = "InceptionResnetV1/Conv2d_2a_3x3/weights"
    shapes["InceptionResnetV1/Conv2d_2a_3x3/weight"] = shapes.pop(renamed)
    reshaped = "InceptionResnetV1/Conv2d_2b_3x3/weights"
    shapes[reshaped] = (3, 3, 64, 32)
    dropped = "InceptionResnetV1/Block8/Conv2d_1x1/biases"
    del shapes[dropped]
    assert findings(shapes) == {
        renamed: "missing",
        "InceptionResnetV1/Conv2d_2a_3x3/weight": "unexplained",
        reshaped: "shape",
        dropped: "missing",
    }


def test_a_rename_is_guessed_in_words_only(shapes: Shapes) -> None:
    shapes["InceptionResnetV1/Bottleneck/weight"] = shapes.pop(
        "InceptionResnetV1/Bottleneck/weights"
    )
    with pytest.raises(MappingError, match=r"renamed to InceptionResnetV1/Bottleneck/weight\n"):
        make_plan(catalog_of(shapes), to="torch")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{_BATCH_NORM}/beta", (128,)),
        ("Logits/biases", (8632,)),
        ("Logits/weights", (128, 8631)),
        (f"{_BATCH_NORM}/beta", (512, 1)),
        (f"{_BATCH_NORM}/beta", ()),
    ],
    ids=str,
)
def test_sizes_must_agree(shapes: Shapes, name: str, shape: tuple[int, ...]) -> None:
    assert findings(shapes | {name: shape})[name] == "shape"


@pytest.mark.parametrize("kind", ["int32", "string", "bool", "complex64"])
def test_weights_must_be_floating(shapes: Shapes, kind: str) -> None:
    with pytest.raises(MappingError) as caught:
        make_plan(catalog_of(shapes, dtype=BY_NAME[kind]), to="torch")
    assert len(caught.value.findings) == len(shapes)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_any_floating_type_will_do(shapes: Shapes, kind: str) -> None:
    make_plan(catalog_of(shapes, dtype=BY_NAME[kind]), to="torch")


def test_another_architecture_is_named(shapes: Shapes) -> None:
    other = {f"Other{name}": shape for name, shape in shapes.items()}
    with pytest.raises(MappingError, match="known architecture"):
        make_plan(catalog_of(other), to="torch")


# --- variables that a graph has all of, or none: gamma


@pytest.fixture
def gammas(shapes: Shapes) -> Shapes:
    """The scales of a graph whose batch norms were built with ``scale=True``."""
    names = (n for n in shapes if n.endswith("/beta"))
    return {name.replace("/beta", "/gamma"): shapes[name] for name in names}


def test_gammas_become_the_weights_of_the_batch_norms(shapes: Shapes, gammas: Shapes) -> None:
    plan = make_plan(catalog_of(shapes | gammas), to="torch")
    targets = {edge.source.name: edge.target for edge in plan.edges}
    assert len(gammas) == 112
    assert targets.keys() == (shapes | gammas).keys()
    assert targets[f"{_BATCH_NORM}/gamma"] == "last_bn.weight"
    first = "InceptionResnetV1/Conv2d_1a_3x3/BatchNorm/gamma"
    assert targets[first] == "conv2d_1a.bn.weight"
    assert {fill.row.dtype.name for fill in plan.fills} == {"int64"}
    order = [step.target for step in make_plan(catalog_of(shapes), to="torch").steps]
    assert [step.target for step in plan.steps] == order


def test_a_scale_that_is_lacking_is_not_guessed(shapes: Shapes, gammas: Shapes) -> None:
    lost = f"{_BATCH_NORM}/gamma"
    del gammas[lost]
    for strict in (True, False):
        assert findings(shapes | gammas, strict=strict) == {lost: "missing"}
    renamed = f"{_BATCH_NORM}/gama"
    gammas[renamed] = (512,)
    assert findings(shapes | gammas) == {lost: "missing", renamed: "unexplained"}
    one = {lost: (512,)}
    found = findings(shapes | one)
    assert len(found) == 111
    assert set(found.values()) == {"missing"}


def test_scales_of_another_size_or_type_are_refused(shapes: Shapes, gammas: Shapes) -> None:
    gammas[f"{_BATCH_NORM}/gamma"] = (511,)
    assert findings(shapes | gammas) == {f"{_BATCH_NORM}/gamma": "shape"}


def test_between_tensorflow_files_there_may_be_scales_or_none(
    shapes: Shapes, gammas: Shapes
) -> None:
    for those in (shapes, shapes | gammas):
        plan = make_plan(catalog_of(those), to="tensorflow")
        assert [step.target for step in plan.steps] == sorted(those)


def target_shapes(plan: Plan) -> Shapes:
    edges = {edge.target: edge.layout.shape(edge.source.shape) for edge in plan.edges}
    return edges | {fill.target: fill.shape for fill in plan.fills}


@pytest.mark.parametrize("different", [0, 1, 112])
def test_scales_go_back_if_any_is_not_one(shapes: Shapes, gammas: Shapes, different: int) -> None:
    middle = target_shapes(make_plan(catalog_of(shapes), to="torch"))
    scales = [name for name in middle if name.endswith("bn.weight")]

    def load(name: str, shape: tuple[int, ...]) -> np.ndarray:
        value = np.ones(shape, np.float32)
        if name in scales[len(scales) - different :]:
            value[-1] = np.nextafter(np.float32(1), np.float32(2))
        return value

    refs = {
        ref.name: replace(ref, load=partial(load, ref.name, ref.shape))
        for ref in catalog_of(middle, "torch").values()
    }
    catalog = Catalog(refs, format="test", naming="torch", files=(Path("test"),))
    plan = settle(make_plan(catalog, to="tensorflow"))
    wanted = shapes | gammas if different else shapes
    assert [step.target for step in plan.steps] == sorted(wanted)
    assert not any(edge.optional for edge in plan.edges)
    mentioned = {edge.source.name for edge in plan.edges}
    mentioned |= {drop.source.name for drop in plan.dropped}
    assert mentioned == middle.keys()
    assert any("gamma" in note for note in plan.notes) == bool(different)


# --- scopes


@pytest.mark.parametrize(
    ("architecture", "name", "within"),
    [
        (INCEPTION_RESNET_V1, "InceptionResnetV1/Conv2d_1a_3x3/BatchNorm/delta", True),
        (INCEPTION_RESNET_V1, "Logits/scale", True),
        (INCEPTION_RESNET_V1, "InceptionResnetV1x/weights", False),
        (INCEPTION_RESNET_V1, "Variable_1", False),
        (PNET, "conv1/scale", True),
        (PNET, "conv9/weights", False),
    ],
)
def test_what_lies_within_a_network(architecture: Architecture, name: str, within: bool) -> None:
    assert architecture.is_within(name) is within
