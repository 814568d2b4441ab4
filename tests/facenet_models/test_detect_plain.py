"""Networks that were changed or replaced are called; plain ones take the fast path, alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the detector needs torch")
Image = pytest.importorskip("PIL.Image", reason="the photographs need Pillow")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrize, prune  # noqa: E402

from facenet_models import MTCNN  # noqa: E402
from facenet_models.detect.plain import _original, is_plain  # noqa: E402
from facenet_models.networks.onet import ONet  # noqa: E402
from facenet_models.networks.pnet import PNet  # noqa: E402
from facenet_models.networks.rnet import RNet  # noqa: E402

NETS = ("pnet", "rnet", "onet")

# Deprecated since torch 2.10, and still what public programs use.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Wrapper(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)


class Half(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.5


def patched(net: nn.Module) -> nn.Module:
    original = net.forward
    net.forward = lambda x: original(x)  # type: ignore[method-assign]
    return net


def hooked(net: nn.Module) -> nn.Module:
    net.conv1.register_forward_hook(lambda *_: None)
    return net


def pruned(net: nn.Module) -> nn.Module:
    prune.l1_unstructured(net.conv2, "weight", amount=0.1)
    return net


def parametrized(net: nn.Module) -> nn.Module:
    parametrize.register_parametrization(net.conv2, "weight", Half())
    return net


def replaced_layer(net: nn.Module) -> nn.Module:
    net.prelu1 = nn.Sequential(net.prelu1)
    return net


CHANGES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "wrapped": Wrapper,
    "patched": patched,
    "hooked": hooked,
    "pruned": pruned,
    "parametrized": parametrized,
    "another layer": replaced_layer,
    "DataParallel": nn.DataParallel,
    "scripted": torch.jit.script,
}


@pytest.mark.parametrize("kind", [PNet, RNet, ONet])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_networks_are_not_plain(kind: type[nn.Module], change: str) -> None:
    net = kind().eval()
    assert is_plain(net)
    assert not is_plain(CHANGES[change](net))


def test_a_patched_class_is_not_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    net = PNet()
    monkeypatch.setattr(PNet, "forward", lambda _, x: (x, x))
    assert not is_plain(net)


def test_no_random_numbers_are_drawn() -> None:
    net = PNet()
    _original.cache_clear()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert is_plain(net)
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture
def crowd(reference_dir: Path) -> Any:
    return np.array(Image.open(reference_dir / "images" / "multiface.jpg"))


@pytest.fixture
def mtcnn(reference_dir: Path) -> MTCNN:
    return MTCNN(keep_all=True, weights=reference_dir / "published")


@pytest.mark.parametrize("name", NETS)
def test_a_network_that_is_called_gives_the_same_boxes(mtcnn: MTCNN, crowd: Any, name: str) -> None:
    expected = mtcnn.detect(crowd, landmarks=True)
    setattr(mtcnn, name, torch.jit.script(getattr(mtcnn, name)))
    for found, right in zip(mtcnn.detect(crowd, landmarks=True), expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(found, float), np.asarray(right, float), atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("name", NETS)
def test_hooks_and_patches_take_effect(mtcnn: MTCNN, crowd: Any, name: str) -> None:
    net, calls = getattr(mtcnn, name), []
    handle = net.register_forward_hook(lambda *_: calls.append(1))
    assert mtcnn.detect(crowd)[0] is not None
    assert calls
    handle.remove()
    original = net.forward
    # Nothing is a face any more.
    net.forward = lambda x: (*(out := original(x))[:-1], torch.zeros_like(out[-1]))
    assert mtcnn.detect(crowd)[0] is None
    del net.forward
    assert mtcnn.detect(crowd)[0] is not None


def test_frozen_networks_without_parameters(mtcnn: MTCNN, crowd: Any) -> None:
    expected = np.asarray(mtcnn.detect(crowd)[0], float)
    for name in NETS:
        setattr(mtcnn, name, torch.jit.freeze(torch.jit.script(getattr(mtcnn, name))))
    assert mtcnn.device == torch.device("cpu")
    np.testing.assert_allclose(np.asarray(mtcnn.detect(crowd)[0], float), expected, atol=1e-3)
