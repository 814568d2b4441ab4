"""Videos: the frames come back as they were written; other files are one clear error."""

from __future__ import annotations

import socket
import sys
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from facenet_common.errors import FacenetError, UsageError
from facenet_models.video import Frame, frames, video_info, write_video

av = pytest.importorskip("av")

COUNT = 10
SIZE = (48, 64)  # rows, columns


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Red on the left, green on the right, blue below; `number` makes it brighter."""
    image = np.zeros((*size, 3), np.uint8)
    middle, lower = size[1] // 2, size[0] * 2 // 3
    image[:, :middle, 0] = 120 + 10 * number
    image[:, middle:, 1] = 120 + 10 * number
    image[lower:] = (0, 0, 120 + 10 * number)
    return image


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    assert write_video(path, map(picture, range(COUNT)), 10) == COUNT
    return path


def assert_alike(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for what compression does, which is at its worst where colours meet."""
    assert got.shape == expected.shape
    assert got.dtype == np.uint8
    assert np.median(np.abs(got.astype(int) - expected)) <= 4
    assert np.mean(np.abs(got.astype(int) - expected)) <= 12


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".MP4"])
@pytest.mark.parametrize("size", [SIZE, (37, 51), (720, 64)])
def test_frames_come_back(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"a{suffix}"
    images = [picture(number, size) for number in range(4)]
    assert write_video(path, images, 25) == 4
    got = list(frames(path))
    assert [frame.index for frame in got] == [0, 1, 2, 3]
    assert [frame.time for frame in got] == pytest.approx([0, 0.04, 0.08, 0.12], abs=0.001)
    for frame, image in zip(got, images, strict=True):
        grown = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
        assert_alike(frame.image, grown)
        for edge in (np.s_[-1], np.s_[:, -1]):
            assert np.abs(frame.image[edge].astype(int) - grown[edge]).mean() <= 12
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_info_says_what_the_file_says(video: Path) -> None:
    assert video_info(video) == (SIZE[1], SIZE[0], Fraction(10), COUNT)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(COUNT)),
        ({"every": 3}, [0, 3, 6, 9]),
        ({"every": 4, "start": 1}, [1, 5, 9]),
        ({"start": 2, "stop": 5}, [2, 3, 4]),
        ({"every": 2, "start": 1, "stop": 5}, [1, 3]),
        ({"start": COUNT}, []),
        ({"stop": 0}, []),
    ],
)
def test_frames_are_chosen_by_their_place(
    video: Path, options: dict[str, int], expected: list[int]
) -> None:
    got = list(frames(video, **options))
    assert [frame.index for frame in got] == list(expected)
    for frame in got:
        assert frame.time == pytest.approx(frame.index / 10, abs=0.001)
        assert_alike(frame.image, picture(frame.index))


def test_frames_are_shrunk_to_the_longer_side(video: Path) -> None:
    (frame,) = frames(video, stop=1, max_side=32)
    assert_alike(frame.image, picture(0, (24, 32)))
    (frame,) = frames(video, stop=1, max_side=1000)
    assert frame.image.shape == (*SIZE, 3)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), 24, 7.5])
def test_rates_are_kept(tmp_path: Path, rate: float) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, map(picture, range(6)), rate)
    assert [frame.time for frame in frames(path)] == pytest.approx(
        [number / float(rate) for number in range(6)], abs=1e-4
    )


def test_frames_keep_their_own_times(tmp_path: Path) -> None:
    times = [3.0, 3.5, 3.52, 4.25]  # of any rate; the first one's is where the video starts
    path = tmp_path / "a.mp4"
    write_video(path, (Frame(i, time, picture(i)) for i, time in enumerate(times)), 25)
    got = list(frames(path))
    assert [frame.time for frame in got] == pytest.approx([0, 0.5, 0.52, 1.25], abs=1e-4)
    for frame in got:
        assert_alike(frame.image, picture(frame.index))


@pytest.mark.parametrize(
    ("matrix", "quarters"),  # of the picture, as players show it; ISO/IEC 14496-12, 8.3.2
    [((0, 1, -1, 0), -1), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2), ((1, 0, 0, 1), 0)],
)
def test_pictures_are_turned_upright(
    video: Path, tmp_path: Path, matrix: tuple[int, ...], quarters: int
) -> None:
    data = bytearray(video.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 1, 3, 4), matrix, strict=True):
        data[start + 4 * place : start + 4 * place + 4] = (value << 16).to_bytes(
            4, "big", signed=True
        )
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    (frame,) = frames(turned, stop=1)
    assert_alike(frame.image, np.rot90(picture(0), quarters))


@pytest.mark.parametrize(("rows", "tag"), [(64, 5), (64, 1), (64, 2), (720, 5), (720, 1), (720, 2)])
def test_colours_follow_the_tag_and_else_the_size(tmp_path: Path, rows: int, tag: int) -> None:
    matrix = {5: "ITU601", 1: "ITU709", 2: "ITU709" if rows >= 720 else "ITU601"}[tag]
    image = np.zeros((rows, 64, 3), np.uint8) + np.array([30, 180, 60], np.uint8)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4" if tag == 2 else "libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, rows, "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.colorspace = tag
        raw = av.VideoFrame.from_ndarray(image, format="rgb24")
        container.mux(stream.encode(raw.reformat(format="yuv420p", dst_colorspace=matrix)))
        container.mux(stream.encode(None))
    (frame,) = frames(path)
    assert np.abs(frame.image.mean((0, 1)) - (30, 180, 60)).max() < 4


def foreign(folder: Path, kind: str, video: Path) -> Path:
    path = folder / f"{kind}.mp4"
    data = video.read_bytes()
    if kind == "sound":
        with wave.open(str(path), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(1600))
    elif kind == "hollow":
        with av.open(str(path), "w", format="avi") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()
    elif kind == "folder":
        path.mkdir()
    elif kind != "absent":
        contents = {"empty": b"", "text": b"hello " * 500, "stump": data[:200]}
        path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("empty", FacenetError, "expected a video; the file is of another kind"),
        ("text", FacenetError, "expected a video; the file is of another kind"),
        ("stump", FacenetError, "expected a video|no video stream"),
        ("sound", FacenetError, r"has no video stream(?s:.*)found: +audio"),
        ("absent", UsageError, "no such file"),
        ("folder", UsageError, "expected a video, got a folder"),
    ],
)
def test_other_files_than_videos_are_one_clear_error(
    video: Path, tmp_path: Path, kind: str, error: type[FacenetError], message: str
) -> None:
    path = foreign(tmp_path, kind, video)
    for attempt in (lambda: list(frames(path)), lambda: video_info(path)):
        with pytest.raises(error, match=message) as raised:
            attempt()
        assert type(raised.value) is error
        assert path.name in str(raised.value)


def test_a_video_without_a_frame_is_an_error(video: Path, tmp_path: Path) -> None:
    path = foreign(tmp_path, "hollow", video)
    with pytest.raises(FacenetError, match=r"has no frame(?s:.*)hollow.mp4"):
        list(frames(path))


def test_a_file_cannot_send_us_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
        path.write_text(f"{head}#EXTINF:1.0,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(FacenetError, match="expected a video"):
            list(frames(path))
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_damaged_part_is_reported_after_the_frames_before_it(
    reference_dir: Path, tmp_path: Path
) -> None:
    data = bytearray((reference_dir / "video" / "video.mp4").read_bytes())
    middle = len(data) // 4
    data[middle : middle + 30_000] = bytes(30_000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    got: list[int] = []
    with pytest.raises(FacenetError, match=r"damaged after \d+ frames(?s:.*)damaged.mp4"):
        got.extend(frame.index for frame in frames(path, max_side=64))
    assert got == list(range(len(got)))
    assert 1 <= len(got) < 60


def test_a_video_that_ends_too_early_is_damaged(video: Path, tmp_path: Path) -> None:
    data = video.read_bytes()  # its index comes first
    assert data.index(b"moov") < data.index(b"mdat")
    path = tmp_path / "short.mp4"
    path.write_bytes(data[: len(data) - 600])
    with pytest.raises(FacenetError, match="damaged"):
        list(frames(path))


@pytest.mark.parametrize("options", [{"every": 0}, {"start": -1}, {"max_side": 0}])
def test_nonsense_is_refused_at_once(video: Path, options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        frames(video, **options)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit])
def test_nothing_is_left_of_an_interrupted_video(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def some() -> Iterator[np.ndarray]:
        for _ in range(20):
            yield from map(picture, range(5))
        assert len(list(tmp_path.iterdir())) == 1  # it is being written
        raise error

    with pytest.raises(error):
        write_video(tmp_path / "a.mp4", some())
    assert not list(tmp_path.iterdir())


def test_an_interrupted_video_leaves_the_old_one(video: Path) -> None:
    before = video.read_bytes()

    def some() -> Iterator[np.ndarray]:
        yield picture(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(video, some(), overwrite=True)
    assert video.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "pictures", "fps", "message"),
    [
        ("a.gif", [picture(0)], 25, r"\.mp4 or \.mkv or \.mov"),
        ("no/a.mp4", [picture(0)], 25, "folder does not exist"),
        ("video.mp4", [picture(0)], 25, "exists already"),
        ("a.mp4", [], 25, "no frame to write"),
        ("a.mp4", [picture(0)], 0, "fps"),
        ("a.mp4", [picture(0)], float("nan"), "fps"),
        ("a.mp4", [picture(0), picture(0, (40, 40))], 25, r"\(48, 64, 3\), as the first frame"),
        ("a.mp4", [picture(0).astype(float)], 25, r"float64 \(48, 64, 3\)"),
        ("a.mp4", [picture(0)[..., 0]], 25, r"uint8 \(48, 64\)"),
        ("a.mp4", ["picture.png"], 25, "found: +str"),
    ],
)
def test_wrong_names_rates_and_frames_are_refused(
    video: Path, name: str, pictures: list[np.ndarray], fps: float, message: str
) -> None:
    before = video.read_bytes()
    with pytest.raises(UsageError, match=message):
        write_video(video.parent / name, pictures, fps)
    assert [path.name for path in video.parent.iterdir()] == ["video.mp4"]
    assert video.read_bytes() == before


def test_without_pyav_the_message_names_the_extra(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    message = r'(?s)needs av, which is not installed.*pip install "facenet-parity\[video\]"'
    with pytest.raises(ImportError, match=message):
        frames(video)
    with pytest.raises(ImportError, match=message):
        write_video(video.with_name("b.mp4"), [picture(0)])


def test_real_frames(reference_dir: Path) -> None:
    path = reference_dir / "video" / "video.mp4"
    assert video_info(path) == (1920, 1080, 25, 105)
    got = list(frames(path, every=40, max_side=192))
    assert [(frame.index, round(frame.time, 6)) for frame in got] == [(0, 0), (40, 1.6), (80, 3.2)]
    assert all(frame.image.shape == (108, 192, 3) for frame in got)
