"""`verify` passes what is right, fails what is not, and says why where it can't tell."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.tf_checkpoints import write_frozen
from support.tf_fixtures import GoldenCheckpoint

from facenet_common.errors import MissingPackageError, ParityError
from parity_tests import first_parity
from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.first_parity import FirstParity, l2_distances, random_inputs, verify
from parity_tests.verify_request import VerifyRequest

VERDICT = FirstParity(
    architecture="inception_resnet_v1",
    distances=(1e-7, 2e-7),
    tolerance=1e-5,
    graph="model.meta",
    seed=1,
    weights_dtypes=("float32",),
    torch_version="2",
    tensorflow_version="2",
)
PLAIN_REQUEST = {
    "weights": "a.pt",
    "weights_format": "torch",
    "architecture": "inception_resnet_v1",
    "dims": {"embedding": 128},
    "source_format": "tensorflow-bundle",
    "source": "model.ckpt-275",
    "graph": None,
}
Save = Callable[[dict[str, Any]], Path]


@pytest.fixture
def request_128(golden_128: GoldenCheckpoint, candidate_128: Path) -> VerifyRequest:
    return VerifyRequest(
        weights=candidate_128,
        weights_format="torch",
        architecture="inception_resnet_v1",
        dims={"embedding": 128},
        source_format="tensorflow-bundle",
        source=golden_128.prefix,
        graph=golden_128.meta,
    )


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(state: dict[str, Any]) -> Path:
        import torch

        torch.save(state, tmp_path / "candidate")
        return tmp_path / "candidate"

    return write


# --- the verdict, without running anything ---


def test_verdict_needs_distances_strictly_below_the_tolerance() -> None:
    assert VERDICT.passed
    failing = [(), (1e-5,), (1e-7, np.nextafter(1e-5, 1)), (float("nan"),), (0.0, float("nan"))]
    for distances in [*failing, (float("nan"), 0.0), (float("inf"),)]:
        assert not replace(VERDICT, distances=distances).passed, distances
    assert replace(VERDICT, distances=(np.nextafter(1e-5, 0), 0.0)).passed


def test_verdict_in_words_and_json() -> None:
    assert VERDICT.summary().startswith("passed: 2 of 2 embeddings closer than 1e-05 (L2)")
    assert "model.meta" in VERDICT.summary()
    broken = replace(VERDICT, distances=(1e-7, float("nan")), weights_dtypes=("float16",))
    assert "FAILED: 1 of 2" in broken.summary()
    assert "the farthest nan" in broken.summary()
    assert "stored as float16 and were run in float32" in broken.summary()
    record = json.loads(json.dumps(broken.to_json(), allow_nan=False))
    assert record["distances"] == [1e-7, None]
    assert record["passed"] is False


def test_distances_join_all_outputs_of_a_sample() -> None:
    left = (np.zeros((2, 2, 1), np.float32), np.zeros((2, 1), np.float32))
    right = (np.array([[[1], [2]], [[0], [0]]], np.float32), np.array([[2], [0]], np.float32))
    assert l2_distances(left, right) == (3.0, 0.0)
    right[1][1] = np.nan
    distances = l2_distances(left, right)
    assert distances[0] == 3.0
    assert np.isnan(distances[1])


@pytest.mark.parametrize(
    "other",
    [(), (np.zeros((2, 3), np.float32),), (np.zeros((1, 2), np.float32),), (np.zeros((2, 2)),)],
)
def test_outputs_of_another_form_are_not_compared(other: tuple[Any, ...]) -> None:
    with pytest.raises(ParityError, match="can't be compared"):
        l2_distances((np.zeros((2, 2), np.float32),), other)


def test_inputs_are_reproducible_and_differ() -> None:
    inputs = random_inputs("pnet", 3, 7)
    assert inputs.dtype == np.float32
    assert inputs.shape[1] != inputs.shape[2]
    assert np.array_equal(inputs, random_inputs("pnet", 3, 7))
    assert not np.array_equal(inputs, random_inputs("pnet", 3, 8))
    assert not np.array_equal(inputs[0], inputs[1])


# --- the request ---


def test_request_from_plain_values() -> None:
    request = VerifyRequest.from_mapping(PLAIN_REQUEST)
    assert request.weights == Path("a.pt")
    assert (request.count, request.seed, request.tolerance) == (5, 20180402, 1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graf": None}, "'graf' is unknown"),
        ({"architecture": "vgg"}, "architecture should be one of"),
        ({"weights_format": "pt"}, "weights_format should be one of torch, safetensors"),
        ({"architecture": "pnet"}, "source_format should be 'mtcnn-npy' for"),
        ({"source_format": "frozen-graph", "graph": "a.meta"}, "graph should be None unless"),
        ({"count": 0}, "count should be"),
        ({"count": True}, "count should be"),
        ({"seed": -1}, "seed should be"),
        ({"tolerance": float("nan")}, "tolerance should be a finite number above 0"),
        ({"tolerance": 0.0}, "tolerance should be"),
        ({"weights": 3}, "weights should be a path"),
        ({"dims": {"embedding": "many"}}, "dims should be sizes"),
    ],
)
def test_malformed_request(change: dict[str, object], message: str) -> None:
    with pytest.raises(ParityError, match=message):
        VerifyRequest.from_mapping(PLAIN_REQUEST | change)


def test_request_with_a_value_missing() -> None:
    with pytest.raises(ParityError, match="'source' is missing"):
        VerifyRequest.from_mapping({k: v for k, v in PLAIN_REQUEST.items() if k != "source"})


# --- what it needs ---


def test_import_is_light_and_the_hook_is_registered() -> None:
    code = (
        "import sys, parity_tests, parity_tests.first_parity, parity_tests.tf_graphs; "
        "print([m for m in ('tensorflow', 'torch', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    (hook,) = entry_points(group="facenet.hooks", name="first_parity")
    assert hook.load() is first_parity.verify


@pytest.mark.parametrize("missing", ["tensorflow", "torch"])
def test_missing_framework_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from parity_tests import frameworks

    monkeypatch.setitem(sys.modules, missing, None)  # importing it now fails as if it were absent
    extra = {"tensorflow": "parity", "torch": "torch"}[missing]
    with pytest.raises(MissingPackageError, match=rf'(?s){missing}, .*"facenet-parity\[{extra}\]"'):
        getattr(frameworks, missing)()


# --- the real thing ---


@pytest.mark.tensorflow
@pytest.mark.parametrize("graph", ["meta", "own"])
def test_right_weights_pass(request_128: VerifyRequest, graph: str) -> None:
    said: list[str] = []
    request = request_128 if graph == "meta" else replace(request_128, graph=None)
    verdict = verify(request, said.append)
    assert verdict.passed, verdict
    assert len(verdict.distances) == 5
    assert min(verdict.distances) > 0  # two programs, not one compared with itself
    assert max(verdict.distances) < 2e-6  # measured: 6.6e-7
    expected = {"meta": "model-20180402-114759.meta", "own": "the project's own graph"}
    assert verdict.graph == expected[graph]
    assert verdict.weights_dtypes == ("float32",)
    assert len(said) == 3


@pytest.mark.tensorflow
def test_right_weights_with_classifier_pass_against_frozen_graph(
    golden_weights: ModuleType,
    golden_state: Callable[[int, int], dict[str, Any]],
    save: Save,
    tmp_path: Path,
) -> None:
    verdict = verify(
        {
            "weights": save(golden_state(512, 8631)),
            "weights_format": "torch",
            "architecture": "inception_resnet_v1",
            "dims": {"embedding": 512, "classes": 8631},
            "source_format": "frozen-graph",
            "source": write_frozen(tmp_path, 512, fill=golden_weights.fill, classes=8631),
            "graph": None,
        }
    )
    assert verdict.passed, verdict
    assert verdict.graph == "20180402-114759.pb"


def _scale_one_kernel(state: dict[str, Any]) -> None:
    key = "repeat_2.4.branch1.1.conv.weight"
    state[key] = state[key] * 1.001


def _one_nan(state: dict[str, Any]) -> None:
    key = "last_bn.bias"
    state[key] = state[key].clone()
    state[key][0] = float("nan")


def _in_half(state: dict[str, Any]) -> None:
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = value.half()


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "damage",
    [_scale_one_kernel, _one_nan, _in_half],
)
def test_wrong_weights_fail(
    request_128: VerifyRequest,
    golden_state: Callable[[int, int], dict[str, Any]],
    save: Save,
    damage: Callable[[dict[str, Any]], None],
) -> None:
    state = golden_state(128, 0)
    damage(state)
    verdict = verify(replace(request_128, weights=save(state), graph=None, count=2))
    assert not verdict.passed, verdict
    assert "FAILED: 0 of 2" in verdict.summary()
    assert verdict.weights_dtypes == (("float16",) if damage is _in_half else ("float32",))


@pytest.mark.tensorflow
@pytest.mark.parametrize(("number", "name"), [(1, "pnet"), (2, "rnet"), (3, "onet")])
def test_mtcnn(
    tensorflow: Any, reference_dir: Path, tmp_path: Path, number: int, name: str
) -> None:
    torch = pytest.importorskip("torch")
    published = reference_dir / "published" / f"{name}.pt"
    request = VerifyRequest(
        weights=published,
        weights_format="torch",
        architecture=name,
        dims={},
        source_format="mtcnn-npy",
        source=reference_dir / "mtcnn" / f"det{number}.npy",
    )
    verdict = verify(request)
    assert verdict.passed, verdict
    assert max(verdict.distances) < 5e-6  # measured: 2.0e-6 P-Net, 8.5e-7 R-Net, 8.6e-7 O-Net
    state = torch.load(published, weights_only=True)
    state["conv1.weight"] = state["conv1.weight"].transpose(2, 3).contiguous()
    torch.save(state, tmp_path / "transposed")
    assert not verify(replace(request, weights=tmp_path / "transposed")).passed
    del tensorflow


# --- candidates that can't be run: no TensorFlow needed ---


def enter(weights: Path, weights_format: str = "torch") -> CandidateRunner:
    with CandidateRunner(weights, weights_format, "rnet", {}) as candidate:
        return candidate


@pytest.fixture
def rnet_state() -> dict[str, Any]:
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[parity]'")
    from facenet_models import RNet

    return dict(RNet().state_dict())


def test_safetensors_candidate(
    rnet_state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    path = tmp_path / ".tmp-candidate"
    safetensors.save_file(rnet_state, path)
    assert enter(path, "safetensors").dtypes == ("float32",)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ParityError, match="safetensors can't read"):
        enter(path, "safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingPackageError, match=r"facenet-parity\[torch\]"):
        enter(path, "safetensors")


def test_mixed_precision_is_reported(rnet_state: dict[str, Any], save: Save) -> None:
    rnet_state["conv1.weight"] = rnet_state["conv1.weight"].bfloat16()
    assert enter(save(rnet_state)).dtypes == ("bfloat16", "float32")


def test_candidates_that_do_not_fit(rnet_state: dict[str, Any], save: Save, tmp_path: Path) -> None:
    path = tmp_path / "candidate"
    with pytest.raises(ParityError, match="can't read"):
        enter(path)
    path.write_bytes(b"<html>")
    with pytest.raises(ParityError, match="torch can't read"):
        enter(path)
    with pytest.raises(ParityError, match="does not hold a state_dict"):
        enter(save({"a": 1}))
    with pytest.raises(ParityError, match=r"do not fit RNet: .*Unexpected.*surplus"):
        enter(save(rnet_state | {"surplus": rnet_state["conv1.bias"]}))
    with pytest.raises(ParityError, match=r"do not fit RNet: .*size mismatch for conv1\.bias"):
        enter(save(rnet_state | {"conv1.bias": rnet_state["conv2.bias"]}))
    del rnet_state["conv2.bias"]
    with pytest.raises(ParityError, match=r"do not fit RNet: .*Missing.*conv2\.bias"):
        enter(save(rnet_state))
