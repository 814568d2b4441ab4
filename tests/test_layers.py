"""Imports point one way, and optional dependencies stay optional."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.absent import run_without

ROOT = Path(__file__).parents[2]
PACKAGES = {"converter", "facenet_models", "facenet_release", "parity_tests"}
ALLOWED = {
    "converter": set(),
    "facenet_models": set(),
    "parity_tests": {"converter", "facenet_models"},
    "facenet_release": {"converter", "facenet_models", "parity_tests"},
}
HEAVY = {"tensorflow", "torch", "h5py", "tf_slim", "oras", "github", "huggingface_hub", "rfc8785"}


def imported_by(path: Path) -> set[str]:
    """Top-level names of everything that the module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").partition(".")[0])
    return found


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_arrows_point_one_way(package: str) -> None:
    for path in modules(package):
        foreign = (imported_by(path) & PACKAGES) - ALLOWED[package] - {package}
        assert not foreign, f"{path} imports {foreign}"


def test_the_converter_imports_no_framework_anywhere() -> None:
    for path in modules("converter"):
        assert not imported_by(path) & HEAVY, path


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_start_without_optional_dependencies(package: str) -> None:
    done = run_without(HEAVY | {"safetensors"}, f"import {package}")
    assert done.returncode == 0, done.stderr


def test_help_needs_no_numpy() -> None:
    code = """
        import sys
        from click.testing import CliRunner
        from converter.cli.convert import command
        result = CliRunner().invoke(command, ["--help"])
        assert result.exit_code == 0 and "Examples" in result.output, result.output
        assert "rich" not in sys.modules
    """
    done = run_without({"numpy"} | HEAVY, code)
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    done = run_without(HEAVY, "import tensorflow")
    assert done.returncode != 0
    assert "None in sys.modules" in done.stderr  # blocked, not only absent here
