"""Fixtures around TensorFlow; tests/conftest.py imports them for all tests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support import tf_checkpoints


@dataclass(frozen=True)
class GoldenCheckpoint:
    """A checkpoint of `golden_weights.fill`, in a folder named and filled like a published one."""

    embedding_size: int
    classes: int
    prefix: Path

    @property
    def meta(self) -> Path:
        """The graph."""
        return self.prefix.with_name(f"{tf_checkpoints.PUBLISHED}.meta")


@pytest.fixture(scope="session")
def tensorflow() -> Any:
    """The tensorflow module; skips where it is not installed."""
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install -e '.[parity]'")
    from parity_tests.frameworks import tensorflow as load

    return load()


@pytest.fixture(scope="session")
def original_variables(reference_dir: Path) -> Callable[[str], list[tuple[str, tuple[int, ...]]]]:
    """Names and shapes of the original graph's variables, in order, for "512-8631" or "128-0"."""

    def load(sizes: str) -> list[tuple[str, tuple[int, ...]]]:
        path = reference_dir / "variables" / f"inception_resnet_v1-{sizes}.json"
        rows = json.loads(path.read_text())["variables"]
        return [(name, tuple(shape)) for name, shape in rows]

    return load


@pytest.fixture(scope="session")
def golden_128(
    tensorflow: Any, golden_weights: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> GoldenCheckpoint:
    """128 numbers to an embedding, no classifier. 92 MB, once a session; don't change it."""
    del tensorflow
    folder = tmp_path_factory.mktemp("golden-128") / "20180402-114759"
    prefix = tf_checkpoints.write_checkpoint(folder, 128, 0, fill=golden_weights.fill)
    return GoldenCheckpoint(128, 0, prefix)


@pytest.fixture(scope="session")
def golden_512(
    tensorflow: Any, golden_weights: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> GoldenCheckpoint:
    """512 numbers to an embedding, 8,631 classes. 112 MB, once a session; don't change it."""
    del tensorflow
    folder = tmp_path_factory.mktemp("golden-512") / "20180402-114759"
    prefix = tf_checkpoints.write_checkpoint(folder, 512, 8631, fill=golden_weights.fill)
    return GoldenCheckpoint(512, 8631, prefix)
