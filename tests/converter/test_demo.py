"""The demo checkpoint: the real names and shapes, the same on every machine, and accepted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converter.convert import Request, convert
from converter.demo import value, variables, write_demo
from converter.resolve import resolve
from facenet_common.errors import UsageError


@pytest.mark.parametrize(("embedding", "classes"), [(512, 8631), (128, 0)])
def test_names_and_shapes_are_the_original_graphs(
    reference_dir: Path, embedding: int, classes: int
) -> None:
    file = reference_dir / "variables" / f"inception_resnet_v1-{embedding}-{classes}.json"
    expected = dict(json.loads(file.read_text())["variables"])
    assert {v.name: list(v.shape) for v in variables(embedding, classes)} == expected


def test_values_are_the_same_on_every_machine() -> None:
    kernel = value("InceptionResnetV1/Conv2d_1a_3x3/weights", (3, 3, 3, 32))
    assert kernel.dtype == np.float32
    assert kernel.reshape(-1)[:3].tobytes().hex() == "e52b90be648ca33ee680debe"


def test_two_writings_give_one_checkpoint_and_convert_takes_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_demo(tmp_path / name, embedding=16, classes=3)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    receipt = convert(Request(str(tmp_path / "a"), str(tmp_path / "out.pt")))
    assert dict(receipt.plan.dims) == {"embedding": 16, "classes": 3}
    assert not receipt.plan.dropped


def test_moving_variances_are_positive(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", embedding=8, classes=0)
    catalog = resolve(str(tmp_path / "demo")).open()
    variances = [ref.load().min() for name, ref in catalog.items() if "moving_variance" in name]
    assert len(variances) == 112
    assert min(variances) >= 0.5


def test_embeddings_of_different_images_differ(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from facenet_models import InceptionResnetV1

    write_demo(tmp_path / "demo", embedding=128, classes=0)
    convert(Request(str(tmp_path / "demo"), str(tmp_path / "demo.pt")))
    net = InceptionResnetV1(embedding_size=128).eval()
    net.load_state_dict(torch.load(tmp_path / "demo.pt", weights_only=True))
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, two = net(images * torch.tensor([0.5, 1.5]).reshape(2, 1, 1, 1))
    assert float((one - two).norm()) > 0.01


def test_the_command_says_that_nobody_trained_it(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "converter.demo", str(tmp_path / "demo")]
    small = ["--embedding", "4", "--classes", "0"]
    done = subprocess.run([*call, *small], capture_output=True, text=True, check=True)
    assert "NOT TRAINED" in done.stdout
    again = subprocess.run([*call, *small], capture_output=True, text=True, check=False)
    assert again.returncode == UsageError.exit_code
    assert "exists already" in again.stderr
    subprocess.run([*call, *small, "--overwrite"], capture_output=True, check=True)
