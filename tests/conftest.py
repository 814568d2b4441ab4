"""Fixtures that every test folder uses."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support import slow
from support.stand_ins import stand_in_weights
from support.tf_fixtures import golden_128, golden_512, original_variables, tensorflow

__all__ = ["golden_128", "golden_512", "original_variables", "stand_in_weights", "tensorflow"]

ROOT = Path(__file__).parents[1]
REFERENCE = "FACENET_REFERENCE_DIR"

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread to a worker: threads of torch's that wait for a core wait busily, and slow all.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m "not slow"``, don't import modules of which every test is slow."""
    if config.option.markexpr != slow.QUICK or not collection_path.is_relative_to(ROOT):
        return None
    return slow.is_slow(collection_path.relative_to(ROOT).as_posix()) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, and skip those marked ``tensorflow`` where TensorFlow is not installed."""
    absent = importlib.util.find_spec("tensorflow") is None
    skip = pytest.mark.skip(reason='TensorFlow is absent: pip install "facenet-parity[parity]"')
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if slow.is_slow(item.nodeid, marks, getattr(item, "fixturenames", ())):
            item.add_marker(slow.MARK)
        if absent and "tensorflow" in marks:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder of reference data; tests that need it are skipped without."""
    folder = os.environ.get(REFERENCE)
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"{REFERENCE} does not name the folder of reference data")
    return Path(folder)


@pytest.fixture(scope="session")
def golden_weights(reference_dir: Path) -> ModuleType:
    """The reference folder's ``golden_weights`` module: `fill` and `inputs`."""
    spec = importlib.util.spec_from_file_location(
        "golden_weights", reference_dir / "golden_weights.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fill() -> Callable[[str, tuple[int, ...]], np.ndarray]:
    """Cheap deterministic values of a variable, for tests that look at bits only."""

    def make(name: str, shape: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng(list(name.encode()))
        return rng.random(shape, np.float32) + np.float32(0.5)

    return make
