"""``facenet detect``: what it writes, prints and exits with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from facenet_models.cli import detect as module

pytest.importorskip("torch")
image_module = pytest.importorskip("PIL.Image")


GOLDEN = {
    "facenet-pytorch": ("facenet_pytorch_detect.json", "images/multiface.jpg|PIL|keep_all"),
    "reference": ("mtcnn_detect.json", "images/multiface.jpg|minsize=20"),
}


def detect(*args: object) -> Result:
    result = CliRunner().invoke(module.command, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def weights(reference_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FACENET_WEIGHTS", raising=False)
    return reference_dir / "published"


@pytest.fixture
def album(reference_dir: Path, tmp_path: Path) -> Path:
    """A folder with a face, a black image in a folder below, and what is no image."""
    folder = tmp_path / "album"
    (folder / "below").mkdir(parents=True)
    (folder / "one.jpg").symlink_to(reference_dir / "images" / "Anthony_Hopkins_0001.jpg")
    image_module.new("RGB", (40, 30)).save(folder / "below" / "black.ppm")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a detector is made."""
    monkeypatch.setattr(module, "build_detector", lambda *args: pytest.fail(f"built: {args}"))


@pytest.mark.parametrize("backend", sorted(GOLDEN))
def test_json_has_what_the_original_programs_find(
    reference_dir: Path, weights: Path, backend: str
) -> None:
    path = reference_dir / "images" / "multiface.jpg"
    result = detect(path, "--json", "--landmarks", "--weights", weights, "--backend", backend)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert list(row) == ["image", "width", "height", "boxes", "probabilities", "landmarks"]
    assert (row["image"], row["width"], row["height"]) == (str(path), 1200, 630)
    entries = json.loads((reference_dir / "golden" / GOLDEN[backend][0]).read_text())["results"]
    expected = np.array(entries[GOLDEN[backend][1]]["boxes"])[:, :4]
    got = np.array(row["boxes"])
    assert got.shape == expected.shape == (6, 4)
    np.testing.assert_allclose(
        np.sort(got, axis=0), np.sort(expected, axis=0), atol=0.015
    )  # 0.01, and rounding
    assert np.shape(row["landmarks"]) == (6, 5, 2)
    assert len(row["probabilities"]) == 6
    areas = np.prod(got[:, 2:] - got[:, :2], axis=1)
    assert (np.diff(areas) <= 0).all()
    for box, points in zip(got, np.array(row["landmarks"]), strict=True):
        assert (points > box[:2]).all()
        assert (points < box[2:]).all()


def test_copies_and_crops_of_a_folder(album: Path, weights: Path, tmp_path: Path) -> None:
    out, crops = tmp_path / "new" / "out", tmp_path / "crops"
    result = detect(album, "--out", out, "--crops", crops, "--weights", weights)
    assert result.exit_code == 1  # one is no image
    assert result.stdout.splitlines() == [
        f"{album}/below/black.ppm: no face -> {out}/below/black.png",
        f"{album}/one.jpg: 1 face -> {out}/one.jpg",
    ]
    assert result.stderr == f"{album}/broken.png: unreadable: not an image\n"
    files = sorted(
        str(path.relative_to(tmp_path)) for path in (out, crops) for path in path.rglob("*.*")
    )
    assert files == ["crops/one_face1.png", "new/out/below/black.png", "new/out/one.jpg"]
    with image_module.open(crops / "one_face1.png") as face:
        assert face.size == (160, 160)
    with (
        image_module.open(album / "one.jpg") as original,
        image_module.open(out / "one.jpg") as copy,
    ):
        assert copy.size == original.size
        change = np.abs(np.asarray(copy, int) - np.asarray(original.convert("RGB"), int)).max(
            axis=2
        )
    assert 0.005 < (change > 60).mean() < 0.1  # an outline and a tag
    assert (album / "one.jpg").is_symlink()


def test_json_of_a_folder(album: Path, weights: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    result = detect(album, "--json", "--crops", crops, "--weights", weights)
    assert result.exit_code == 1
    assert result.stderr == ""
    black, broken, one = json.loads(result.stdout)
    assert broken == {"image": f"{album}/broken.png", "error": "unreadable: not an image"}
    assert black == {
        "image": f"{album}/below/black.ppm",
        "width": 40,
        "height": 30,
        "boxes": [],
        "probabilities": [],
        "crops": [],
    }
    assert len(one["boxes"]) == len(one["probabilities"]) == 1
    assert one["crops"] == [f"{crops}/one_face1.png"]


def test_boxes_are_those_of_the_upright_image(
    reference_dir: Path, weights: Path, tmp_path: Path
) -> None:
    with image_module.open(reference_dir / "images" / "Anthony_Hopkins_0001.jpg") as image:
        turned = image.convert("RGB").rotate(90, expand=True)
        exif = image_module.Exif()
        exif[0x0112] = 6  # to be turned clockwise by a quarter
        turned.save(tmp_path / "turned.png", exif=exif)
        image.convert("RGB").save(tmp_path / "upright.png")
    turned_row, upright = json.loads(
        detect(tmp_path, "--json", "--weights", weights, "--out", tmp_path / "out").stdout
    )
    assert turned_row["boxes"] == upright["boxes"]
    assert len(upright["boxes"]) == 1
    with image_module.open(tmp_path / "out" / "turned.png") as copy:
        assert copy.size == (upright["width"], upright["height"])
        assert 0x0112 not in copy.getexif()


def test_min_face_size_is_passed_on(reference_dir: Path, weights: Path) -> None:
    path = reference_dir / "images" / "multiface.jpg"
    result = detect(path, "--json", "--weights", weights, "--min-face-size", 400)
    assert json.loads(result.stdout)[0]["boxes"] == []


@pytest.mark.usefixtures("unbuilt")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{album}"], "nothing to do"),
        (["--json"], "Missing argument"),
        (["{album}/no.jpg", "--json"], "no such file or folder"),
        (["{album}/no.jpg", "--json"], "check the path"),
        (["{tmp}/empty", "--json"], "no image in the folder"),
        (["{album}/one.jpg", "{album}", "--out", "{tmp}/out"], "two images would be written"),
        (["{album}/one.jpg", "{album}", "--crops", "{tmp}/out"], "two images would be written"),
        (["{album}", "--out", "{album}", "--overwrite"], "would replace the image itself"),
        (["{album}", "--out", "{tmp}/old"], "exists already"),
        (["{album}", "--crops", "{tmp}/old"], "exists already"),
        (["{album}/one.jpg", "--crops", "{tmp}/second"], "one_face2.png"),
        (["{album}", "--out", "{album}/one.jpg"], "expected a folder, got a file"),
        (["{album}", "--json", "--backend", "dlib"], "'dlib' is not one of"),
        (["{album}", "--json", "--min-face-size", "0"], "0"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(
    album: Path, tmp_path: Path, args: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    for name in ("one.jpg", "one_face1.png"):
        (tmp_path / "old" / name).touch()
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "one_face2.png").touch()  # how many faces there are is not known yet
    (tmp_path / "second" / "one_faces.png").touch()
    result = detect(*(arg.format(album=album, tmp=tmp_path) for arg in args))
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()
    assert "Traceback" not in result.output


def test_overwrites_if_told(album: Path, weights: Path, tmp_path: Path) -> None:
    old = tmp_path / "one.jpg"
    old.touch()
    one = album / "one.jpg"
    assert detect(one, "--out", tmp_path, "--weights", weights, "--overwrite").exit_code == 0
    assert old.stat().st_size > 1000


def test_weights_and_devices_that_are_not_there(album: Path, tmp_path: Path, weights: Path) -> None:
    result = detect(album, "--json", "--weights", tmp_path)
    assert result.exit_code == 2
    assert "pnet" in str(json.loads(result.stdout))
    for place, problem in (
        ("nope", "there is no such folder"),
        ("album/one.jpg", "this is a file"),
    ):
        result = detect(album, "--json", "--weights", tmp_path / place)
        assert result.exit_code == 2
        data = json.loads(result.stdout)
        assert data["problem"].startswith(problem)
        assert data["file"] == str(tmp_path / place)
        assert "convert" not in data["next_step"]  # nothing is to be written there
    result = detect(album, "--out", tmp_path / "x", "--weights", weights, "--device", "abacus")
    assert result.exit_code == 2
    assert "unknown kind of device" in result.stderr
    result = detect(album, "--json", "--weights", weights, "--device", "cuda:99")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert "has no device 'cuda:99' on this machine" in told["problem"]
    assert "expected" not in told  # the name is right
    assert not (tmp_path / "x").exists()
