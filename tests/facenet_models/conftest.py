"""Shared by the tests of facenet_models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from facenet_models import InceptionResnetV1


@pytest.fixture(scope="session")
def built() -> InceptionResnetV1:
    """Seeded, 11 classes, in eval mode; no two batch normalisations do the same. Do not change."""
    import torch
    from torch import nn

    from facenet_models import InceptionResnetV1

    torch.manual_seed(20180402)
    model = InceptionResnetV1(num_classes=11).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.uniform_(-0.1, 0.1)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.1, 0.3)
    return model


@pytest.fixture
def model(built: InceptionResnetV1) -> InceptionResnetV1:
    """A copy of `built` that a test may change."""
    return copy.deepcopy(built)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and no way to the network but loopback."""
    for name in ("FACENET_OFFLINE", "FACENET_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("FACENET_MIRROR", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr("facenet_models.weights.http.BACKOFF", 0.0)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "checkpoints"
