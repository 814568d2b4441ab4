"""Fixtures of the parity tests. Candidates are made without the converter, to check it as well."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

# `support` is a package in tests/, wherever pytest is started.

# PyTorch's axes from TensorFlow's, by rank: HWIO to OIHW, IO to OI.
_AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


@pytest.fixture(scope="session")
def golden_state(
    golden_weights: ModuleType,
    original_variables: Callable[[str], list[tuple[str, tuple[int, ...]]]],
) -> Callable[[int, int], dict[str, Any]]:
    """Makes the state_dict of golden weights. Don't change its tensors.

    The original creates its variables in the order in which the module registers its parameters,
    so the two lists are simply put side by side: gamma and the batch count have no counterpart.
    """
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[parity]'")
    from facenet_models import InceptionResnetV1

    def make(embedding_size: int, classes: int) -> dict[str, Any]:
        model = InceptionResnetV1(num_classes=classes or None, embedding_size=embedding_size)
        state = model.state_dict()
        keys = [key for key in state if not key.endswith(("bn.weight", "num_batches_tracked"))]
        variables = original_variables(f"{embedding_size}-{classes}")
        for key, (name, shape) in zip(keys, variables, strict=True):
            value = golden_weights.fill(name, shape).transpose(_AXES[len(shape)])
            assert state[key].shape == value.shape, (key, name)
            state[key] = torch.from_numpy(np.ascontiguousarray(value))
        return dict(state)

    return make


@pytest.fixture(scope="session")
def candidate_128(
    golden_state: Callable[[int, int], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A file of golden weights, 128 numbers to an embedding, under a name like a temporary one."""
    import torch

    path = tmp_path_factory.mktemp("candidate") / ".vggface2.pt.x7f3"
    torch.save(golden_state(128, 0), path)
    return path
