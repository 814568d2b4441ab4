"""Read videos frame by frame, through PyAV (the extra ``video``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facenet_common.errors import FacenetError, UsageError
from facenet_common.optional import require
from facenet_common.text import check_path

UNTAGGED = 2  # "unspecified" colour matrix, ITU-T H.273
HD = 720  # lines from which players take an image without a tag for ITU-R BT.709


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        index: Its number in the video, from 0.
        time: Its presentation time, in seconds.
        image: ``(H, W, 3)`` uint8 RGB, upright.
    """

    index: int
    time: float
    image: np.ndarray


class VideoInfo(NamedTuple):
    """Size, mean frame rate and number of frames of a video.

    `width` and `height` are in pixels, before rotation. `fps` and `frames` are None if the file
    does not declare them.
    """

    width: int
    height: int
    fps: Fraction | None
    frames: int | None


def video_info(path: str | Path) -> VideoInfo:
    """Read size, mean frame rate and number of frames of a video.

    Raises:
        UsageError: There is no such file, or it is a picture.
        FacenetError: The file is not a video, or has no video stream.
        MissingPackageError: PyAV is not installed.

    Examples:
        >>> video_info("street.mp4")  # doctest: +SKIP
        VideoInfo(width=1920, height=1080, fps=Fraction(25, 1), frames=105)
    """
    with _open_video(Path(path)) as (_, stream):
        return VideoInfo(stream.width, stream.height, stream.average_rate, stream.frames or None)


def frames(
    path: str | Path,
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
    max_side: int | None = None,
) -> Iterator[Frame]:
    """Read the frames `start`, `start` + `every`, … of the first video stream, before `stop`.

    Frames are decoded on demand, and none is kept. They are rotated by multiples of 90 degrees as
    the file requests. Times are those of the file, or computed from the mean rate if it has none.

    Args:
        path: Of the video.
        every: Yield every `every`-th frame.
        start: Number of the first frame.
        stop: Number of the frame before which to stop; None reads to the end.
        max_side: Shrink frames whose longer side has more pixels.

    Raises:
        UsageError: There is no such file, it is a picture, or a number is out of range.
        FacenetError: The file is not a video, has no video stream, or is damaged. Damage in the
            middle is reported after all frames before it.
        MissingPackageError: PyAV is not installed.

    Examples:
        >>> for frame in frames("street.mp4", every=25):  # doctest: +SKIP
        ...     print(frame.time, frame.image.shape)
    """
    if every < 1 or start < 0 or (max_side is not None and max_side < 1):
        raise UsageError("every and max_side must be at least 1, start at least 0")
    path = Path(path)
    import_av()
    _check_source(path)
    return _read_frames(path, every, start, stop, max_side)


def _read_frames(
    path: Path, every: int, start: int, stop: int | None, max_side: int | None
) -> Iterator[Frame]:
    with _open_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        for index, raw in enumerate(_decode(container, stream, path)):
            if stop is not None and index >= stop:
                return
            if index >= start and (index - start) % every == 0:
                yield Frame(index, _time_of(raw, index, stream), _to_upright_rgb(raw, max_side))


def _decode(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Decode all frames; raise FacenetError at damage or if the file ends too early."""
    av = import_av()
    count = 0
    try:
        for frame in container.decode(stream):
            yield frame
            count += 1
    except (av.error.FFmpegError, ValueError) as error:
        raise FacenetError(
            f"the video is damaged after {count} frames",
            file=path,
            found=error_text(error),
            next_step="convert the file again, or read fewer frames",
        ) from error
    if count == 0:
        raise FacenetError("the video has no frame", file=path, next_step="check the path")


def _time_of(raw: Any, index: int, stream: Any) -> float:
    if raw.time is not None:
        return float(raw.time)
    return index / float(stream.average_rate or 25)


def _to_upright_rgb(raw: Any, max_side: int | None) -> np.ndarray:
    """Convert a decoded frame to RGB, shrunk and rotated."""
    width, height = raw.width, raw.height
    longer = max(width, height)
    if max_side is not None and longer > max_side:
        width, height = (max(1, round(side * max_side / longer)) for side in (width, height))
    matrix = {} if raw.colorspace != UNTAGGED else {"src_colorspace": _guess_colorspace(raw.height)}
    picture = raw.to_ndarray(
        format="rgb24", width=width, height=height, interpolation="AREA", **matrix
    )
    quarters = round(raw.rotation / 90) % 4  # counter-clockwise, as in np.rot90
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters else picture


def _guess_colorspace(height: int) -> str:
    return "ITU709" if height >= HD else "ITU601"


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file, and yield it and its first video stream."""
    av = import_av()
    _check_source(path)
    try:
        # The path is absolute so that FFmpeg never takes a name for a protocol. The whitelist
        # forbids playlists to open addresses: https://ffmpeg.org/ffmpeg-protocols.html
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, ValueError) as error:
        raise FacenetError(
            "expected a video; the file is of another kind, or damaged",
            file=path,
            found=error_text(error),
            next_step="check the path, or convert the file again",
        ) from error
    with container:
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            raise UsageError(
                "expected a video, got a picture",
                file=path,
                next_step="facenet detect finds the faces in pictures",
            )
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
            raise FacenetError(
                "the file has no video stream",
                file=path,
                found=" and ".join(kinds),
                next_step="check the path",
            )
        yield container, container.streams.video[0]


def _check_source(path: Path) -> None:
    if path.is_dir():
        raise UsageError("expected a video, got a folder", file=path)
    if not path.exists():
        raise UsageError("no such file", file=path, next_step=check_path(path))


def error_text(error: Exception) -> str:
    """Return the reason of an error of PyAV or of the operating system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def import_av() -> Any:
    """Import PyAV; raise MissingPackageError if it is not installed."""
    return require("av", "reading and writing video")
