"""Both backends against what the programs that they reproduce answered: boxes, faces, choices."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the detector needs torch")
Image = pytest.importorskip("PIL.Image", reason="the photographs need Pillow")

from facenet_models import MTCNN  # noqa: E402

PHOTOGRAPHS = ("multiface", "Anthony_Hopkins_0001", "Anthony_Hopkins_0002")
METHODS = ("probability", "largest", "largest_over_threshold", "center_weighted_size")
PIXELS = 0.01  # by which a box or a landmark may be off
PROBABILITY = 1e-5


@cache
def golden(path: Path) -> Any:
    return json.loads(path.read_text())["results"]


def photograph(folder: Path, name: str, kind: str) -> Any:
    image = Image.open(folder / "images" / f"{name}.jpg")
    return np.array(image) if kind == "ndarray" else image


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    numbers = np.asarray(found, np.float64)
    np.testing.assert_allclose(numbers, np.array(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["PIL", "ndarray"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_finds_what_facenet_pytorch_finds(reference_dir: Path, name: str, kind: str) -> None:
    expected = golden(reference_dir / "golden/facenet_pytorch_detect.json")
    expected = expected[f"images/{name}.jpg|{kind}|keep_all"]
    mtcnn = MTCNN(keep_all=True, weights=reference_dir / "published")
    boxes, probs, points = mtcnn.detect(photograph(reference_dir, name, kind), landmarks=True)
    assert_close(boxes, expected["boxes"], PIXELS)
    assert_close(probs, expected["probs"], PROBABILITY)
    assert_close(points, expected["points"], PIXELS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_selects_what_facenet_pytorch_selects(reference_dir: Path, name: str, method: str) -> None:
    expected = golden(reference_dir / "golden/facenet_pytorch_detect.json")
    expected = expected[f"images/{name}.jpg|PIL|select={method}"]
    image = photograph(reference_dir, name, "PIL")
    mtcnn = MTCNN(weights=reference_dir / "published")
    box, prob, point = mtcnn.select_boxes(
        *mtcnn.detect(image, landmarks=True), image, method=method
    )
    assert_close(box, expected["box"], PIXELS)
    assert_close(prob, expected["prob"], PROBABILITY)
    assert point.shape == (1, 5, 2)


@pytest.mark.parametrize("kind", ["PIL", "ndarray"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_cuts_out_what_facenet_pytorch_cuts_out(reference_dir: Path, name: str, kind: str) -> None:
    image = photograph(reference_dir, name, kind)
    with np.load(reference_dir / "golden/facenet_pytorch_faces.npz") as faces:
        standardised, raw = faces[f"{name}.{kind}.face"], faces[f"{name}.{kind}.face_margin14_raw"]
    grey_level = 1 / 128
    weights = reference_dir / "published"
    assert_close(MTCNN(weights=weights)(image).numpy(), standardised, 1.01 * grey_level)
    raw_face = MTCNN(margin=14, post_process=False, weights=weights)(image)
    assert_close(raw_face.numpy(), raw.astype(np.float32), 1)


@pytest.mark.parametrize("min_face_size", [20, 40])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_reference_finds_what_the_original_finds(
    reference_dir: Path, name: str, min_face_size: int
) -> None:
    expected = golden(reference_dir / "golden/mtcnn_detect.json")
    expected = expected[f"images/{name}.jpg|minsize={min_face_size}"]
    mtcnn = MTCNN(
        min_face_size=min_face_size,
        select_largest=False,
        backend="reference",
        weights=reference_dir / "published",
    )
    boxes, probs, points = mtcnn.detect(photograph(reference_dir, name, "ndarray"), landmarks=True)
    scored = np.array(expected["boxes"])
    marks = np.array(expected["points"]).reshape(2, 5, -1).transpose(2, 1, 0)
    assert_close(boxes, scored[:, :4], PIXELS)
    assert_close(probs, scored[:, 4], PROBABILITY)
    assert_close(points, marks, PIXELS)


def test_reference_finds_nothing_in_black(reference_dir: Path) -> None:
    expected = golden(reference_dir / "golden/mtcnn_detect.json")["black 300x300|minsize=20"]
    assert expected["boxes"] == []
    mtcnn = MTCNN(backend="reference", weights=reference_dir / "published")
    boxes, probs, points = mtcnn.detect(np.zeros((300, 300, 3), np.uint8), landmarks=True)
    assert boxes is None
    assert probs == [None]
    assert points is None
