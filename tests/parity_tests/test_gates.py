"""Each gate passes what is right and fails what is wrong, NaN and shapes included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter.architectures import INCEPTION_RESNET_V1
from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import FLOAT32
from parity_tests.gates import float32_gate, float64_gate, task_gate, weights_gate

RNG = np.random.default_rng(7)
TRUTH = RNG.normal(size=(6, 32))
TRUTH /= np.linalg.norm(TRUTH, axis=1, keepdims=True)
ANSWERS = TRUTH.astype(np.float32)
SAMPLES = tuple(f"noise {number}" for number in range(6))


def moved(by: float, rows: int = 1) -> np.ndarray:
    found = ANSWERS.copy()
    found[:rows, 0] += np.float32(by)
    return found


def poisoned(value: float) -> np.ndarray:
    found = ANSWERS.copy()
    found[2, 3] = value
    return found


@pytest.mark.parametrize("gap", [0.0, 9e-13, -9e-13])
def test_float64_passes_rounding(gap: float) -> None:
    assert float64_gate(TRUTH, TRUTH + gap).status == "passed"


@pytest.mark.parametrize(
    "found",
    [
        TRUTH + 2e-12,
        np.where(np.arange(32) == 5, np.nan, TRUTH),
        np.where(np.arange(32) == 5, np.inf, TRUTH),
        TRUTH[:, :31],
        TRUTH[:5],
        ANSWERS,  # float32: the gate would measure rounding
        TRUTH[:0],
    ],
    ids=["far", "nan", "inf", "narrow", "few", "float32", "none"],
)
def test_float64_fails_all_else(found: np.ndarray) -> None:
    assert float64_gate(TRUTH, found).status == "failed"
    assert float64_gate(found, TRUTH).status == "failed"


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (ANSWERS.copy(), True),
        (moved(9e-6), True),
        (moved(1.1e-5), False),
        (poisoned(np.nan), False),
        (poisoned(np.inf), False),
        (ANSWERS.astype(np.float64), False),
        (ANSWERS[:, :8], False),
    ],
    ids=["same", "near", "far", "nan", "inf", "float64", "narrow"],
)
def test_float32_is_the_contract(found: np.ndarray, passes: bool) -> None:
    gate = float32_gate(ANSWERS, found, None, SAMPLES)
    assert (gate.status == "passed") is passes
    if found.shape == ANSWERS.shape and np.isfinite(found).all() and not passes:
        assert [f.layer for f in gate.findings] in (["noise 0"], [])


def test_float32_measures_against_the_oracle() -> None:
    reference = (TRUTH + RNG.normal(size=TRUTH.shape) * 1e-7).astype(np.float32)
    scale = np.linspace(2e-7, 9e-7, 6)  # of rounding, for each sample
    near, far = (
        (TRUTH + times * scale[:, None] / np.sqrt(32)).astype(np.float32) for times in (3.8, 6)
    )
    assert np.linalg.norm(far - reference, axis=1).max() < 1e-5  # within the contract
    assert float32_gate(reference, near, TRUTH, SAMPLES, scale=scale).status == "passed"
    assert float32_gate(reference, far, None, SAMPLES).status == "passed"
    gate = float32_gate(reference, far, TRUTH, SAMPLES, scale=scale)
    assert gate.status == "failed"
    assert "than rounding explains" in gate.findings[0].what
    assert gate.details["times_rounding"] == pytest.approx(6, rel=0.1)


@pytest.mark.parametrize(
    ("scale", "passes"), [(0.0, False), (np.nan, False), (1e-30, False), (1.0, True)]
)
def test_a_scale_that_explains_nothing_fails(scale: float, passes: bool) -> None:
    found = moved(1e-6, 6)
    gate = float32_gate(ANSWERS, found, TRUTH, SAMPLES, scale=np.full(6, scale))
    assert (gate.status == "passed") is passes
    exact = ANSWERS.astype(np.float64)
    gate = float32_gate(ANSWERS, ANSWERS, exact, SAMPLES, scale=np.full(6, scale))
    assert gate.status == "passed"  # nothing is left to explain


def test_no_scale_loosens_the_contract() -> None:
    gate = float32_gate(ANSWERS, moved(1.1e-5), TRUTH, SAMPLES, scale=np.ones(6))
    assert gate.status == "failed"


def test_task_keeps_distances_and_neighbours() -> None:
    assert task_gate(ANSWERS, moved(5e-6, 6), SAMPLES).status == "passed"
    swapped = ANSWERS[[1, 0, 2, 3, 4, 5]]
    gate = task_gate(ANSWERS, swapped, SAMPLES)
    assert gate.status == "failed"
    assert task_gate(ANSWERS, poisoned(np.nan), SAMPLES).status == "failed"
    assert task_gate(ANSWERS[:2], ANSWERS[:2], SAMPLES[:2]).status == "skipped"


def test_task_names_the_sample_whose_neighbour_changed() -> None:
    close = ANSWERS.copy()
    close[1] = close[0] + np.float32(1e-3)  # 0 and 1 are each other's nearest
    far = close.copy()
    far[1] = -close[1]
    gate = task_gate(close, far, SAMPLES)
    assert {finding.layer for finding in gate.findings} >= {"noise 0", "noise 1"}


# --- weights


def catalog(refs: dict[str, TensorRef], naming: Naming) -> Catalog:
    return Catalog(refs, format="test", naming=naming, files=(Path("test"),))


@pytest.fixture(scope="module")
def sides(fill: Callable[[str, tuple[int, ...]], np.ndarray]) -> tuple[Catalog, Catalog]:
    from converter.execute import target_tensors
    from converter.plan import make_plan

    dims = {"embedding": 8, "classes": 3}
    values = {
        rule.source: fill(rule.source, tuple(dims.get(d, d) for d in rule.shape))  # type: ignore[arg-type, call-overload, misc] # sizes and names of sizes
        for rule in INCEPTION_RESNET_V1.rules
    }
    refs = {n: TensorRef(n, FLOAT32, v.shape, lambda v=v: v) for n, v in values.items()}
    source = catalog(refs, "tensorflow")
    made = target_tensors(make_plan(source, to="torch"), dtype=None, allow_nonfinite=False)
    return source, catalog({ref.name: ref for ref in made}, "torch")


def changed(side: Catalog, name: str, value: np.ndarray | None) -> Catalog:
    refs = dict(side)
    if value is None:
        del refs[name]
    else:
        refs[name] = replace(refs[name], shape=value.shape, load=lambda: value)
    return catalog(refs, "torch")


def test_weights_pass_bit_for_bit(sides: tuple[Catalog, Catalog]) -> None:
    gate = weights_gate(*sides)
    assert (gate.status, gate.measured) == ("passed", 0.0)
    assert "716 of 716" in gate.summary


def test_one_ulp_in_one_weight_fails(sides: tuple[Catalog, Catalog]) -> None:
    name = "repeat_2.7.branch1.2.conv.weight"
    value = sides[1][name].load().copy()
    value[3, 2, 1, 0] = np.nextafter(value[3, 2, 1, 0], np.float32(9))
    gate = weights_gate(sides[0], changed(sides[1], name, value))
    assert gate.status == "failed"
    assert [finding.layer for finding in gate.findings] == [name]


def test_a_missing_tensor_fails(sides: tuple[Catalog, Catalog]) -> None:
    gate = weights_gate(sides[0], changed(sides[1], "block8.conv2d.bias", None))
    assert gate.status == "failed"
    assert "is missing" in str(gate.findings[0])


def test_a_classifier_on_one_side_only_is_said(sides: tuple[Catalog, Catalog]) -> None:
    bare = changed(changed(sides[1], "logits.weight", None), "logits.bias", None)
    gate = weights_gate(sides[0], bare)
    assert gate.status == "passed"
    assert "only in the reference" in gate.summary
    half = changed(sides[1], "logits.bias", None)
    assert weights_gate(sides[0], half).status == "failed"


def with_more(source: Catalog, *names: str) -> Catalog:
    more = {name: TensorRef(name, FLOAT32, (3,), lambda: np.ones(3, "<f4")) for name in names}
    return catalog({**source, **more}, "tensorflow")


@pytest.mark.parametrize(
    "name", ["InceptionResnetV1/Bottleneck/BatchNorm/delta", "Logits/scale", "elsewhere/weights"]
)
def test_a_tensor_that_no_rule_explains_fails(sides: tuple[Catalog, Catalog], name: str) -> None:
    gate = weights_gate(with_more(sides[0], name), sides[1])
    assert (gate.status, gate.measured) == ("failed", 1.0)
    assert [finding.layer for finding in gate.findings] == [name]
    assert "no rule explains it" in gate.findings[0].what
    assert "float32 [3]" in gate.findings[0].what


def test_unless_a_graph_shows_that_no_output_depends_on_it(
    sides: tuple[Catalog, Catalog],
) -> None:
    source = with_more(sides[0], "elsewhere/weights", "other/weights")
    gate = weights_gate(source, sides[1], unused={"elsewhere/weights"})
    assert [finding.layer for finding in gate.findings] == ["other/weights"]
    gate = weights_gate(source, sides[1], unused={"elsewhere/weights", "other/weights"})
    assert gate.status == "passed"
    assert "2 not compared: unexplained, but no output of the graph" in gate.summary


def test_variables_of_training_are_counted_with_their_reasons(
    sides: tuple[Catalog, Catalog],
) -> None:
    slots = [f"InceptionResnetV1/Bottleneck/{leaf}/Adam" for leaf in ("weights", "BatchNorm/beta")]
    gate = weights_gate(with_more(sides[0], "global_step", *slots), sides[1])
    assert gate.status == "passed"
    assert "1 not compared: the training step counter" in gate.summary
    assert "2 not compared: Adam optimiser slot" in gate.summary


def test_a_tensor_too_many_in_the_candidate_fails(sides: tuple[Catalog, Catalog]) -> None:
    for name in ("conv2d_1a.bn.delta", "logits.scale", "head.weight"):
        more = changed(sides[1], "logits.bias", sides[1]["logits.bias"].load())
        ref = replace(sides[1]["logits.bias"], name=name)
        gate = weights_gate(sides[0], catalog({**more, name: ref}, "torch"))
        assert [finding.layer for finding in gate.findings] == [name]
        bare = catalog({n: r for n, r in sides[0].items() if "Logits/" not in n}, "tensorflow")
        gate = weights_gate(bare, catalog({**more, name: ref}, "torch"))
        assert [finding.layer for finding in gate.findings] == [name]
        assert "the classifier is only in the candidate" in gate.summary
