"""``facenet track``: what it writes, prints and exits with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from facenet_models.cli import detect as detect_module
from facenet_models.cli import track as module
from facenet_models.video import Frame, embedder, frames, video_info, write_video

pytest.importorskip("torch", reason="the detector needs torch")
pytest.importorskip("av", reason="videos need PyAV")

COUNT = 6
TIMES = [0.0, 0.04, 0.08, 0.2, 0.24, 0.28]  # of no fixed rate


def track(*args: object) -> Result:
    result = CliRunner().invoke(module.command, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def original(reference_dir: Path) -> list[np.ndarray]:
    path = reference_dir / "video" / "video.mp4"
    return [frame.image for frame in frames(path, stop=COUNT, max_side=960)]


@pytest.fixture
def video(original: list[np.ndarray], tmp_path: Path) -> Path:
    path = tmp_path / "street.mp4"
    write_video(path, (Frame(i, TIMES[i], image) for i, image in enumerate(original)))
    return path


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A video in which there is nothing."""
    path = tmp_path / "blank.mp4"
    write_video(path, [np.zeros((48, 64, 3), np.uint8)] * 5, 10)
    return path


@pytest.fixture
def weights(reference_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FACENET_WEIGHTS", raising=False)
    return reference_dir / "published"


def test_a_video_is_written_again_with_its_faces_numbered(
    video: Path, original: list[np.ndarray], weights: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "marked.mp4", tmp_path / "faces.json"
    result = track(video, "--out", out, "--json", file, "--weights", weights)
    assert result.exit_code == 0, result.output
    data = json.loads(file.read_text())
    found = data.pop("tracks")
    assert data == {
        "video": str(video),
        "stride": 4,
        "width": 960,
        "height": 540,
        "frames": COUNT,
    }
    assert len(found) >= 5
    assert f"{out}: {COUNT} frames, {len(found)} faces followed, in " in result.stdout
    assert [each["id"] for each in found] == list(range(1, len(found) + 1))
    for each in found:
        places = [face["frame"] for face in each["faces"]]
        assert places == sorted(set(places))
        assert len(places) >= 3
        for face in each["faces"]:
            assert list(face) == ["frame", "time", "box", "probability", "landmarks"]
            assert face["time"] == pytest.approx(TIMES[face["frame"]], abs=1e-4)
            assert 0.5 < face["probability"] <= 1
            assert np.shape(face["landmarks"]) == (5, 2)
    marked = list(frames(out))
    assert [frame.time for frame in marked] == pytest.approx(TIMES, abs=1e-4)
    for frame, image in zip(marked, original, strict=True):
        change = np.abs(frame.image.astype(int) - image).max(axis=2) > 70
        for each in found:
            for face in each["faces"]:
                if face["frame"] == frame.index:
                    left, top, right, bottom = np.rint(face["box"]).astype(int)
                    above = change[top - 1 : top + 3, left:right].any(axis=0).mean()
                    beside = change[top:bottom, left - 1 : left + 3].any(axis=1).mean()
                    assert above + beside > 1.2  # a neighbour's tag may hide a part of one
        assert change.mean() < 0.03


@pytest.mark.parametrize(
    ("options", "searched"),
    [(["--stride", 1], [0, 1, 2, 3, 4]), ([], [0, 4]), (["--stride", 3], [0, 3, 4])],
)
def test_stride_says_which_frames_are_searched(
    blank: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: list[Any],
    searched: list[int],
) -> None:
    calls = []

    class Blind:
        backend, select_largest = "facenet-pytorch", True
        thresholds = (0.6, 0.7, 0.7)
        pnet = rnet = onet = None

        def detect(self, image: Any, landmarks: bool) -> tuple[None, list[None], None]:
            assert landmarks
            calls.append(image.shape)
            return None, [None], None

    monkeypatch.setattr(module, "build_detector", lambda *args: Blind())  # noqa: ARG005 # any
    result = track(blank, "--out", tmp_path / "x.mkv", "--max-side", 32, *options)
    assert result.exit_code == 0, result.output
    assert "5 frames, 0 faces followed" in result.stdout
    assert calls == [(24, 32, 3)] * len(searched)
    assert video_info(tmp_path / "x.mkv")[:3] == (32, 24, 10)
    assert [frame.time for frame in frames(tmp_path / "x.mkv")] == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4], abs=1e-3
    )


def test_options_reach_the_detector_and_the_tracks(
    blank: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = []

    class Flashing:
        """Sees a face in all frames but the third."""

        backend = "facenet-pytorch"
        seen = 0

        def detect(self, image: Any, landmarks: bool) -> tuple[Any, ...]:  # noqa: ARG002 # MTCNN's
            self.seen += 1
            if self.seen == 3:
                return None, [None], None
            return np.array([[5, 5, 20, 20]]), np.array([0.9]), np.full((1, 5, 2), 10)

    def build(*args: object) -> Flashing:
        built.append(args)
        return Flashing()

    monkeypatch.setattr(module, "build_detector", build)
    file = tmp_path / "x.json"
    numbers = {}
    for misses in (0, 1):
        options = ["--stride", 1, "--min-hits", 2, "--max-misses", misses, "--overwrite"]
        more = ["--weights", "nets", "--min-face-size", 33, "--device", "cuda:3"]
        result = track(blank, "--out", tmp_path / "x.mp4", "--json", file, *options, *more)
        assert result.exit_code == 0, result.output
        tracks = json.loads(file.read_text())["tracks"]
        numbers[misses] = {face["frame"]: each["id"] for each in tracks for face in each["faces"]}
    assert built == [(Path("nets"), 33, "cuda:3")] * 2
    assert numbers == {0: {0: 1, 1: 1, 3: 2, 4: 2}, 1: {0: 1, 1: 1, 3: 1, 4: 1}}


def test_faces_that_come_back_are_recognised(
    blank: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = []

    class Jumping:
        """Sees one face, which jumps."""

        backend = "facenet-pytorch"
        seen = 0

        def detect(self, image: Any, landmarks: bool) -> tuple[Any, ...]:  # noqa: ARG002 # MTCNN's
            self.seen += 1
            left = 5 if self.seen < 4 else 40
            return np.array([[left, 5, left + 15, 20]]), np.array([0.9]), np.full((1, 5, 2), 10)

    def build(*args: object) -> Any:
        built.append(args)
        # 0.8 alike, wherever the face is.
        return lambda image, boxes: np.array([[1, 0] if boxes[0, 0] < 20 else [0.8, 0.6]])  # noqa: ARG005 # follow's

    monkeypatch.setattr(module, "build_detector", lambda *args: Jumping())  # noqa: ARG005
    monkeypatch.setattr(module, "build_embedder", build)
    counts = []
    for more in ([], ["--recognise", "w.pt"], ["--recognise", "w.pt", "--min-similarity", 0.81]):
        options = ["--stride", 1, "--min-hits", 1, "--overwrite", *more]
        result = track(blank, "--out", tmp_path / "x.mp4", *options)
        assert result.exit_code == 0, result.output
        counts.append(int(result.stdout.split(" frames, ")[1].split()[0]))
    assert counts == [2, 1, 2]
    assert built == [("w.pt", "cpu")] * 2


def test_the_embedder_is_the_network_that_is_named(tmp_path: Path, built: Any) -> None:
    import torch

    torch.save(built.state_dict(), tmp_path / "w.pt")
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    boxes = np.array([[10, 20, 60, 80]], np.float32)
    got = module.build_embedder(str(tmp_path / "w.pt"), "cpu")(image, boxes)
    np.testing.assert_allclose(got, embedder(built)(image, boxes), atol=1e-6)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{blank}"], "Missing option '--out'"),
        (["--out", "{tmp}/x.mp4"], "Missing argument"),
        (["{tmp}/no.mp4", "--out", "{tmp}/x.mp4"], "no such file"),
        (["{tmp}/no.mp4", "--out", "{tmp}/x.mp4"], "check the path"),
        (["{blank}", "--out", "{tmp}/old.mp4"], "pass --overwrite"),
        (["{tmp}", "--out", "{tmp}/x.mp4"], "expected a video, got a folder"),
        (["{blank}", "--out", "{tmp}/x.gif"], ".mp4 or .mkv or .mov"),
        (["{blank}", "--out", "{tmp}/no/x.mp4"], "folder does not exist"),
        (["{blank}", "--out", "{tmp}/old.mp4"], "exists already"),
        (["{blank}", "--out", "{tmp}/x.mp4", "--json", "{tmp}/old.mp4"], "exists already"),
        (["{blank}", "--out", "{blank}", "--overwrite"], "must be different files"),
        (["{blank}", "--out", "{tmp}/x.mp4", "--stride", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(
    blank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.setattr(module, "build_detector", lambda *args: pytest.fail(f"built: {args}"))
    (tmp_path / "old.mp4").touch()
    before = blank.read_bytes()
    result = track(*(arg.format(blank=blank, tmp=tmp_path) for arg in args))
    assert result.exit_code == 2
    assert message in result.output
    assert blank.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blank.mp4", "old.mp4"]


@pytest.mark.parametrize("name", ["face.jpg", "face.png", "face.bmp", "face.webp", "face.tif"])
def test_a_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="the picture needs Pillow")
    monkeypatch.setattr(module, "build_detector", lambda *args: pytest.fail(f"built: {args}"))
    image_module.new("RGB", (64, 48)).save(tmp_path / name)
    result = track(tmp_path / name, "--out", tmp_path / "x.mp4")
    assert result.exit_code == 2
    assert "expected a video, got a picture" in result.stderr
    assert "facenet detect" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_one_frame_is_counted_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seeing:
        backend = "facenet-pytorch"

        def detect(self, image: Any, landmarks: bool) -> tuple[Any, ...]:  # noqa: ARG002 # MTCNN's
            return np.array([[5, 5, 20, 20]]), np.array([0.9]), np.full((1, 5, 2), 10)

    monkeypatch.setattr(module, "build_detector", lambda *args: Seeing())  # noqa: ARG005 # any
    write_video(tmp_path / "one.mp4", [np.zeros((48, 64, 3), np.uint8)])
    result = track(tmp_path / "one.mp4", "--out", tmp_path / "x.mp4", "--min-hits", 1)
    assert result.exit_code == 0, result.output
    assert ": 1 frame, 1 face followed, in " in result.stdout


def test_a_damaged_video_is_one_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "build_detector", lambda *args: pytest.fail(f"built: {args}"))
    (tmp_path / "text.mp4").write_bytes(b"hello " * 99)
    result = track(tmp_path / "text.mp4", "--out", tmp_path / "x.mp4")
    assert result.exit_code == 1
    problem = "expected a video; the file is of another kind, or damaged"
    assert result.stderr.startswith(f"Error: {problem}\n  file: ")
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_an_interrupted_run_leaves_nothing(
    blank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        backend = "facenet-pytorch"

        def detect(self, *args: object, **options: object) -> None:  # noqa: ARG002 # MTCNN's
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "build_detector", lambda *args: Interrupted())  # noqa: ARG005
    result = track(blank, "--out", tmp_path / "x.mp4", "--json", tmp_path / "x.json")
    assert result.exit_code == 130
    assert result.stderr.strip() == "Interrupted; no unfinished output was left behind"
    assert [path.name for path in tmp_path.iterdir()] == ["blank.mp4"]


@pytest.mark.parametrize("command", [module.command, detect_module.command])
def test_help_has_examples_and_exit_codes(command: Any) -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert f"facenet {command.name} " in result.output
    assert "Exit codes: 0 " in result.output


def test_progress_is_shown_on_terminals_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from facenet_common.progress import progress_bar

    def shown() -> Iterator[str]:
        for terminal in (False, True):
            monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
            with progress_bar("Frames", 2) as tick:
                tick()
                tick()
            yield capsys.readouterr().err

    nothing, bar = shown()
    assert nothing == ""
    assert "Frames" in bar
    assert "2/2" in bar
