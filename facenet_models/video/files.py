"""Videos in and out, frame by frame, through PyAV (the extra ``video``)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facenet_common.atomic import check_target
from facenet_common.errors import FacenetError, OutputError, UsageError
from facenet_common.optional import require
from facenet_common.text import check_path

SUFFIXES = (".mp4", ".mkv", ".mov")  # that are written
CODECS = ("libx264", "libopenh264", "mpeg4")  # the first that is there
TICKS = 90_000  # time stamps a second, as MPEG has them: whole for 24, 25, 30 and 29.97 frames
UNTAGGED = 2  # number of no particular colour matrix, ITU-T H.273
HD = 720  # lines from which an image without a tag is taken for ITU-R BT.709, as players do


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        index: Its place in the video, from 0.
        time: When it is shown, in seconds.
        image: ``(H, W, 3)`` uint8 RGB, upright.
    """

    index: int
    time: float
    image: np.ndarray


class VideoInfo(NamedTuple):
    """What a file says of its video. `frames` and `fps` are None where it doesn't."""

    width: int
    height: int
    fps: Fraction | None
    frames: int | None


def video_info(path: str | Path) -> VideoInfo:
    """Size (before it is turned upright), mean frame rate and number of frames of a video.

    Raises:
        UsageError: there is no such file, or it is a picture.
        FacenetError: it is no video, or holds none.
        ImportError: PyAV is not installed; the message says how to install it.
    """
    with _opened(Path(path)) as (_, stream):
        return VideoInfo(stream.width, stream.height, stream.average_rate, stream.frames or None)


def frames(
    path: str | Path,
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
    max_side: int | None = None,
) -> Iterator[Frame]:
    """The frames `start`, `start` + `every`, … of the first video in a file, before `stop`.

    Args:
        max_side: Shrink frames whose longer side has more pixels.

    Frames are decoded when they are asked for, and none is kept. They are turned as the file
    asks for, by quarters. Times are the file's own, whatever its rate; without them they follow
    from the mean rate.

    Raises:
        UsageError: there is no such file, or it is a picture; or a number makes no sense.
        FacenetError: it is no video, holds none, or is damaged, which may show only at the frame
            where it is; all frames before that are given.
        ImportError: PyAV is not installed; the message says how to install it.
    """
    if every < 1 or start < 0 or (max_side is not None and max_side < 1):
        raise UsageError("every and max_side must be at least 1, start at least 0")
    path = Path(path)
    _av()
    _check_source(path)
    return _frames(path, every, start, stop, max_side)


def _frames(
    path: Path, every: int, start: int, stop: int | None, max_side: int | None
) -> Iterator[Frame]:
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        for index, raw in enumerate(_decoded(container, stream, path)):
            if stop is not None and index >= stop:
                return
            if index >= start and (index - start) % every == 0:
                yield Frame(index, _time(raw, index, stream), _upright(raw, max_side))


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """All frames. FacenetError if a part can't be decoded, or the file ends too early."""
    av = _av()
    count = 0
    try:
        for frame in container.decode(stream):
            yield frame
            count += 1
    except (av.error.FFmpegError, ValueError) as error:
        raise FacenetError(
            f"the video is damaged after {count} frames",
            file=path,
            found=_why(error),
            next_step="convert the file anew, or read fewer frames",
        ) from error
    if count == 0:
        raise FacenetError("the video has no frame", file=path, next_step="check the path")


def _time(raw: Any, index: int, stream: Any) -> float:
    if raw.time is not None:
        return float(raw.time)
    return index / float(stream.average_rate or 25)


def _upright(raw: Any, max_side: int | None) -> np.ndarray:
    """The picture as RGB, shrunk and turned."""
    width, height = raw.width, raw.height
    longer = max(width, height)
    if max_side is not None and longer > max_side:
        width, height = (max(1, round(side * max_side / longer)) for side in (width, height))
    matrix = {} if raw.colorspace != UNTAGGED else {"src_colorspace": _untagged(raw.height)}
    picture = raw.to_ndarray(
        format="rgb24", width=width, height=height, interpolation="AREA", **matrix
    )
    quarters = round(raw.rotation / 90) % 4  # counter-clockwise, as np.rot90 has it
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters else picture


def _untagged(height: int) -> str:
    return "ITU709" if height >= HD else "ITU601"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The open file and its first video stream."""
    av = _av()
    _check_source(path)
    try:
        # Absolute: no name is taken for a protocol. And a playlist may name no other place.
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, ValueError) as error:
        raise FacenetError(
            "the file is no video, or is damaged",
            file=path,
            found=_why(error),
            next_step="check the path, or convert the file anew",
        ) from error
    with container:
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            raise UsageError(
                "this is a picture, not a video",
                file=path,
                next_step="facenet detect finds the faces in pictures",
            )
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
            raise FacenetError(
                "the file holds no video",
                file=path,
                found=" and ".join(kinds),
                next_step="check the path",
            )
        yield container, container.streams.video[0]


def _check_source(path: Path) -> None:
    if path.is_dir():
        raise UsageError("a folder is no video", file=path, expected="a file")
    if not path.exists():
        raise UsageError("no such file", file=path, next_step=check_path(path))


def write_video(
    path: str | Path,
    frames: Iterable[Frame | np.ndarray],
    fps: float | Fraction = 25,
    *,
    overwrite: bool = False,
) -> int:
    """Write `frames` as a video without sound (H.264 where PyAV has it) and count them.

    Args:
        path: NAME.mp4, .mkv or .mov. The file appears under its name when it is complete; if
            anything interrupts, nothing is left.
        frames: `Frame`, shown at its `time`, counted from the first one's, or arrays ``(H, W, 3)``
            uint8 RGB, shown `fps` a second. All of one size. A side of an odd number of pixels
            gets one more, for the codec: the edge's, again.

    Raises:
        UsageError: a name, a rate or a frame that can't be written, or no frame.
        OutputError: the file could not be written.
        ImportError: PyAV is not installed; the message says how to install it.
    """
    path = Path(path)
    check_video_target(path, overwrite=overwrite)
    if not 0 < fps <= 1000:
        raise UsageError("fps", expected="more than 0, at most 1000", found=fps)
    rate = Fraction(fps).limit_denominator(1001)
    partial = path.absolute().with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        count = _encode(partial, iter(frames), rate, path)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            "the video could not be written; nothing was left behind",
            file=path,
            found=_why(error),
            next_step="check the folder and the space on the disk, and try again",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def check_video_target(path: Path, *, overwrite: bool) -> None:
    """Find out before any work whether a video can be written.

    Raises:
        UsageError: another ending, no such folder, or the file exists.
        ImportError: PyAV is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            "the video's ending does not say its format", file=path, expected=" or ".join(SUFFIXES)
        )
    _av()
    check_target(path, overwrite=overwrite)


def _encode(partial: Path, frames: Iterator[Any], rate: Fraction, path: Path) -> int:
    av = _av()
    first = next(frames, None)
    if first is None:
        raise UsageError("there is no frame to write", file=path)
    shape = _picture(first, None).shape
    options = {"movflags": "+faststart"} if path.suffix.lower() != ".mkv" else {}
    with av.open(str(partial), "w", options=options) as container:
        stream = _stream(container, rate, shape)
        origin = first.time if isinstance(first, Frame) else 0.0
        last = -1
        count = 0
        for item in chain([first], frames):
            seconds = item.time - origin if isinstance(item, Frame) else float(count / rate)
            stamp = max(round(seconds * TICKS), last + 1)  # has to grow
            raw = av.VideoFrame.from_ndarray(_even(_picture(item, shape)), format="rgb24")
            raw = raw.reformat(format="yuv420p", dst_colorspace="ITU709")
            raw.pts, raw.time_base = stamp, Fraction(1, TICKS)
            container.mux(stream.encode(raw))
            last, count = stamp, count + 1
        container.mux(stream.encode(None))
    return count


def _stream(container: Any, rate: Fraction, shape: tuple[int, ...]) -> Any:
    """A stream for pictures of `shape`, which says that its colours are ITU-R BT.709's."""
    av = _av()
    codec = next(name for name in CODECS if name in av.codecs_available)
    stream = container.add_stream(codec, rate=rate)
    stream.width, stream.height = shape[1] + shape[1] % 2, shape[0] + shape[0] % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, TICKS)
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
    context.color_range = 1  # 16 to 235
    if codec == "libx264":
        stream.options = {"crf": "20", "preset": "veryfast"}
    else:
        stream.bit_rate = 4 * shape[0] * shape[1]
    return stream


def _picture(item: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """The pixels of a frame; UsageError unless they are RGB bytes of `shape`."""
    image = item.image if isinstance(item, Frame) else item
    good = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
    if not good or image.shape[2] != 3 or 0 in image.shape or shape not in (None, image.shape):
        found = (
            f"{image.dtype} {image.shape}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise UsageError(
            "this is no frame of the video",
            expected="uint8 (H, W, 3)" if shape is None else f"uint8 {shape}, as the first",
            found=found,
        )
    return image


def _even(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _av() -> Any:
    return require("av", "reading and writing video")
