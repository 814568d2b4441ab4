"""The composite Action: its script is run as GitHub would run it, and the docs use its inputs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML, which pre-commit brings")

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
DOCS = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def steps() -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}


def verify(folder: Path, reference: Path, weights: Path) -> subprocess.CompletedProcess[str]:
    """Run the step that verifies, with its variables filled in as GitHub does."""
    step = steps()["Verify"]
    given = {"weights": str(weights), "reference": str(reference)}
    inputs = {name: given.get(name, row.get("default")) for name, row in ACTION["inputs"].items()}
    env = {
        name: re.sub(r"\$\{\{ inputs\.(\S+) \}\}", lambda m: inputs[m[1]], text)
        for name, text in step["env"].items()
    }
    env |= {"GITHUB_STEP_SUMMARY": str(folder / "summary"), "GITHUB_OUTPUT": str(folder / "out")}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    call = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(
        call, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=False
    )


@pytest.mark.tensorflow
def test_right_and_wrong_weights(reference_dir: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    original = reference_dir / "mtcnn" / "det1.npy"
    done = verify(tmp_path, original, reference_dir / "published" / "pnet.pt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in (tmp_path / "summary").read_text()
    assert (tmp_path / "out").read_text() == "report=parity-report\n"
    reports = {path.name for path in (tmp_path / "parity-report").iterdir()}
    assert reports == {"parity.json", "parity.xml", "parity.md", "parity.html"}

    state = torch.load(reference_dir / "published" / "pnet.pt", weights_only=True)
    state["conv1.bias"] += 1
    torch.save(state, tmp_path / "wrong; touch hacked.pt")
    done = verify(tmp_path, original, tmp_path / "wrong; touch hacked.pt")
    assert done.returncode == 1
    assert "FAILED" in (tmp_path / "summary").read_text()
    assert not (tmp_path / "hacked.pt").exists()


def test_scripts_hold_no_inputs() -> None:
    """A caller's inputs must not become part of a script."""
    scripts = [step["run"] for step in steps().values()]
    assert len(scripts) == 2
    assert not any("${{" in script for script in scripts)


def test_the_docs_call_it_rightly() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    assert blocks
    used: set[str] = set()
    for block in blocks:
        assert len(block.splitlines()) <= 10  # "in ten lines"
        (job,) = yaml.safe_load(block)["jobs"].values()
        for step in job["steps"]:
            if "facenet-parity" in step.get("uses", ""):
                used |= step["with"].keys()
    required = {name for name, row in ACTION["inputs"].items() if row.get("required")}
    assert required <= used <= ACTION["inputs"].keys()
