"""Faces cut out of images, and the scaling of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="crops are torch tensors")
Image = pytest.importorskip("PIL.Image", reason="saving needs Pillow")

import torch  # noqa: E402

from facenet_common.errors import OutputError, UsageError  # noqa: E402
from facenet_models import extract_face, fixed_image_standardization, prewhiten  # noqa: E402

GRADIENT = np.stack(np.broadcast_arrays(*np.ogrid[:60, :80], 7), axis=2).astype(np.uint8)
BOX = np.array([10.7, 20.2, 40.9, 50.9], np.float32)


def test_fixed_image_standardization() -> None:
    pixels = torch.tensor([0.0, 127.5, 255.5])
    assert fixed_image_standardization(pixels).tolist() == [-0.99609375, 0.0, 1.0]
    assert isinstance(fixed_image_standardization(pixels.numpy()), np.ndarray)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_prewhiten_offers_both_deviations(as_tensor: bool) -> None:
    values: Any = np.array([[1.0, 2.0], [3.0, 6.0]])
    values = torch.from_numpy(values) if as_tensor else values
    expected = np.array([[-2, -1], [0, 3]])
    np.testing.assert_allclose(prewhiten(values), expected / np.sqrt(14 / 4))
    np.testing.assert_allclose(prewhiten(values, unbiased=True), expected / np.sqrt(14 / 3))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_prewhiten_of_one_colour(as_tensor: bool) -> None:
    values: Any = np.full((3, 10, 10), 7, np.uint8)
    values = torch.from_numpy(values) if as_tensor else values
    np.testing.assert_array_equal(prewhiten(values), np.zeros((3, 10, 10)))


@pytest.mark.parametrize("kind", ["PIL", "ndarray", "tensor"])
def test_extract_face_is_channels_first_whatever_the_image(kind: str) -> None:
    image = {
        "PIL": Image.fromarray(GRADIENT),
        "ndarray": GRADIENT,
        "tensor": torch.from_numpy(GRADIENT),
    }[kind]
    face = extract_face(image, BOX, image_size=15)
    assert face.dtype == torch.float32
    assert face.shape == (3, 15, 15)
    # Rows 20 to 49, columns 10 to 39; each pixel of the face covers 2x2.
    means = torch.arange(15) * 2 + 0.5
    assert (face[0] - (20 + means)[:, None]).abs().max() <= 1
    assert (face[1] - (10 + means)[None]).abs().max() <= 1
    assert (face[2] == 7).all()


def test_the_margin_is_in_pixels_of_the_face() -> None:
    image = torch.from_numpy(GRADIENT)
    box = [20, 20, 40, 40]
    # 30 pixels of face of which 10 are margin: 5 on each side of 20.
    face = extract_face(image, box, image_size=30, margin=10)
    torch.testing.assert_close(face[1, 0], torch.arange(15.0, 45.0))
    torch.testing.assert_close(face[0, :, 0], torch.arange(15.0, 45.0))


def test_a_box_over_the_edge_is_cut_off() -> None:
    face = extract_face(torch.from_numpy(GRADIENT), [-20, -20, 10, 10], image_size=10)
    torch.testing.assert_close(face[1, 0], torch.arange(10.0))


@pytest.mark.parametrize("box", [[90, 10, 99, 20], [10, -9, 20, 0], [30, 10, 20, 20]])
def test_a_box_without_a_pixel_is_refused(box: list[int]) -> None:
    with pytest.raises(UsageError, match="no pixel of the image"):
        extract_face(GRADIENT, box)


def test_a_margin_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="margin must be smaller"):
        extract_face(GRADIENT, BOX, image_size=160, margin=160)


def test_faces_are_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    face = extract_face(GRADIENT, BOX, save_path=tmp_path / "deep" / "er" / "face.png")
    saved = np.array(Image.open(tmp_path / "deep" / "er" / "face.png"))
    np.testing.assert_array_equal(saved, face.permute(1, 2, 0).numpy().astype(np.uint8))
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError):
        extract_face(GRADIENT, BOX, save_path=tmp_path / "taken.png")
    with pytest.raises(UsageError, match="suffix"):
        extract_face(GRADIENT, BOX, save_path=tmp_path / "face")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "taken.png"]
