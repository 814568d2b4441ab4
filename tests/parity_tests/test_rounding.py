"""The scale of rounding: what float32 sums really err by, for whichever order and processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import rounding_ratios

from parity_tests.batches import Batches
from parity_tests.feeds import Feed
from parity_tests.gates import ROUNDING_FACTOR, float32_gate
from parity_tests.open_sides import FeedOptions, open_candidate, open_live
from parity_tests.rounding import rounding_scale

torch = pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')

PROGRAM = Path(rounding_ratios.__file__)
NETS = [(1, "pnet"), (2, "rnet"), (3, "onet")]


class Dense(torch.nn.Module):  # type: ignore[misc] # torch is Any here
    """One dense layer on the pixels."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(*weight.shape[::-1])
        self.dense.weight.data = torch.from_numpy(weight)
        self.dense.bias.data = torch.from_numpy(bias)

    def forward(self, x: Any) -> Any:
        return self.dense(x.flatten(1))


def serial(images: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The same in float32, term by term, beginning with the bias: no library, no processor."""
    columns = images.transpose(0, 3, 2, 1).reshape(len(images), -1)  # as MTCNN is fed
    total = np.repeat(bias[None], len(images), 0)
    for column, row in zip(columns.T, weight.T, strict=True):
        total = total + column[:, None] * row
    assert total.dtype == np.float32
    return total


@pytest.mark.parametrize("bias", [0.0, 5.0, -5.0])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_scale_is_that_of_a_sum_term_by_term(bias: float, shift: float) -> None:
    """Of mixed signs, or all positive; with a bias that all partial sums contain, or without."""
    rng = np.random.default_rng(3)
    images = rng.standard_normal((64, 8, 8, 3), np.float32) + np.float32(shift)
    weight = (rng.standard_normal((4, 192), np.float32) + np.float32(shift)) / np.float32(14)
    offset = np.full(4, bias, np.float32)
    columns = images.transpose(0, 3, 2, 1).reshape(64, -1).astype(np.float64)
    exact = columns @ weight.T.astype(np.float64) + offset
    errors = np.linalg.norm(serial(images, weight, offset) - exact, axis=1)
    feed = Feed("noise", images, "", tuple(map(str, range(64))))
    scale = rounding_scale(Dense(weight, offset).eval(), "rnet", (feed,))
    assert scale.shape == (64,)
    times = np.sqrt(np.mean((errors / scale) ** 2))
    assert 0.35 < times < 1.2  # 0.40 to 0.77, the same on every machine
    assert np.array_equal(scale, rounding_scale(Dense(weight, offset), "rnet", (feed,)))


def test_images_that_are_not_disturbed_get_the_mean_of_the_others() -> None:
    rng = np.random.default_rng(3)
    one = Feed("one", rng.standard_normal((60, 8, 8, 3), np.float32), "", ("",) * 60)
    two = Feed("two", one.images[:4] * np.float32(100), "", ("",) * 4)
    dense = Dense(rng.standard_normal((4, 192), np.float32), np.zeros(4, np.float32))
    scale = rounding_scale(dense, "pnet", (one, two))
    assert len(scale) == 64
    values, counts = np.unique(scale, return_counts=True)
    assert len(values) == 33  # half of the images, and their mean
    (mean,) = values[counts == 32]
    others = scale[scale != mean]
    assert mean == pytest.approx(np.sqrt(np.mean(others**2)))
    assert 50 < others[-2:].mean() / others[:-2].mean() < 200  # as the images


def test_images_of_several_sizes_keep_their_order() -> None:
    rng = np.random.default_rng(3)
    shapes = ((2, 12, 12, 3), (3, 17, 23, 3), (1, 12, 12, 3))
    feeds = [
        Feed(str(number), rng.standard_normal(shape, np.float32) * np.float32(10**number), "", ())
        for number, shape in enumerate(shapes)
    ]
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 12, bias=False), torch.nn.AdaptiveMaxPool2d(1)
    )
    with torch.no_grad():
        scale = rounding_scale(model, "pnet", feeds)
    assert np.log10(scale / scale[0]).round().tolist() == [0, 0, 1, 1, 1, 2]


def test_each_operation_of_the_networks_has_its_errors(reference_dir: Path) -> None:
    """Or is exact: none falls under the rule for those that nobody thought of."""
    from torch.overrides import TorchFunctionMode

    from facenet_models import InceptionResnetV1
    from facenet_models.rounding import EXACT, FACTOR, MODELS

    assert FACTOR == ROUNDING_FACTOR  # the gates need no torch, where the other is

    seen = set()

    class Recording(TorchFunctionMode):  # type: ignore[misc] # torch is Any here
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.is_floating_point():
                seen.add(func.__name__)
            return result

    models: list[tuple[Any, int]] = [(InceptionResnetV1().eval(), 80)]
    for (_, name), size in zip(NETS, (12, 24, 48), strict=True):
        with open_candidate(str(reference_dir / "published" / f"{name}.pt")).runner() as runner:
            models.append((runner.model, size))
    for model, size in models:
        images = torch.zeros(1, 3, size, size)
        with torch.inference_mode(), Recording():
            model(images)
    assert {"conv2d", "linear", "batch_norm", "softmax", "normalize", "prelu"} <= seen
    assert seen <= {*MODELS, *EXACT}


@pytest.mark.tensorflow
@pytest.mark.parametrize(("number", "name"), NETS)
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_layer_of_rounded_weights_is_refused(
    reference_dir: Path, number: int, name: str, kind: str
) -> None:
    """By the float32 gate alone, whichever layer it is; the right weights pass."""
    side = open_live(str(reference_dir / "mtcnn" / f"det{number}.npy"), FeedOptions(count=2))
    batches, samples = Batches(32), [sample for feed in side.feeds for sample in feed.samples]
    expected, oracle, scale = side.answers(batches), side.oracle(batches), side.rounding()
    candidate = open_candidate(str(reference_dir / "published" / f"{name}.pt"))
    with candidate.runner() as runner:
        found = batches.all(runner, side.feeds)
        gate = float32_gate(expected, found, oracle, samples, scale=scale)
        assert gate.status == "passed", gate.findings
        assert gate.details["times_rounding"] < ROUNDING_FACTOR / 2
        for path, layer in runner.model.named_modules():
            weight = getattr(layer, "weight", None)
            if weight is None or weight.ndim < 2:
                continue
            kept = weight.data
            weight.data = kept.to(getattr(torch, kind)).to(kept.dtype)
            found = batches.all(runner, side.feeds)
            gate = float32_gate(expected, found, oracle, samples, scale=scale)
            weight.data = kept
            assert "than rounding explains" in str(gate.findings[-1:]), path


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "scalar code": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    },
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "TF_ENABLE_ONEDNN_OPTS": "1",
    },
}


@pytest.mark.tensorflow
@pytest.mark.parametrize(("environment", "threads"), [("scalar code", 2), ("AVX2", 1)])
def test_right_weights_pass_with_other_instructions(
    reference_dir: Path, environment: str, threads: int
) -> None:
    """For one image of noise and for many; benchmarks/rounding.py runs more of this."""
    call = [sys.executable, str(PROGRAM)]
    for number, name in NETS:
        call += [str(reference_dir / "mtcnn" / f"det{number}.npy")]
        call += [str(reference_dir / "published" / f"{name}.pt")]
    call += ["--counts", "1", "2", "9", "--seeds", "2", "--threads", str(threads)]
    # Threads that wait busily take the core that the others wait for.
    variables = os.environ | ENVIRONMENTS[environment] | {"OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(call, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 18
    assert [row for row in rows if row["status"] != "passed"] == []
    # Half of what is allowed is out of reach: of each side, TensorFlow rounds like the model too.
    assert max(max(row["torch"], row["tensorflow"]) for row in rows) < ROUNDING_FACTOR / 2
