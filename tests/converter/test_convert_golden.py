"""Converted weights against the original graph's own answers, and mapping errors it must catch.

The checkpoint is written from `golden_weights.fill` (by TensorFlow where it is installed) and is
converted in a process in which importing TensorFlow or torch raises.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.end_points import END_POINTS

from converter.architectures import INCEPTION_RESNET_V1
from converter.catalog import TensorRef
from converter.dtypes import FLOAT32
from converter.writers import bundle

torch = pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[torch]"')

EMBEDDING_TOLERANCE = 2e-6  # L2 per embedding; the contract, float32 noise is 6e-7

# Deviation of a sample, of the mean and of the standard deviation of an end point, in units of
# that standard deviation. Measured: at most 5.8e-6; a wrong weight gives 1e-2 and more.
# The samples of Mixed_6a and Mixed_6b see one channel only: mean and deviation see them all.
END_POINT_TOLERANCE = 2e-5

BLOCKED = (
    "import sys; sys.modules.update(tensorflow=None, torch=None)\n"
    "from converter.cli.convert import command; command()"
)


@dataclass(frozen=True)
class Golden:
    """A golden model: its sizes, the original's answers, and the converted state_dict."""

    embedding: int
    classes: int
    arrays: Mapping[str, np.ndarray]
    state: Mapping[str, Any]


def write_without_tensorflow(folder: Path, dims: Mapping[str, int], fill: Callable) -> Path:
    folder.mkdir()
    refs = []
    for rule in INCEPTION_RESNET_V1.rules:
        if rule.part == "features" or dims["classes"]:
            shape = tuple(dims[d] if isinstance(d, str) else d for d in rule.shape)
            value = fill(rule.source, shape)
            refs.append(TensorRef(rule.source, FLOAT32, shape, lambda value=value: value))
    bundle.write(folder, refs, lambda _: None)
    return folder


@pytest.fixture(scope="session", params=[(512, 8631), (128, 0)], ids=["512-8631", "128-0"])
def golden(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    reference_dir: Path,
    golden_weights: ModuleType,
) -> Golden:
    embedding, classes = request.param
    folder = tmp_path_factory.mktemp("golden") / "20180402-114759"
    if importlib.util.find_spec("tensorflow") is not None:
        from support.tf_checkpoints import write_checkpoint

        write_checkpoint(folder, embedding, classes, fill=golden_weights.fill, meta=False)
    else:
        dims = {"embedding": embedding, "classes": classes}
        write_without_tensorflow(folder, dims, golden_weights.fill)
    out = folder.parent / "vggface2.pt"
    command = ["--checkpoint", str(folder), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    path = reference_dir / "golden" / f"inception_resnet_v1-{embedding}-{classes}.npz"
    with np.load(path) as arrays:
        answers = {name: arrays[name] for name in arrays.files}
    return Golden(embedding, classes, answers, torch.load(out, weights_only=True))


@pytest.fixture(scope="session")
def images(golden_weights: ModuleType) -> torch.Tensor:
    return torch.from_numpy(golden_weights.inputs()).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Comparison:
    """Deviations: relative, by end point; and L2, by embedding."""

    end_points: Mapping[str, float]
    embeddings: np.ndarray

    @property
    def first_wrong(self) -> str | None:
        """The first end point whose samples deviate. NaN deviates."""
        wrong = (n for n, d in self.end_points.items() if not d <= END_POINT_TOLERANCE)
        return next(wrong, None)


def compare(golden: Golden, state: Mapping[str, Any], images: torch.Tensor) -> Comparison:
    from facenet_models import InceptionResnetV1

    model = InceptionResnetV1(
        num_classes=golden.classes or None, embedding_size=golden.embedding
    ).eval()
    model.load_state_dict(state)
    seen: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
            nhwc = output.permute(0, 2, 3, 1) if output.ndim == 4 else output
            seen[name] = nhwc.reshape(-1).numpy(force=True)

        return hook

    for name, module in {**END_POINTS, "prelogits": "last_bn"}.items():
        model.get_submodule(module).register_forward_hook(keep(name))
    with torch.inference_mode():
        embeddings = model(images).numpy()
        if golden.classes:
            model.classify = True
            seen["logits"] = model(images).reshape(-1).numpy()
    deviations = {}
    for name in END_POINTS:
        sample, mean, std = (golden.arrays[f"ep/{name}/{x}"] for x in ("sample", "mean", "std"))
        found = seen[name].astype(np.float64)
        assert found.size == np.prod(golden.arrays[f"ep/{name}/shape"])
        at = np.linspace(0, found.size - 1, 257).astype(int)
        gaps = [*(found[at] - sample), found.mean() - mean, found.std() - std]
        deviations[name] = float(np.max(np.abs(gaps)) / std)
    for name in ("prelogits", "logits"):
        if name in golden.arrays:
            expected = golden.arrays[name].reshape(-1)
            worst = np.max(np.abs(seen[name] - expected)) / np.max(np.abs(expected))
            deviations[name] = float(worst)
    distances = np.linalg.norm(embeddings - golden.arrays["embeddings"], axis=1)
    return Comparison(deviations, distances)


def test_converted_models_reproduce_the_original(golden: Golden, images: torch.Tensor) -> None:
    result = compare(golden, golden.state, images)
    assert result.first_wrong is None, result.end_points
    assert len(result.end_points) == (17 if golden.classes else 16)
    assert (result.embeddings < EMBEDDING_TOLERANCE).all(), result.embeddings


# --- mapping errors, planted


def _swap(one: str, other: str) -> Callable[[dict[str, Any]], None]:
    def mutate(state: dict[str, Any]) -> None:
        state[one], state[other] = state[other], state[one]

    return mutate


def _transpose(name: str) -> Callable[[dict[str, Any]], None]:
    def mutate(state: dict[str, Any]) -> None:
        state[name] = state[name].transpose(-1, -2).contiguous()

    return mutate


def _exchange_channels(name: str) -> Callable[[dict[str, Any]], None]:
    def mutate(state: dict[str, Any]) -> None:
        state[name] = state[name].transpose(0, 1).contiguous()

    return mutate


PLANTED = [
    # In the order of the list: neighbours in a block, branches, blocks 2 and 10, statistics.
    (_swap("repeat_1.0.branch1.0.conv.weight", "repeat_1.0.branch2.0.conv.weight"), "Mixed_5a"),
    (_swap("repeat_1.4.branch2.1.conv.weight", "repeat_1.4.branch2.2.conv.weight"), "Mixed_5a"),
    (_swap("repeat_2.1.conv2d.weight", "repeat_2.9.conv2d.weight"), "Mixed_6b"),
    (_swap("repeat_3.0.branch0.bn.bias", "repeat_3.0.branch0.bn.running_mean"), "Mixed_8a"),
    (_swap("mixed_7a.branch0.0.conv.weight", "mixed_7a.branch1.0.conv.weight"), "Mixed_7a"),
    (_swap("repeat_3.4.conv2d.weight", "block8.conv2d.weight"), "Mixed_8a"),
    (_swap("last_bn.running_mean", "last_bn.bias"), "prelogits"),
    (_transpose("conv2d_1a.conv.weight"), "Conv2d_1a_3x3"),
    (_transpose("conv2d_4b.conv.weight"), "Conv2d_4b_3x3"),
    (_transpose("mixed_6a.branch0.conv.weight"), "Mixed_6a"),
    (_exchange_channels("conv2d_2a.conv.weight"), "Conv2d_2a_3x3"),
]


@pytest.mark.parametrize("golden", [(128, 0)], indirect=True, ids=["128-0"])
@pytest.mark.parametrize(
    ("mutate", "named"), PLANTED, ids=[f"{n}-{p[1]}" for n, p in enumerate(PLANTED)]
)
def test_a_wrong_mapping_is_named(
    golden: Golden,
    images: torch.Tensor,
    mutate: Callable[[dict[str, Any]], None],
    named: str,
) -> None:
    state = dict(golden.state)
    mutate(state)
    assert compare(golden, state, images).first_wrong == named


# --- MTCNN


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_mtcnn_equals_the_published_weights(reference_dir: Path, tmp_path: Path, name: str) -> None:
    number = ("pnet", "rnet", "onet").index(name) + 1
    out = tmp_path / f"{name}.pt"
    command = ["--checkpoint", f"{reference_dir}/mtcnn/det{number}.npy", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = torch.load(out, weights_only=True)
    published = torch.load(reference_dir / "published" / f"{name}.pt", weights_only=True)
    assert list(ours) == list(published)
    for key, value in published.items():
        assert ours[key].dtype == value.dtype
        assert ours[key].numpy().tobytes() == value.numpy().tobytes(), key
    _check_mtcnn_outputs(reference_dir, name, ours)


def _check_mtcnn_outputs(reference_dir: Path, name: str, state: Mapping[str, Any]) -> None:
    import facenet_models

    model = getattr(facenet_models, {"pnet": "PNet", "rnet": "RNet", "onet": "ONet"}[name])()
    model.load_state_dict(state)
    outputs = (
        ["regression", "probability"]
        if name != "onet"
        else [
            "regression",
            "landmarks",
            "probability",
        ]
    )
    with np.load(reference_dir / "golden" / "mtcnn_nets.npz") as golden:
        fed = torch.from_numpy(golden[f"{name}/input"])
        with torch.inference_mode():  # the original's images are transposed: N W H C
            found = model.eval()(fed.permute(0, 3, 2, 1))
        for output, tensor in zip(outputs, found, strict=True):
            expected = golden[f"{name}/{output}"]
            array = (tensor.permute(0, 3, 2, 1) if tensor.ndim == 4 else tensor).numpy()
            np.testing.assert_allclose(array, expected, rtol=0, atol=2e-6, err_msg=output)
