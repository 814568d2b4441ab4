"""``convert --verify``: the graph beside the checkpoint decides, before the output has a name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.tf_checkpoints import write_checkpoint, write_frozen
from support.tf_fixtures import GoldenCheckpoint

from converter.cli.convert import command
from converter.demo import value
from facenet_common.errors import ParityError
from facenet_common.progress import Progress
from parity_tests import conversion
from parity_tests.conversion import ConversionParity, verify_conversion
from parity_tests.model import GateResult, ParityReport
from parity_tests.report.json_document import from_json

pytestmark = pytest.mark.tensorflow
GATE = GateResult("float64", "passed", "", 1e-12, 0.0, "the largest difference is 0")
REPORT = ParityReport(
    reference="model.ckpt (model.meta)",
    candidate=".x.pt.partial",
    architecture="inception_resnet_v1",
    dims={"embedding": 128},
    gates=(GATE,),
    environment={"TensorFlow": "2", "torch": "3"},
    embeddings=(("noise 0", 1e-7, 1.0), ("noise 1", 2e-7, 1.0)),
)


@pytest.fixture(scope="module")
def checkpoint(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a published one, with its graph; lively values, 128 numbers an embedding."""
    del tensorflow
    folder = tmp_path_factory.mktemp("verify") / "20180402-114759"
    write_checkpoint(folder, 128, 0, fill=value)
    return folder


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("name", ["vggface2.pt", "vggface2.safetensors"])
def test_the_checkpoints_own_graph_serves(checkpoint: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("safetensors")
    out = tmp_path / name
    result = run("--checkpoint", checkpoint, "--out", out, "--verify", "--json")
    assert result.exit_code == 0, result.output
    receipt = json.loads(result.stdout)
    assert receipt["schema"] == "facenet-parity/receipt/4"
    parity = from_json(receipt["parity"])
    assert parity.passed
    assert [gate.name for gate in parity.gates] == ["weights", "float64", "float32", "task"]
    assert parity.reference.endswith("(model-20180402-114759.meta)")
    assert parity.candidate == str(out)
    assert parity.command == f"facenet verify {checkpoint} {out}"
    distances = [distance for _, distance, _ in parity.embeddings]
    assert len(distances) == 5
    assert min(distances) > 0  # two programs, not one compared with itself
    assert max(distances) < 2e-6  # measured: 6.6e-7
    assert parity.probes == ()
    assert out.is_file()


def test_without_a_graph_the_projects_own_serves(checkpoint: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in checkpoint.iterdir():
        if path.suffix != ".meta":
            (bare / path.name).symlink_to(path)
    result = run("--checkpoint", bare, "--out", tmp_path / "x.pt", "--verify")
    assert result.exit_code == 0, result.output
    for words in (
        "passed: 5 of 5 embeddings closer than 1e-05 (L2)",
        "gates passed: weights, float64, float32, task",
        "the project's own graph",
    ):
        assert words in result.stdout


def test_a_frozen_graph_serves_itself(tmp_path: Path) -> None:
    frozen = write_frozen(tmp_path / "frozen", 128, fill=value)
    result = run("--checkpoint", frozen, "--out", tmp_path / "x.pt", "--verify", "--json")
    assert result.exit_code == 0, result.output
    receipt = json.loads(result.stdout)
    assert receipt["parity"]["reference"].endswith(f"({frozen.name})")
    assert receipt["source"]["format"] == "frozen-graph"
    assert any("has no classifier" in note for note in receipt["notes"])


def test_a_graph_that_computes_something_else_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parity_tests.tf_graphs import layers

    monkeypatch.setattr(layers, "BATCH_NORM_EPSILON", 0.0011)
    folder = tmp_path / "other"
    write_checkpoint(folder, 128, 0, fill=value)
    result = run("--checkpoint", folder, "--out", tmp_path / "x.pt", "--verify")
    assert result.exit_code == 1
    assert "FAILED: 0 of 5" in result.stderr
    assert "gate float64 failed: the largest difference is" in result.stderr
    assert "gates passed: weights" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_mtcnn(reference_dir: Path, tmp_path: Path) -> None:
    source = reference_dir / "mtcnn" / "det1.npy"
    result = run("--checkpoint", source, "--out", tmp_path / "pnet.pt", "--verify")
    assert result.exit_code == 0, result.output
    assert "5 of 5 answers" in result.stdout


@pytest.mark.parametrize(("absent", "extra"), [("tensorflow", "parity"), ("torch", "torch")])
def test_what_to_install_is_said(checkpoint: Path, tmp_path: Path, absent: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from converter.cli.convert import command; command()"
    )
    arguments = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "x.pt"), "--verify"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f'pip install "facenet-parity[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--dtype", "float16"], "rounded"), (["--part", "logits"], "--part logits")],
)
def test_what_cannot_be_verified_is_refused(
    checkpoint: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = run("--checkpoint", checkpoint, "--out", tmp_path / "x.pt", "--verify", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_way_back_needs_no_verification(checkpoint: Path, tmp_path: Path) -> None:
    run("--checkpoint", checkpoint, "--out", tmp_path / "a.pt")
    result = run("--checkpoint", tmp_path / "a.pt", "--out", f"{tmp_path}/back/", "--verify")
    assert result.exit_code == 2
    assert "bit for bit" in result.stderr


# --- the hook


def test_import_is_light_and_the_hook_is_registered() -> None:
    code = (
        "import sys, parity_tests, parity_tests.conversion, parity_tests.tf_graphs; "
        "print([m for m in ('tensorflow', 'torch', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    (hook,) = entry_points(group="facenet.hooks", name="verify")
    assert hook.load() is verify_conversion


def test_the_verdict_in_words() -> None:
    said = ConversionParity(REPORT).summary()
    assert said == (
        "passed: 2 of 2 embeddings closer than 1e-05 (L2), the farthest 2e-07; gates passed: "
        "float64; model.ckpt (model.meta), TensorFlow 2 against torch 3"
    )
    failed = replace(GATE, status="failed", summary="the largest difference is 0.1")
    rows = (("noise 0", 1e-7, 1.0), ("noise 1", float("nan"), 1.0))
    verdict = ConversionParity(replace(REPORT, gates=(failed,), embeddings=rows))
    assert not verdict.passed
    assert verdict.summary().startswith(
        "FAILED: 1 of 2 embeddings closer than 1e-05 (L2), the farthest nan; gate float64 failed: "
        "the largest difference is 0.1; model.ckpt"
    )
    assert json.loads(json.dumps(verdict.to_json(), allow_nan=False))["passed"] is False


def verdict_of(monkeypatch: pytest.MonkeyPatch, report: ParityReport) -> ConversionParity:
    """The hook's, where `verify` finds `report`."""
    monkeypatch.setattr(conversion, "verify", lambda *_: report)
    return verify_conversion("model.ckpt", Path(".x.pt.partial"), output=Path("x.pt"), step=7)


def test_a_gate_without_a_verdict_is_no_failure(
    tensorflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del tensorflow
    errored = replace(GATE, status="errored", summary="node 'a' can't be rewritten in float64")
    with pytest.raises(ParityError, match=r"float64 can't be judged(.|\n)*node 'a'"):
        verdict_of(monkeypatch, replace(REPORT, gates=(errored,)))
    failed = replace(GATE, name="float32", status="failed")
    assert not verdict_of(monkeypatch, replace(REPORT, gates=(errored, failed))).passed
    report = verdict_of(monkeypatch, REPORT).report
    assert (report.candidate, report.command) == ("x.pt", "facenet verify model.ckpt x.pt --step 7")


def test_an_interrupted_verdict_interrupts(
    tensorflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del tensorflow
    with pytest.raises(KeyboardInterrupt):
        verdict_of(monkeypatch, replace(REPORT, partial=True))


class Steps(Progress):
    def __init__(self) -> None:
        self.names: list[str] = []

    def stage(self, name: str, total: int) -> None:
        del total
        self.names.append(name)

    def note(self, text: str) -> None:
        self.names.append(text)


def test_right_weights_pass(golden_128: GoldenCheckpoint, candidate_128: Path) -> None:
    """Made without the converter."""
    steps = Steps()
    verdict = verify_conversion(str(golden_128.prefix), candidate_128, progress=steps)
    assert verdict.passed, verdict.summary()
    assert steps.names[0] == "starting TensorFlow and torch"
    assert "torch, float64" in steps.names


def test_right_weights_with_classifier_pass_against_frozen_graph(
    golden_weights: ModuleType,
    golden_state: Callable[[int, int], dict[str, Any]],
    tmp_path: Path,
) -> None:
    import torch

    torch.save(golden_state(512, 8631), tmp_path / "candidate")
    frozen = write_frozen(tmp_path, 512, fill=golden_weights.fill, classes=8631)
    verdict = verify_conversion(str(frozen), tmp_path / "candidate")
    assert verdict.passed, verdict.summary()
    assert "20180402-114759.pb" in verdict.summary()


def _scale_one_kernel(state: dict[str, Any]) -> None:
    key = "repeat_2.4.branch1.1.conv.weight"
    state[key] = state[key] * 1.001


def _one_nan(state: dict[str, Any]) -> None:
    key = "last_bn.bias"
    state[key] = state[key].clone()
    state[key][0] = float("nan")


@pytest.mark.parametrize("damage", [_scale_one_kernel, _one_nan])
def test_wrong_weights_fail(
    golden_128: GoldenCheckpoint,
    golden_state: Callable[[int, int], dict[str, Any]],
    tmp_path: Path,
    damage: Callable[[dict[str, Any]], None],
) -> None:
    import torch

    state = golden_state(128, 0)
    damage(state)
    torch.save(state, tmp_path / "candidate")
    verdict = verify_conversion(str(golden_128.prefix), tmp_path / "candidate")
    assert not verdict.passed
    assert "FAILED: 0 of 5" in verdict.summary()
    assert "gate float64 failed" in verdict.summary()


@pytest.mark.parametrize(("number", "name"), [(1, "pnet"), (2, "rnet"), (3, "onet")])
def test_nets_of_mtcnn(
    tensorflow: Any, reference_dir: Path, tmp_path: Path, number: int, name: str
) -> None:
    del tensorflow
    torch = pytest.importorskip("torch")
    source = str(reference_dir / "mtcnn" / f"det{number}.npy")
    published = reference_dir / "published" / f"{name}.pt"
    verdict = verify_conversion(source, published)
    assert verdict.passed, verdict.summary()
    assert "5 of 5 answers" in verdict.summary()
    state = torch.load(published, weights_only=True)
    state["conv1.weight"] = state["conv1.weight"].transpose(2, 3).contiguous()
    torch.save(state, tmp_path / "transposed")
    assert not verify_conversion(source, tmp_path / "transposed").passed
