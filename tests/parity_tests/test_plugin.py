"""The pytest plugin as another repository uses it: in another folder and process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
pytestmark = pytest.mark.tensorflow


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run pytest in `folder`, with nothing of this run's settings."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    call = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *map(str, arguments)]
    return subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def wrong(reference_dir: Path, tmp_path: Path) -> Path:
    """P-Net with a kernel transposed."""
    state = torch.load(reference_dir / "published" / "pnet.pt", weights_only=True)
    state["conv2.weight"] = state["conv2.weight"].transpose(2, 3).contiguous()
    torch.save(state, tmp_path / "wrong.pt")
    return tmp_path / "wrong.pt"


def test_right_weights_pass(reference_dir: Path, tmp_path: Path) -> None:
    sides = ("--checkpoint", reference_dir / "mtcnn" / "det1.npy")
    weights = ("--weights", reference_dir / "published" / "pnet.pt")
    done = run(tmp_path, "-v", "--pyargs", "parity_tests", *sides, *weights)
    assert done.returncode == 0, done.stdout + done.stderr
    for test in ("test_gate[float64]", "test_gate[weights]", "test_layer[conv1]", "test_verdict"):
        assert f"{test} PASSED" in done.stdout
    assert "test_gate[task]" not in done.stdout  # there are no embeddings


def test_wrong_weights_fail_where_they_are_wrong(
    reference_dir: Path, tmp_path: Path, wrong: Path
) -> None:
    sides = ("--checkpoint", reference_dir / "mtcnn" / "det1.npy", "--weights", wrong)
    done = run(tmp_path, "-v", "--pyargs", "parity_tests", *sides)
    assert done.returncode == 1
    for test, outcome in (
        ("test_gate[weights]", "FAILED"),
        ("test_gate[float32]", "FAILED"),
        ("test_gate[float64]", "FAILED"),
        ("test_layer[conv1]", "PASSED"),
        ("test_layer[conv2]", "FAILED"),
        ("test_verdict", "FAILED"),
    ):
        assert f"{test} {outcome}" in done.stdout, test
    assert "height and width exchanged" in done.stdout
    assert "Traceback" not in done.stdout


def test_without_options_it_skips_and_says_why(tmp_path: Path) -> None:
    done = run(tmp_path, "--pyargs", "parity_tests")
    assert done.returncode == 0
    assert "3 skipped" in done.stdout
    assert "give --weights, and --checkpoint or --reference" in done.stdout


def test_a_test_of_ones_own(reference_dir: Path, tmp_path: Path, wrong: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\n@pytest.mark.parity\n"
        "def test_mine(parity_report):\n    assert parity_report.passed\n"
    )
    checkpoint = ("--checkpoint", reference_dir / "mtcnn" / "det1.npy")
    strict = ("--strict-markers", "--parity-probes", "none", "test_mine.py")
    right = ("--weights", reference_dir / "published" / "pnet.pt")
    assert run(tmp_path, *strict, *checkpoint, *right).returncode == 0
    assert run(tmp_path, *strict, *checkpoint, "--weights", wrong).returncode == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", "w.pt"), "one side is missing"),
        (("--checkpoint", "a", "--reference", "b", "--weights", "w.pt"), "give one of them"),
        (("--checkpoint", "a", "--weights", "missing.pt"), "missing.pt"),
    ],
)
def test_wrong_usage_is_said_in_a_line(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = run(tmp_path, "--pyargs", "parity_tests", *options)
    assert done.returncode == 4  # pytest's code for wrong usage
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\ndef test_light():\n"
        "    assert not {'torch', 'tensorflow', 'numpy', 'h5py'} & sys.modules.keys()\n"
    )
    done = run(tmp_path, "-p", "no:hypothesispytest", "test_light.py")
    assert done.returncode == 0, done.stdout
