"""``convert --verify`` as a user runs it: the graph beside the checkpoint decides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.tf_checkpoints import write_checkpoint, write_frozen

from converter.cli.convert import command
from converter.demo import value

pytestmark = pytest.mark.tensorflow


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
    parity = json.loads(result.stdout)["parity"]
    assert parity["passed"] is True
    assert parity["graph"] == "model-20180402-114759.meta"
    assert len(parity["distances"]) == 5
    assert max(parity["distances"]) < 2e-6
    assert out.is_file()


def test_without_a_graph_the_projects_own_serves(checkpoint: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in checkpoint.iterdir():
        if path.suffix != ".meta":
            (bare / path.name).symlink_to(path)
    result = run("--checkpoint", bare, "--out", tmp_path / "x.pt", "--verify")
    assert result.exit_code == 0, result.output
    assert "5 of 5 embeddings" in result.stdout
    assert "the project's own graph" in result.stdout


def test_a_frozen_graph_serves_itself(tmp_path: Path) -> None:
    frozen = write_frozen(tmp_path / "frozen", 128, fill=value)
    result = run("--checkpoint", frozen, "--out", tmp_path / "x.pt", "--verify", "--json")
    assert result.exit_code == 0, result.output
    receipt = json.loads(result.stdout)
    assert receipt["parity"]["graph"] == frozen.name
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
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_mtcnn(reference_dir: Path, tmp_path: Path) -> None:
    source = reference_dir / "mtcnn" / "det1.npy"
    result = run("--checkpoint", source, "--out", tmp_path / "pnet.pt", "--verify")
    assert result.exit_code == 0, result.output
    assert "5 of 5 answers" in result.stdout


@pytest.mark.parametrize("absent", ["tensorflow", "torch"])
def test_what_to_install_is_said(checkpoint: Path, tmp_path: Path, absent: str) -> None:
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from converter.cli.convert import command; command()"
    )
    arguments = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "x.pt"), "--verify"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'pip install "facenet-parity[parity]"' in done.stderr
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
