"""``facenet doctor`` and ``facenet --version``: what they list, and failures that they find."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.absent import run_without
from support.installed import distribution

from converter import selfcheck
from converter.cli import doctor
from converter.cli.doctor import VARIABLES, command
from converter.cli.main import facenet
from facenet_common.installed import version_of

ROOT = Path(__file__).parents[2]
BREAK_TORCH = {
    "raises": (
        "raise OSError('libtorch_cpu.so: cannot open shared object file')\n",
        "libtorch_cpu",
    ),
    "crashes": ("import os\nos.abort()\n", "process exited with code -6"),
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(
        command, arguments, prog_name="facenet doctor", catch_exceptions=False
    )


def facts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("--json").stdout)
    return found


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """No PyTorch as far as the self-check can see: it takes no time."""
    monkeypatch.setattr(selfcheck, "find_spec", lambda _: None)


# --- the check


def test_a_whole_installation_is_healthy() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("It works.\n")
    torch = "passed: torch" if version_of("torch") else "skipped: PyTorch is not installed"
    for words in ("passed: P-Net", "13 tensors, bit for bit", "as recorded", torch):
        assert words in result.stdout


@pytest.mark.usefixtures("no_torch")
def test_without_torch_its_check_is_skipped() -> None:
    result = run()
    assert result.exit_code == 0
    assert "skipped: PyTorch is not installed" in result.stdout


@pytest.mark.usefixtures("no_torch")
def test_other_tensors_than_everywhere_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "DIGEST", "0" * 64)
    result = run()
    assert result.exit_code == 1
    assert f"expected the tensor digest {'0' * 64}" in result.stdout
    assert result.stdout.endswith("A check failed: see Check.\n")


@pytest.mark.usefixtures("no_torch")
def test_whatever_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "converter.writers.bundle", None)
    monkeypatch.setattr("converter.writers.bundle", None)
    result = run("--json")
    assert result.exit_code == 1
    checks = {check["name"]: check["status"] for check in json.loads(result.stdout)["checks"]}
    assert checks == {"convert": "failed", "read back": "failed", "run": "skipped"}


@pytest.mark.parametrize("how", BREAK_TORCH)
def test_a_broken_torch_is_a_finding(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, words = BREAK_TORCH[how]
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(selfcheck, "find_spec", lambda _: object())
    result = run()
    assert result.exit_code == 1
    assert re.search(rf"run +failed: .*{words}", result.stdout)


def test_wrong_arithmetic_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the check runs in torch")
    wrong = selfcheck.FORWARD.replace("image.double()", "image.double() + 1e-3")
    assert wrong != selfcheck.FORWARD
    monkeypatch.setattr(selfcheck, "FORWARD", wrong)
    result = run()
    assert result.exit_code == 1
    assert "float32 and float64 outputs differ" in result.stdout


@pytest.mark.usefixtures("no_torch")
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    list(selfcheck.self_check())
    assert not list(tmp_path.iterdir())


# --- what is installed


@pytest.mark.usefixtures("no_torch")
def test_missing_packages_are_told_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = distribution(
        tmp_path,
        "Requires-Dist: numpy>=1.0",
        "Provides-Extra: video",
        "Requires-Dist: no-such-package>=2.1,<3; extra == 'video'",
        "Requires-Dist: click>=999; extra == 'video'",
        "Requires-Dist: rich; extra == 'video'",
    )
    monkeypatch.setattr(doctor, "metadata", lambda: own)
    result = run()
    assert result.exit_code == 0, result.output
    assert f"click>=999 ({version_of('click')} is installed)" in result.stdout
    found = facts()
    assert found["extras"]["base"] == {"complete": True, "lacks": [], "install": None}
    video = found["extras"]["video"]
    assert [lack["package"] for lack in video["lacks"]] == ["no-such-package<3,>=2.1", "click>=999"]
    pip = [sys.executable, "-m", "pip", "install"]
    assert shlex.split(video["install"]) == [*pip, "no-such-package<3,>=2.1", "click>=999"]
    assert found["libraries"]["no-such-package"] is None
    assert found["libraries"]["rich"] == version_of("rich")


@pytest.mark.usefixtures("no_torch")
def test_without_metadata_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "metadata", lambda: None)
    result = run()
    assert result.exit_code == 0
    assert "not installed by pip" in result.stdout


# --- the surroundings


@pytest.mark.usefixtures("no_torch")
def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FACENET_REFERENCE_DIR", "FACENET_ORIGINAL_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "_SUBMODULE", tmp_path)
    assert not facts()["reference"]["found"]
    assert not facts()["original"]["found"]
    assert "FACENET_REFERENCE_DIR is not set" in run().stdout
    assert f"not found: {tmp_path}; in a clone: git submodule update --init" in run().stdout
    (tmp_path / "README.md").touch()
    (tmp_path / "src" / "align").mkdir(parents=True)
    (tmp_path / "src" / "align" / "detect_face.py").touch()
    monkeypatch.setenv("FACENET_REFERENCE_DIR", str(tmp_path))
    assert facts()["reference"] == facts()["original"] == {"path": str(tmp_path), "found": True}


def test_the_real_reference_data_are_found(reference_dir: Path) -> None:
    assert doctor.surroundings()["reference"] == {"path": str(reference_dir), "found": True}


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", None])
def test_the_cache_is_that_of_the_models(
    variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facenet_models.weights.cache import cache_folder

    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
    assert doctor.surroundings()["cache"]["path"] == str(cache_folder())  # type: ignore[index] # facts of a folder


def test_secrets_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACENET_MIRROR", "https://user:hidden@mirror.example/weights")
    for name in ("FACENET_TOKEN", "GITHUB_TOKEN", "OCI_PASSWORD"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("UNRELATED", "hidden")
    found = doctor.surroundings()
    assert "hidden" not in json.dumps(found)
    assert "mirror.example/weights" in json.dumps(found)
    assert "UNRELATED" not in json.dumps(found)
    assert found["environment"]["GITHUB_TOKEN"] == found["environment"]["FACENET_TOKEN"]  # type: ignore[index] # an object


@pytest.mark.usefixtures("no_torch")
def test_a_slip_in_a_variables_name_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACENET_WEIGHTS", "a")
    monkeypatch.setenv("FACENET_WEIGTHS", "b\x1b[2J")
    assert facts()["unknown"] == ["FACENET_WEIGTHS"]
    assert r"b\x1b[2J  (unknown variable)" in run().stdout


def test_no_variable_is_missing() -> None:
    """A variable that is new belongs into `VARIABLES`."""
    named = {
        name
        for package in ("converter", "facenet_models", "parity_tests", "facenet_release")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r'"(FACENET_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert "FACENET_WEIGHTS" in named
    assert named <= set(VARIABLES)


# --- facenet --version


def test_the_version_names_the_libraries() -> None:
    result = CliRunner().invoke(facenet, ["--version"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("facenet, version ")
    assert lines[1].split() == ["python", sys.version.split()[0]]
    assert lines[2].split() == ["numpy", version_of("numpy")]
    for line, name in zip(lines[3:], ("torch", "tensorflow"), strict=True):
        assert line.split(maxsplit=1) == [name, version_of(name) or "not installed"]


def test_the_version_imports_no_library() -> None:
    absent = {"numpy", "torch", "tensorflow", "rich"}
    done = run_without(absent, "from converter.cli.main import facenet\nfacenet(['-V'])")
    assert done.returncode == 0, done.stderr
    assert f"numpy       {version_of('numpy')}" in done.stdout
