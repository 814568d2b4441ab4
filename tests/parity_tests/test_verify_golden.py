"""A checkpoint of golden weights passes every gate, whatever it is judged against."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support.tf_checkpoints import write_frozen
from support.tf_fixtures import GoldenCheckpoint

from converter.convert import Request, convert
from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.cli import capture_command, verify_command
from parity_tests.gates import float32_gate, task_gate
from parity_tests.open_sides import open_candidate, open_live
from parity_tests.reference.original import GraphValues
from parity_tests.reference.runner import ReferenceRunner, read_meta, weights_in_graph
from parity_tests.tf_graphs.float64 import in_float64

pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
pytestmark = pytest.mark.tensorflow

PASSED = dict.fromkeys(("weights", "float64", "float32", "task"), "passed")
FEW = ("--count", "2")


def verify(folder: Path, reference: Path, candidate: Path, *options: str) -> dict[str, Any]:
    out = folder / "report.json"
    call = [str(reference), str(candidate), "--json", str(out), *options]
    result = CliRunner().invoke(verify_command, call)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(out.read_text())
    return report


@pytest.fixture(scope="module")
def converted(golden_128: GoldenCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "golden.pt"
    convert(Request(str(golden_128.prefix), str(out)))
    return out


def test_its_own_graph(golden_128: GoldenCheckpoint, converted: Path, tmp_path: Path) -> None:
    report = verify(tmp_path, golden_128.prefix, converted, *FEW)
    assert {gate["name"]: gate["status"] for gate in report["gates"]} == PASSED
    measured = {gate["name"]: gate["measured"] for gate in report["gates"]}
    assert measured["float64"] < 1e-14  # measured: 4e-16
    assert golden_128.meta.name in report["reference"]


def test_a_frozen_graph(
    golden_weights: ModuleType, converted: Path, tmp_path: Path, tensorflow: Any
) -> None:
    del tensorflow
    frozen = write_frozen(tmp_path, 128, fill=golden_weights.fill)
    report = verify(tmp_path, frozen, converted, *FEW, "--probes", "none")
    assert {gate["name"]: gate["status"] for gate in report["gates"]} == PASSED
    assert frozen.name in report["reference"]


def test_a_record(golden_128: GoldenCheckpoint, converted: Path, tmp_path: Path) -> None:
    out = tmp_path / "reference.h5"
    call = [str(golden_128.prefix), "--out", str(out), *FEW]
    assert CliRunner().invoke(capture_command, call).exit_code == 0
    report = verify(tmp_path, out, converted)
    assert {gate["name"]: gate["status"] for gate in report["gates"]} == PASSED
    assert {probe["verdict"] for probe in report["probes"]} == {"same"}


def test_the_stored_golden_answers(
    golden_128: GoldenCheckpoint,
    converted: Path,
    golden_weights: ModuleType,
    reference_dir: Path,
) -> None:
    """Return the original graph's outputs, stored when the reference data was made."""
    golden = np.load(reference_dir / "golden" / "inception_resnet_v1-128-0.npz")["embeddings"]
    images = golden_weights.inputs(len(golden))
    candidate = open_candidate(str(converted))
    with candidate.runner() as runner:
        assert isinstance(runner, CandidateRunner)
        (found,) = runner.run(images)
    values = GraphValues(_catalog(golden_128), "inception_resnet_v1")
    with ReferenceRunner(
        in_float64(read_meta(golden_128.meta, "inception_resnet_v1"), values), weights_in_graph
    ) as wide:
        (oracle,) = wide.run(images.astype(np.float64))
    samples = [f"golden {number}" for number in range(len(golden))]
    gates = [float32_gate(golden, found, oracle, samples), task_gate(golden, found, samples)]
    assert [gate.status for gate in gates] == ["passed", "passed"]
    assert gates[0].measured < 2e-6
    # And not just anything passes: the answers to other images do not.
    assert float32_gate(golden, found[::-1].copy(), oracle, samples).status == "failed"


def _catalog(checkpoint: GoldenCheckpoint) -> Any:
    from parity_tests.open_sides import FeedOptions

    return open_live(str(checkpoint.prefix), FeedOptions()).catalog


@pytest.fixture
def onnx_file(converted: Path, tmp_path: Path) -> Callable[[], Path]:
    pytest.importorskip("onnx", reason='needs onnx: pip install "facenet-parity[onnx]"')
    pytest.importorskip("onnxruntime")

    def make() -> Path:
        from facenet_models.cli.export import command

        out = tmp_path / "golden.onnx"
        call = [str(converted), "--format", "onnx", "--out", str(out)]
        result = CliRunner().invoke(command, call)
        assert result.exit_code == 0, result.output
        return out

    return make


def test_an_onnx_file(
    golden_128: GoldenCheckpoint, onnx_file: Callable[[], Path], tmp_path: Path
) -> None:
    report = verify(tmp_path, golden_128.prefix, onnx_file(), *FEW)
    status = {gate["name"]: gate["status"] for gate in report["gates"]}
    skipped = dict.fromkeys(("weights", "float64"), "skipped")
    assert status == PASSED | skipped
    assert any("layers are not compared" in note for note in report["notes"])
    assert "onnxruntime" in report["environment"]
