"""``facenet export``: files, text, JSON and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from facenet_models import InceptionResnetV1, PNet  # noqa: E402
from facenet_models.cli.export import command  # noqa: E402


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_json_and_options(built: InceptionResnetV1, tmp_path: Path) -> None:
    weights, out = tmp_path / "weights.pt", tmp_path / "m.onnx"
    torch.save(built.state_dict(), weights)
    done = invoke(weights, "--out", out, "--classify", "--size", 80, 96, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["dimensions"] == {"embedding": 512, "classes": 11}
    assert told["input"] == ["batch", 3, 80, 96]
    assert told["outputs"] == ["logits"]
    session = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": np.zeros((1, 3, 80, 96), np.float32)})
    assert logits.shape == (1, 11)
    again = invoke(weights, "--out", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_text_and_errors(tmp_path: Path) -> None:
    weights, out = tmp_path / "pnet.pt", tmp_path / "m.onnx"
    torch.save(PNet().state_dict(), weights)
    refused = invoke(weights, "--out", out, "--classify")
    assert (refused.exit_code, out.exists()) == (2, False)
    assert "--classify needs weights with a classifier" in refused.stderr
    done = invoke(weights, "--out", out)
    assert done.exit_code == 0, done.output
    assert "network  pnet" in done.stdout
    assert "batch x 3 x height x width" in done.stdout
    weights.write_bytes(b"nothing of the kind")
    broken = invoke(weights, "--out", out, "--overwrite", "--json")
    assert broken.exit_code == 1
    assert str(weights) in json.loads(broken.stdout).values()


@pytest.mark.parametrize("name", ["m.pt", "m", "m.onnx.pt", "onnx"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    weights, out = tmp_path / "pnet.pt", tmp_path / name
    torch.save(PNet().state_dict(), weights)
    done = invoke(weights, "--out", out, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["error"], told["file"]) == (2, "UsageError", str(out))
    assert told["next_step"] == f"--out {out.with_suffix('.onnx')}"
    assert [path.name for path in tmp_path.iterdir()] == ["pnet.pt"]


def test_the_case_of_the_suffix_does_not_matter(tmp_path: Path) -> None:
    torch.save(PNet().state_dict(), tmp_path / "pnet.pt")
    assert invoke(tmp_path / "pnet.pt", "--out", tmp_path / "M.ONNX").exit_code == 0
