"""Cases of the detector's stages that no photograph reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the detector needs torch")

import torch
from torch import Tensor, nn

from facenet_models import ONet, PNet, RNet
from facenet_models.detect import area, boxes, cascade, proposals, reference
from facenet_models.detect.settings import Nets, Settings

SETTINGS = Settings(20, (0.6, 0.7, 0.7), 0.709)


@pytest.fixture
def nets() -> Nets:
    torch.manual_seed(20180402)
    return Nets(PNet(), RNet(), ONet())


@torch.inference_mode()
def test_equal_scores_are_listed_row_by_row(nets: Nets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suppression takes equals in this order; strips and transposed images must not change it."""
    image = torch.full((60, 90, 3), 77, dtype=torch.uint8)
    kernels = proposals.Kernels.from_net(nets.pnet)
    for strip in (1, 1 << 20):
        monkeypatch.setitem(proposals.STRIP_VALUES, "cpu", strip)
        resampler = area.Resampler(image, torch.float32)
        rows, columns, scores, offsets = proposals.find_windows(resampler, (37, 54), kernels, 0.0)
        high, wide = 14, 22
        assert rows.tolist() == np.repeat(np.arange(high), wide).tolist()
        assert columns.tolist() == np.tile(np.arange(wide), high).tolist()
        assert scores.shape == (high * wide,)
        assert offsets.shape == (high * wide, 4)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(12, 12), (13, 12), (37, 54), (38, 55), (90, 41)])
def test_strips_give_what_pnet_gives(
    nets: Nets, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    with torch.no_grad():  # slopes of every kind: negative, 0, 1 and beyond
        nets.pnet.prelu1.weight.copy_(torch.linspace(-1.5, 1.5, 10))
    image = torch.randint(0, 256, (97, 120, 3), dtype=torch.uint8)
    planes = (
        area.Resampler(image, torch.float32).resample_transposed(*size, 0, size[0]).permute(2, 1, 0)
    )
    regression, probability = nets.pnet((planes[None] - 127.5) / 128)
    for strip in (1, 1 << 20):
        monkeypatch.setitem(proposals.STRIP_VALUES, "cpu", strip)
        resampler = area.Resampler(image, torch.float32)
        kernels = proposals.Kernels.from_net(nets.pnet)
        rows, columns, scores, offsets = proposals.find_windows(resampler, size, kernels, 0.0)
        assert len(rows) == probability[0, 1].numel()
        np.testing.assert_allclose(scores, probability[0, 1].numpy()[rows, columns], atol=1e-6)
        np.testing.assert_allclose(
            offsets, regression[0].numpy()[:, rows, columns].T, rtol=1e-4, atol=1e-5
        )


@torch.inference_mode()
def test_boxes_without_a_pixel_are_left_out(nets: Nets) -> None:
    """facenet-pytorch takes the scores of the next box for theirs, or breaks off."""
    image = torch.zeros(50, 50, 3, dtype=torch.uint8)
    found = np.array([[60, 1, 80, 21], [5, 5, 30, 30], [1, -30, 20, -5]], np.float32)
    kept = cascade.refine(image, found, nets, threshold=-1)  # accepts all that are left
    assert len(kept) == 1
    np.testing.assert_array_equal(kept, cascade.refine(image, found[1:2], nets, threshold=-1))


class OneWindow(nn.Module):
    """A P-Net that takes one window for a face, and whose regression tells the column."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = ((edge - 1) // 2 - 4 for edge in x.shape[2:])
        regression = torch.arange(width).float().expand(1, 4, height, width) / 100
        probability = torch.zeros(1, 2, height, width)
        probability[0, 1, 0, self.column] = 0.9
        return regression, probability


@torch.inference_mode()
def test_the_originals_slip_with_a_single_window() -> None:
    """The original mirrors the regression where P-Net accepts a single window."""
    pnet: Any = OneWindow(column=1)
    image = np.zeros((20, 40, 3), np.uint8)  # one size of the pyramid: 12x24, 1x7 windows
    found = reference.propose(image, Nets(pnet, RNet(), ONet()), SETTINGS)
    window = boxes.windows(np.array([0]), np.array([1]), 0.6, np.dtype(np.float64))
    mirrored = np.full((1, 4), 0.05)  # column 7 - 1 - 1
    expected = boxes.square(boxes.regress(window, mirrored, pixel=0))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_pyramid() -> None:
    from facenet_models.detect.settings import scales

    assert scales(19, 500, SETTINGS) == []
    assert scales(20, 500, SETTINGS) == [0.6]
    assert len(scales(1080, 1920, SETTINGS)) == 12
    assert scales(1080, 1920, SETTINGS)[1] == pytest.approx(0.6 * 0.709)


def test_original_weights_layout(reference_dir: Path) -> None:
    """The published files store transposed views; strips must read their values all the same."""
    net = PNet()
    net.load_state_dict(torch.load(reference_dir / "published/pnet.pt", weights_only=True))
    kernels = proposals.Kernels.from_net(net)
    assert kernels.conv1[0].shape == (16, 3, 3, 3)  # 4 rising, 6 falling twice
    assert kernels.negative == (4, 10)
