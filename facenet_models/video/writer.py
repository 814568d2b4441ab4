"""Write videos frame by frame, through PyAV (the extra ``video``)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from facenet_common.atomic import check_target, discard, hidden
from facenet_common.errors import OutputError, UsageError
from facenet_models.video.reader import Frame, error_text, import_av

SUFFIXES = (".mp4", ".mkv", ".mov")
CODECS = ("libx264", "libopenh264", "mpeg4")  # in order of preference
TICKS = 90_000  # time stamps per second, as in MPEG: divisible by 24, 25, 30 and 29.97 frames


def write_video(
    path: str | Path,
    frames: Iterable[Frame | np.ndarray],
    fps: float | Fraction = 25,
    *,
    overwrite: bool = False,
) -> int:
    """Write `frames` as a video without sound, in H.264 if PyAV has an encoder for it.

    Args:
        path: NAME.mp4, .mkv or .mov. The file gets its name when it is complete; if writing is
            interrupted, no file remains.
        frames: `Frame`, shown at its `time` minus that of the first, or arrays ``(H, W, 3)`` uint8
            RGB, shown at the rate `fps`. All must have the same size. If a side is odd, its last
            row or column is repeated, because the codec needs even sides.
        fps: Frames per second.
        overwrite: Replace an existing file.

    Returns:
        The number of frames.

    Raises:
        UsageError: The name, the rate or a frame is not allowed, or there is no frame.
        OutputError: The file could not be written.
        MissingPackageError: PyAV is not installed.

    Examples:
        >>> write_video("grey.mp4", [np.full((48, 64, 3), 128, np.uint8)] * 50)  # doctest: +SKIP
        50
    """
    path = Path(path)
    check_video_target(path, overwrite=overwrite)
    if not 0 < fps <= 1000:
        raise UsageError("fps must be above 0 and at most 1000", found=fps)
    rate = Fraction(fps).limit_denominator(1001)
    ending = f".{secrets.token_hex(4)}.partial{path.suffix}"  # PyAV goes by the suffix
    partial = hidden(path.with_suffix(""), ending)
    try:
        count = _encode(partial, iter(frames), rate, path)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            "the video could not be written; nothing was left behind",
            file=path,
            found=error_text(error),
            next_step="check the folder and the space on the disk, and try again",
        ) from error
    finally:
        discard(partial)
    return count


def check_video_target(path: Path, *, overwrite: bool) -> None:
    """Check that a video can be written, before any work is done.

    Raises:
        UsageError: The suffix is unknown, the folder does not exist, or the file exists.
        MissingPackageError: PyAV is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError("unknown suffix for a video", file=path, expected=" or ".join(SUFFIXES))
    import_av()
    check_target(path, overwrite=overwrite)


def _encode(partial: Path, frames: Iterator[Any], rate: Fraction, path: Path) -> int:
    av = import_av()
    first = next(frames, None)
    if first is None:
        raise UsageError("there is no frame to write", file=path)
    shape = _pixels_of(first, None).shape
    options = {"movflags": "+faststart"} if path.suffix.lower() != ".mkv" else {}
    with av.open(str(partial), "w", options=options) as container:
        stream = _add_stream(container, rate, shape)
        origin = first.time if isinstance(first, Frame) else 0.0
        last = -1
        count = 0
        for item in chain([first], frames):
            seconds = item.time - origin if isinstance(item, Frame) else float(count / rate)
            stamp = max(round(seconds * TICKS), last + 1)  # time stamps must increase
            raw = av.VideoFrame.from_ndarray(_pad_to_even(_pixels_of(item, shape)), format="rgb24")
            raw = raw.reformat(format="yuv420p", dst_colorspace="ITU709")
            raw.pts, raw.time_base = stamp, Fraction(1, TICKS)
            container.mux(stream.encode(raw))
            last, count = stamp, count + 1
        container.mux(stream.encode(None))
    return count


def _add_stream(container: Any, rate: Fraction, shape: tuple[int, ...]) -> Any:
    """Add a stream for images of `shape`, with the colour tags of ITU-R BT.709."""
    av = import_av()
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


def _pixels_of(item: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Return the pixels of a frame; raise UsageError unless they are uint8 RGB of `shape`."""
    image = item.image if isinstance(item, Frame) else item
    good = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
    if not good or image.shape[2] != 3 or 0 in image.shape or shape not in (None, image.shape):
        found = (
            f"{image.dtype} {image.shape}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise UsageError(
            "expected a frame, got another object or shape",
            expected="uint8 (H, W, 3)" if shape is None else f"uint8 {shape}, as the first frame",
            found=found,
        )
    return image


def _pad_to_even(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)
