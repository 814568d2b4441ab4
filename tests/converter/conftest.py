"""Settings and fixtures of the converter's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from support.commands import write

from converter.architectures import PNET

# Derandomised: a failure in CI is a failure here. Raise max_examples to search on.
settings.register_profile(
    "converter",
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("converter")


@pytest.fixture
def values(fill: Callable[[str, tuple[int, ...]], np.ndarray]) -> dict[str, np.ndarray]:
    """Values of P-Net under TensorFlow's names."""
    return {rule.source: fill(rule.source, rule.shape) for rule in PNET.rules}


@pytest.fixture
def pnet_folder(tmp_path: Path, values: dict[str, np.ndarray]) -> Path:
    """A TensorFlow checkpoint of `values`."""
    return write(tmp_path / "pnet", values)
