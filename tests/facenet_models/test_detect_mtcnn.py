"""The inputs, results, files and errors of MTCNN."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the detector needs torch")
Image = pytest.importorskip("PIL.Image", reason="the photographs need Pillow")

import torch  # noqa: E402

from facenet_common.errors import DownloadError, UsageError, WeightsError  # noqa: E402
from facenet_models import MTCNN, InceptionResnetV1  # noqa: E402

NO_FACE = np.zeros((90, 120, 3), np.uint8)


@pytest.fixture(scope="module")
def photo(reference_dir: Path) -> Any:
    """250x250, one face."""
    return Image.open(reference_dir / "images/Anthony_Hopkins_0001.jpg").convert("RGB")


@pytest.fixture(scope="module")
def crowd(reference_dir: Path) -> Any:
    """1200x630, six faces."""
    return Image.open(reference_dir / "images/multiface.jpg").convert("RGB")


@pytest.fixture
def mtcnn(reference_dir: Path) -> MTCNN:
    return MTCNN(weights=reference_dir / "published")


@pytest.fixture
def all_faces(reference_dir: Path) -> MTCNN:
    return MTCNN(keep_all=True, weights=reference_dir / "published")


def assert_close(found: Any, expected: Any, atol: float) -> None:
    numbers = [np.asarray(side, np.float64) for side in (found, expected)]
    np.testing.assert_allclose(*numbers, atol=atol)


def test_every_kind_of_input_gives_the_same_boxes(mtcnn: MTCNN, photo: Any) -> None:
    expected, _ = mtcnn.detect(photo)
    array = np.array(photo)
    for image in (
        array,
        array.astype(np.int64),
        array.astype(np.float32),
        torch.from_numpy(array),
        torch.from_numpy(array).float(),
        torch.from_numpy(array).permute(2, 0, 1),
        array.transpose(2, 0, 1),
        array[:, ::-1][:, ::-1],
        photo.convert("RGBA"),
        np.dstack([array, array[..., :1]]),
    ):
        assert_close(mtcnn.detect(image)[0], expected, atol=1e-3)


def test_batches_give_what_single_images_give(mtcnn: MTCNN, photo: Any) -> None:
    expected, prob, points = mtcnn.detect(photo, landmarks=True)
    array = np.array(photo)
    for batch in (
        [photo, photo],
        (array, photo),
        np.stack([array, array]),
        torch.from_numpy(np.stack([array, array])),
        torch.from_numpy(np.stack([array, array])).permute(0, 3, 1, 2),
    ):
        boxes, probs, marks = mtcnn.detect(batch, landmarks=True)
        assert boxes.dtype == object
        assert boxes.shape == (2, 1, 4)  # facenet-pytorch's, where all have as many faces
        for one in range(2):
            assert_close(boxes[one], expected, atol=1e-3)
            assert_close(probs[one], prob, atol=1e-6)
            assert_close(marks[one], points, atol=1e-3)


def test_types_and_shapes(mtcnn: MTCNN, all_faces: MTCNN, crowd: Any) -> None:
    boxes, probs, points = mtcnn.detect(crowd, landmarks=True)
    assert (boxes.dtype, boxes.shape) == (object, (6, 4))
    assert (probs.dtype, probs.shape) == (object, (6,))
    assert (points.dtype, points.shape) == (object, (6, 5, 2))
    assert {type(x) for part in (boxes, probs, points) for x in part.flat} == {float}
    json.dumps([boxes[0, 0], probs[0]])  # as facenet-pytorch's users do
    assert mtcnn(crowd).shape == (3, 160, 160)
    face, prob = mtcnn(crowd, return_prob=True)
    assert face.dtype == torch.float32
    assert type(prob) is float
    box, prob, point = mtcnn.select_boxes(boxes, probs, points, crowd)
    assert (box.dtype, box.shape, point.shape) == (object, (1, 4), (1, 5, 2))
    assert type(prob) is float
    faces, probs = all_faces(crowd, return_prob=True)
    assert faces.shape == (6, 3, 160, 160)
    assert probs.shape == (6,)
    batch, probs = mtcnn([crowd, crowd], return_prob=True)
    assert [face.shape for face in batch] == [(3, 160, 160)] * 2
    assert probs.shape == (2, 1)


def test_the_largest_or_the_most_probable_face_comes_first(reference_dir: Path, crowd: Any) -> None:
    weights = reference_dir / "published"
    boxes, _ = MTCNN(weights=weights).detect(crowd)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert (np.diff(areas) <= 0).all()
    likely = MTCNN(select_largest=False, weights=weights)
    _, probs = likely.detect(crowd)
    assert (np.diff(probs) <= 0).all()
    assert likely.selection_method == "probability"


@pytest.mark.parametrize("backend", ["facenet-pytorch", "reference"])
def test_no_face(reference_dir: Path, backend: Any, photo: Any) -> None:
    mtcnn = MTCNN(backend=backend, weights=reference_dir / "published")
    boxes, probs, points = mtcnn.detect(NO_FACE, landmarks=True)
    assert boxes is None
    assert points is None
    assert (type(probs), probs.dtype, probs.tolist()) == (np.ndarray, object, [None])
    assert mtcnn(NO_FACE, return_prob=True) == (None, None)
    faces, probs = mtcnn([NO_FACE, photo], return_prob=True)
    assert faces[0] is None
    assert faces[1].shape == (3, 160, 160)
    assert list(probs[0]) == [None]
    assert probs[1][0] > 0.99
    assert mtcnn([NO_FACE, NO_FACE]) == [None, None]
    keep_all = MTCNN(backend=backend, keep_all=True, weights=reference_dir / "published")
    assert keep_all(NO_FACE, return_prob=True) == (None, [None])


@pytest.mark.parametrize("backend", ["facenet-pytorch", "reference"])
@pytest.mark.parametrize("size", [(1, 1), (5, 300), (19, 19), (300, 12)])
def test_images_smaller_than_a_face(reference_dir: Path, backend: Any, size: Any) -> None:
    mtcnn = MTCNN(backend=backend, weights=reference_dir / "published")
    assert mtcnn.detect(np.full((*size, 3), 99, np.uint8)) == (None, [None])


def test_images_of_different_sizes(mtcnn: MTCNN, photo: Any, crowd: Any) -> None:
    boxes, probs = mtcnn.detect([photo, crowd, np.zeros((4, 4, 3), np.uint8)])
    assert len(boxes[0]) == 1
    assert len(boxes[1]) == 6
    assert boxes[2] is None
    np.testing.assert_array_equal(boxes[1], mtcnn.detect(crowd)[0])
    np.testing.assert_array_equal(probs[0], mtcnn.detect(photo)[1])


def test_no_images(mtcnn: MTCNN) -> None:
    assert mtcnn([]) == []
    boxes, probs = mtcnn.detect([])
    assert len(boxes) == len(probs) == 0


def test_grey_images(mtcnn: MTCNN, photo: Any) -> None:
    grey = photo.convert("L")
    expected = mtcnn.detect(grey.convert("RGB"))[0]
    array = np.array(grey)
    for image in (grey, array, array[..., None], torch.from_numpy(array), grey.convert("P")):
        np.testing.assert_array_equal(mtcnn.detect(image)[0], expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("face.jpg", "open the file"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.zeros((50, 50, 2), np.uint8), r"shape \(50, 50, 2\)"),
        (np.zeros(7, np.uint8), r"shape \(7,\)"),
        (np.full((50, 50, 3), 300, np.int32), "0 to 255"),
        (np.full((50, 50, 3), -1.0), "0 to 255"),
        (np.full((50, 50, 3), np.nan), "0 to 255"),
        (np.full((50, 50, 3), 0.5, np.float32), "multiply them by 255"),
        (np.linspace(-0.1, 1.1, 7500, dtype=np.float32).reshape(50, 50, 3), "multiply them by 255"),
        (np.linspace(-1, 1, 7500, dtype=np.float32).reshape(50, 50, 3), "standardised"),
        (np.linspace(-200, 400, 7500, dtype=np.float32).reshape(50, 50, 3), "out of range"),
        (torch.zeros(50, 50, 3, dtype=torch.bool), "0 to 255"),
    ],
)
def test_other_inputs_than_images_are_refused(mtcnn: MTCNN, image: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mtcnn.detect(image)


def test_images_with_fractions_are_not_rounded(mtcnn: MTCNN, photo: Any) -> None:
    array = np.array(photo).astype(np.float32)
    blended = array * 0.75 + 0.2
    boxes = mtcnn.detect(blended)[0]
    assert not np.array_equal(boxes, mtcnn.detect(np.rint(blended))[0])
    assert_close(boxes, mtcnn.detect(np.rint(blended))[0], atol=1)


def test_faces_are_saved_and_numbered(all_faces: MTCNN, crowd: Any, tmp_path: Path) -> None:
    faces = all_faces(crowd, save_path=str(tmp_path / "new" / "face.png"))
    names = ["face.png"] + [f"face_{number}.png" for number in range(2, 7)]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    for name, face in zip(names, faces, strict=True):
        saved = np.array(Image.open(tmp_path / "new" / name)).astype(np.float32)
        np.testing.assert_array_equal((saved - 127.5) / 128, face.permute(1, 2, 0).numpy())


def test_a_batch_is_saved_to_its_own_paths(mtcnn: MTCNN, photo: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png", None]
    mtcnn([photo, NO_FACE, photo], save_path=paths)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("save_path", ["face.png", Path("face.png"), ["only one.png"]])
def test_one_path_for_a_batch_is_refused(mtcnn: MTCNN, photo: Any, save_path: Any) -> None:
    with pytest.raises(UsageError, match="one save_path for each image"):
        mtcnn([photo, photo], save_path=save_path)


@pytest.mark.parametrize("backend", ["facenet-pytorch", "reference"])
def test_double_half_and_autocast(reference_dir: Path, photo: Any, backend: Any) -> None:
    mtcnn = MTCNN(backend=backend, weights=reference_dir / "published")
    expected, prob = mtcnn.detect(photo)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(mtcnn.detect(photo)[0], expected, atol=6)
    boxes, probs = mtcnn.double().detect(photo)
    assert_close(boxes, expected, atol=1e-2)
    assert_close(probs, prob, atol=1e-5)
    boxes, _ = mtcnn.half().detect(photo)
    assert_close(boxes, expected, atol=6)  # another of the equals wins


def test_is_a_module_with_facenet_pytorchs_names(mtcnn: MTCNN, photo: Any) -> None:
    assert [name for name, _ in mtcnn.named_children()] == ["pnet", "rnet", "onet"]
    assert not mtcnn.training
    assert mtcnn.device == torch.device("cpu")
    before = mtcnn.detect(photo)[0]
    state = {name: value.clone() for name, value in mtcnn.state_dict().items()}
    with torch.no_grad():
        mtcnn.pnet.conv4_1.bias[1] -= 100  # nothing is a face any more: no stale copies
    assert mtcnn.detect(photo)[0] is None
    mtcnn.load_state_dict(state)
    np.testing.assert_array_equal(mtcnn.detect(photo)[0], before)


def test_settings_may_be_changed_later(mtcnn: MTCNN, photo: Any) -> None:
    mtcnn.thresholds = [0.6, 0.7, 1.0]
    assert mtcnn.detect(photo)[0] is None
    mtcnn.thresholds = [0.6, 0.7, 0.7]
    mtcnn.min_face_size = 240
    assert mtcnn.detect(photo)[0] is None


def test_what_facenet_pytorch_takes_is_taken(reference_dir: Path, photo: Any) -> None:
    weights = reference_dir / "published"
    mtcnn = MTCNN(weights=weights)
    expected = mtcnn.detect(photo)[0]
    mtcnn.thresholds[2] = 1.5  # a list, and above every probability
    assert mtcnn.detect(photo)[0] is None
    assert len(MTCNN(thresholds=[0.6, 0.7, 0.7, 9.0], weights=weights).detect(photo)[0]) == 1
    assert len(MTCNN(thresholds=[0.6, -1, 0.7], weights=weights).detect(photo)[0]) == 1
    misspelt = MTCNN(selection_method="largest_over_theshold", weights=weights)  # type: ignore[arg-type] # as there
    assert misspelt(photo).shape == (3, 160, 160)
    small = np.array(photo)[:40, :40]
    assert len(MTCNN(min_face_size=0.9, weights=weights).detect(small)) == 2
    mtcnn = MTCNN(weights=weights)
    mtcnn.device = "cpu"  # type: ignore[assignment] # as there
    assert mtcnn.device == torch.device("cpu")
    np.testing.assert_array_equal(mtcnn.detect(photo)[0], expected)


def test_every_window_is_a_candidate_at_threshold_zero(reference_dir: Path, photo: Any) -> None:
    small = np.array(photo)[:40, :40]
    fast = MTCNN(thresholds=[-0.5, 2, 2], weights=reference_dir / "published")
    assert fast.detect(small)[0] is None


def test_another_default_dtype(mtcnn: MTCNN, photo: Any) -> None:
    expected = mtcnn.detect(photo)[0]
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert_close(mtcnn.detect(photo)[0], expected, atol=1e-3)
        assert mtcnn(photo).shape == (3, 160, 160)
    finally:
        torch.set_default_dtype(before)


def test_floats_a_little_outside_are_clamped(mtcnn: MTCNN, photo: Any) -> None:
    array = np.array(photo).astype(np.float32)
    expected = mtcnn.detect(array)[0]
    edges = array.copy()
    edges[array == 0], edges[array == 255] = -30, 290
    assert edges.min() < 0 or edges.max() > 255
    np.testing.assert_array_equal(mtcnn.detect(edges)[0], expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_face_size": 0}, "min_face_size must be above 0"),
        ({"min_face_size": float("nan")}, "min_face_size must be above 0"),
        ({"factor": 1.0}, "factor must be between 0 and 1"),
        ({"factor": 0}, "factor must be between 0 and 1"),
        ({"thresholds": [0.6, 0.7]}, "three numbers"),
        ({"thresholds": [0.6, 0.7, float("nan")]}, "three numbers"),
        ({"selection_method": "prettiest"}, "prettiest"),
        ({"backend": "caffe"}, "caffe"),
    ],
)
def test_settings_out_of_range_are_refused(
    reference_dir: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        MTCNN(weights=reference_dir / "published", **wrong)


def test_largest_over_threshold_may_select_none(mtcnn: MTCNN, crowd: Any) -> None:
    found = mtcnn.detect(crowd, landmarks=True)
    assert mtcnn.select_boxes(*found, crowd, method="largest_over_threshold", threshold=1.0) == (
        None,
        None,
        None,
    )
    box, prob, _ = mtcnn.select_boxes(
        *found, crowd, method="largest_over_threshold", threshold=0.99998
    )
    assert prob > 0.99998
    assert box[0, 0] == pytest.approx(420.14, abs=0.01)
    with pytest.raises(UsageError, match="prettiest"):
        mtcnn.select_boxes(*found, crowd, method="prettiest")


def test_centre_of_arrays_too(mtcnn: MTCNN, crowd: Any) -> None:
    expected = mtcnn.select_boxes(
        *mtcnn.detect(crowd, landmarks=True), crowd, method="center_weighted_size"
    )
    array = np.array(crowd)
    found = mtcnn.select_boxes(
        *mtcnn.detect(array, landmarks=True), array, method="center_weighted_size"
    )
    np.testing.assert_array_equal(found[0], expected[0])


def test_weights_are_found_by_the_environment(
    reference_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = reference_dir / "published"
    monkeypatch.setenv("FACENET_WEIGHTS", str(published))
    MTCNN()
    monkeypatch.delenv("FACENET_WEIGHTS")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"pnet\.pt") as caught:
        MTCNN()
    assert "FACENET_OFFLINE" in str(caught.value)
    cache = tmp_path / "checkpoints"
    cache.mkdir(parents=True)
    for net in ("pnet", "rnet", "onet"):
        (cache / f"{net}.pt").write_bytes((published / f"{net}.pt").read_bytes())
    MTCNN()
    (cache / "onet.pt").write_bytes((published / "pnet.pt").read_bytes())
    with pytest.raises(WeightsError, match=r"onet\.pt"):  # another hash
        MTCNN()


def test_weights_in_a_folder(reference_dir: Path, tmp_path: Path) -> None:
    published = reference_dir / "published"
    with pytest.raises(UsageError, match=r"convert --checkpoint det1\.npy --out"):
        MTCNN(weights=tmp_path)
    for net in ("pnet", "rnet", "onet"):  # the same tensors in other files: no hash is asked for
        state = torch.load(published / f"{net}.pt", weights_only=True)
        torch.save(state, tmp_path / f"{net}.pt")
    MTCNN(weights=tmp_path)
    (tmp_path / "onet.pt").write_bytes((tmp_path / "pnet.pt").read_bytes())
    with pytest.raises(WeightsError, match="do not fit ONet") as caught:
        MTCNN(weights=tmp_path)
    assert "onet.pt is ONet's" in str(caught.value)


def test_weights_in_safetensors(reference_dir: Path, tmp_path: Path, photo: Any) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    for net in ("pnet", "rnet", "onet"):
        state = torch.load(reference_dir / f"published/{net}.pt", weights_only=True)
        state = {name: value.contiguous() for name, value in state.items()}
        safetensors.save_file(state, tmp_path / f"{net}.safetensors")
    found = MTCNN(weights=tmp_path).detect(photo)[0]
    expected = MTCNN(weights=reference_dir / "published").detect(photo)[0]
    np.testing.assert_array_equal(found, expected)


MEASURE = """
import resource, sys
import numpy as np
from facenet_models import MTCNN  # noqa: E402
from PIL import Image

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

mtcnn = MTCNN(weights=sys.argv[1])
image = Image.open(sys.argv[2]).convert("RGB")
mtcnn.detect(image)
frames = np.stack([np.array(image.resize((1920, 1080)))] * 8)
before = peak()
mtcnn.detect(frames)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maxrss is in KB on Linux only")
def test_memory_of_a_batch(reference_dir: Path) -> None:
    """Eight frames of 1080p: they are worked on one by one."""
    photo = reference_dir / "images/multiface.jpg"
    command = [sys.executable, "-c", MEASURE, str(reference_dir / "published"), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 250  # MB beyond the frames


def test_quick_start(all_faces: MTCNN, mtcnn: MTCNN, crowd: Any, tmp_path: Path) -> None:
    """facenet-pytorch's documented first steps: crop, embed, classify."""
    resnet = InceptionResnetV1(num_classes=3).eval()
    cropped = mtcnn(crowd, save_path=str(tmp_path / "cropped.png"))
    with torch.no_grad():
        assert resnet(cropped.unsqueeze(0)).shape == (1, 512)
        resnet.classify = True
        assert resnet(all_faces(crowd)).shape == (6, 3)
    assert (tmp_path / "cropped.png").is_file()


def test_no_face_is_written_over_another(
    all_faces: MTCNN, crowd: Any, photo: Any, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.png", tmp_path / "a_2.png"]
    with pytest.raises(UsageError, match="two faces would be written to one file"):
        all_faces([crowd, photo], save_path=paths)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="two faces would be written to one file"):
        all_faces([photo, photo], save_path=[tmp_path / "a.png"] * 2)


def test_names_near_the_limit_of_the_file_system(mtcnn: MTCNN, photo: Any, tmp_path: Path) -> None:
    path = tmp_path / f"{'照' * 80}.png"  # 244 bytes
    mtcnn(photo, save_path=path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
