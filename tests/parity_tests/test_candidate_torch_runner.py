"""The candidate's runner loads right files and refuses others, without TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facenet_common.errors import MissingPackageError, ParityError
from parity_tests.candidate.torch_runner import CandidateRunner

Save = Callable[[dict[str, Any]], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(state: dict[str, Any]) -> Path:
        import torch

        torch.save(state, tmp_path / "candidate")
        return tmp_path / "candidate"

    return write


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
    with CandidateRunner(path, "safetensors", "rnet", {}) as candidate:
        assert candidate.model.conv1.weight.equal(rnet_state["conv1.weight"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ParityError, match="safetensors can't read"):
        enter(path, "safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingPackageError, match=r"facenet-parity\[torch\]"):
        enter(path, "safetensors")


def test_mixed_precision_becomes_one(rnet_state: dict[str, Any], save: Save) -> None:
    rnet_state["conv1.weight"] = rnet_state["conv1.weight"].bfloat16()
    with CandidateRunner(save(rnet_state), "torch", "rnet", {}, "float64") as candidate:
        types = {str(value.dtype) for value in candidate.model.state_dict().values()}
    assert types == {"torch.float64"}


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
