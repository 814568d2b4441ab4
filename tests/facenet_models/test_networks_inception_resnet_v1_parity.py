"""InceptionResnetV1 computes what the original computes, under facenet-pytorch's keys.

Two witnesses: a transcription of the original's source in plain steps, which needs nothing else,
and the outputs that the original gave, from the reference data.
"""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch", reason="the networks need torch")

import torch
from support.end_points import END_POINTS
from torch import Tensor, nn
from torch.nn import functional as F

from facenet_models import InceptionResnetV1

# TensorFlow's HWIO and IO to torch's OIHW and OI.
LAYOUT = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


def run(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        out: Tensor = model(x)
    return out


# --- The architecture, transcribed from the original's source in plain steps ----------------------


def oracle(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Prelogits of `x` by the original's recipe, from a state_dict `w`."""
    x = conv(w, "conv2d_1a", x, stride=2)
    x = conv(w, "conv2d_2a", x)
    x = conv(w, "conv2d_2b", x, pad=(1, 1))
    x = pool(x)
    x = conv(w, "conv2d_3b", x)
    x = conv(w, "conv2d_4a", x)
    x = conv(w, "conv2d_4b", x, stride=2)
    for i in range(5):
        x = block35(w, f"repeat_1.{i}", x).relu()
    x = torch.cat(
        [
            conv(w, "mixed_6a.branch0", x, stride=2),
            tower(w, "mixed_6a.branch1", x, (0, 0), (1, 1), "reduce"),
            pool(x),
        ],
        1,
    )
    for i in range(10):
        x = towers(w, f"repeat_2.{i}", x, 0.10, ((0, 0), (0, 3), (3, 0))).relu()
    x = torch.cat(
        [
            tower(w, "mixed_7a.branch0", x, (0, 0), "reduce"),
            tower(w, "mixed_7a.branch1", x, (0, 0), "reduce"),
            tower(w, "mixed_7a.branch2", x, (0, 0), (1, 1), "reduce"),
            pool(x),
        ],
        1,
    )
    for i in range(5):
        x = towers(w, f"repeat_3.{i}", x, 0.20, ((0, 0), (0, 1), (1, 0))).relu()
    x = towers(w, "block8", x, 1.0, ((0, 0), (0, 1), (1, 0)))
    return normalise(w, "last_bn", x.mean((2, 3)) @ w["last_linear.weight"].T)


def conv(
    w: dict[str, Tensor], name: str, x: Tensor, stride: int = 1, pad: tuple[int, int] = (0, 0)
) -> Tensor:
    x = F.conv2d(x, w[f"{name}.conv.weight"], stride=stride, padding=pad)
    return normalise(w, f"{name}.bn", x).relu()


def normalise(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    shape = (1, -1, *[1] * (x.ndim - 2))
    gamma, beta, mean, variance = (
        w[f"{name}.{leaf}"].reshape(shape)
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 0.001).sqrt() * gamma + beta


def pool(x: Tensor) -> Tensor:
    return x.unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))


def tower(w: dict[str, Tensor], name: str, x: Tensor, *steps: tuple[int, int] | str) -> Tensor:
    """A chain of convolutions, each given by its padding; "reduce" is stride 2 without any."""
    for i, step in enumerate(steps):
        if isinstance(step, str):
            x = conv(w, f"{name}.{i}", x, stride=2)
        else:
            x = conv(w, f"{name}.{i}", x, pad=step)
    return x


def block35(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mixed = [
        conv(w, f"{name}.branch0", x),
        tower(w, f"{name}.branch1", x, (0, 0), (1, 1)),
        tower(w, f"{name}.branch2", x, (0, 0), (1, 1), (1, 1)),
    ]
    return x + 0.17 * up(w, name, mixed)


def towers(
    w: dict[str, Tensor], name: str, x: Tensor, scale: float, pads: tuple[tuple[int, int], ...]
) -> Tensor:
    mixed = [conv(w, f"{name}.branch0", x), tower(w, f"{name}.branch1", x, *pads)]
    return x + scale * up(w, name, mixed)


def up(w: dict[str, Tensor], name: str, mixed: list[Tensor]) -> Tensor:
    return F.conv2d(torch.cat(mixed, 1), w[f"{name}.conv2d.weight"], w[f"{name}.conv2d.bias"])


@pytest.mark.parametrize("size", [(83, 95), (110, 107)])
def test_forward_is_the_original_step_by_step(
    model: InceptionResnetV1, size: tuple[int, int]
) -> None:
    model.double()
    w, x = model.state_dict(), torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        prelogits = oracle(w, x)
    embeddings = prelogits / prelogits.square().sum(1, keepdim=True).sqrt()
    logits = prelogits @ w["logits.weight"].T + w["logits.bias"]
    # float64, sums taken in another order
    torch.testing.assert_close(run(model, x), embeddings, rtol=0, atol=1e-12)
    model.classify = True
    torch.testing.assert_close(run(model, x), logits, rtol=0, atol=1e-11)


# --- The reference data ---------------------------------------------------------------------------


def test_state_dict_is_that_of_facenet_pytorch(reference_dir: Path) -> None:
    listed = reference_dir / "variables/facenet_pytorch-inception_resnet_v1.json"
    expected = [(key, tuple(s), t) for key, (s, t) in json.loads(listed.read_text()).items()]
    ours = InceptionResnetV1(classify=True, num_classes=8631, device="meta").state_dict()
    assert [(key, tuple(v.shape), str(v.dtype)) for key, v in ours.items()] == expected


def filled(
    model: InceptionResnetV1, variables: list[tuple[str, list[int]]], golden_weights: ModuleType
) -> InceptionResnetV1:
    """`model` with the values of `variables`.

    They are paired by position, shape by shape: graph and state_dict list the same layers in the
    same order. The converter maps by name; this route shares nothing with it.
    """
    state = model.state_dict()
    keys = [key for key in state if not key.endswith(("bn.weight", "num_batches_tracked"))]
    for key, (name, shape) in zip(keys, variables, strict=True):
        value = torch.from_numpy(golden_weights.fill(name, tuple(shape)))
        value = (
            value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value
        )
        assert state[key].shape == value.shape, (key, name)
        state[key] = value
    model.load_state_dict(state)  # the graph has no gamma: bn.weight stays 1
    return model.eval()


@pytest.mark.parametrize(("embedding_size", "classes"), [(512, 8631), (128, 0)])
def test_golden_outputs_of_the_original(
    reference_dir: Path, golden_weights: ModuleType, embedding_size: int, classes: int
) -> None:
    stem = f"inception_resnet_v1-{embedding_size}-{classes}"
    variables = json.loads((reference_dir / f"variables/{stem}.json").read_text())["variables"]
    model = InceptionResnetV1(num_classes=classes or None, embedding_size=embedding_size)
    filled(model, variables, golden_weights)
    seen: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    embeddings = run(model, torch.from_numpy(golden_weights.inputs()).permute(0, 3, 1, 2))
    with np.load(reference_dir / f"golden/{stem}.npz") as golden:
        expected = {key: golden[key] for key in golden}
    distances = np.linalg.norm(embeddings.numpy() - expected["embeddings"], axis=1)
    assert distances.max() <= 2e-6  # the bound; measured: 6.2e-7
    spread = expected["prelogits"].std()
    close(seen["last_bn"], expected["prelogits"], spread, "prelogits")
    for end_point, name in END_POINTS.items():
        ep = {key: expected[f"ep/{end_point}/{key}"] for key in ("shape", "sample", "mean", "std")}
        found = seen[name]
        found = found.flatten(1) if end_point == "PreLogitsFlatten" else found.permute(0, 2, 3, 1)
        assert list(found.shape) == ep["shape"].tolist(), end_point
        positions = np.linspace(0, found.numel() - 1, 257).astype(int)
        close(found.flatten()[positions], ep["sample"], ep["std"], end_point)
        # The sample misses most channels of some end points; these two see every value.
        assert abs(found.double().mean().item() - ep["mean"]) <= 1e-6 * ep["std"], end_point
        assert abs(found.double().std(correction=0).item() - ep["std"]) <= 1e-6 * ep["std"], (
            end_point
        )
    if model.logits is not None:
        model.classify = True
        logits = run(model, torch.from_numpy(golden_weights.inputs()).permute(0, 3, 1, 2))
        close(logits, expected["logits"], expected["logits"].std(), "logits")


def close(found: Tensor, expected: np.ndarray, spread: float, what: str) -> None:
    """Every value within 2e-5 of the spread (standard deviation) of all values.

    Both sides sum float32, each in its own order. The largest error measured is 5.8e-6, torch
    2.13 against TensorFlow 2.21.
    """
    error = np.abs(found.numpy() - expected).max() / spread
    assert error <= 2e-5, f"{what}: {error}"


def test_every_end_point_is_listed(reference_dir: Path) -> None:
    with np.load(reference_dir / "golden/inception_resnet_v1-512-8631.npz") as golden:
        names = {key.split("/")[1] for key in golden if key.startswith("ep/")}
    assert names == set(END_POINTS)
