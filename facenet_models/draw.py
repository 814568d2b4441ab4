"""Draw boxes, numbers, probabilities and landmarks on a picture, with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from typing import TYPE_CHECKING, Any

import numpy as np

from facenet_common.errors import UsageError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

UNNUMBERED = (240, 228, 66)  # RGB of a box without number
# Hues are multiples of the golden ratio, so consecutive numbers get colours that differ clearly.
GOLDEN = (5**0.5 - 1) / 2

Area = tuple[float, float, float, float]  # left, top, right, bottom


def annotate(
    frame: Any,
    boxes: Any,
    ids: Sequence[int] | np.ndarray | None = None,
    probs: Any = None,
    landmarks: Any = None,
) -> np.ndarray:
    """Draw faces on a copy of `frame`.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB, or a PIL image.
        boxes: ``(N, 4)``: left, top, right, bottom in pixels. Boxes may extend beyond the frame.
            None, here and below, draws nothing.
        ids: ``(N,)``: numbers of the faces, which select the colours too.
        probs: ``(N,)``: drawn with two decimals.
        landmarks: ``(N, 5, 2)``: x and y in pixels.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        UsageError: The number of ids, probabilities or landmarks differs from that of boxes.

    Examples:
        >>> annotate(np.zeros((60, 80, 3), np.uint8), [[10, 10, 40, 50]], ids=[1]).shape
        (60, 80, 3)
    """
    from PIL import Image, ImageDraw

    picture = (
        frame.convert("RGB") if isinstance(frame, Image.Image) else Image.fromarray(frame)
    )  # a copy
    corners = np.asarray(() if boxes is None else boxes, float).reshape(-1, 4)
    count = len(corners)
    for name, values in (("ids", ids), ("probs", probs), ("landmarks", landmarks)):
        if values is not None and boxes is not None and len(values) != count:
            raise UsageError(
                f"the numbers of {name} and boxes differ",
                expected=f"{count}, one for each box",
                found=len(values),
            )
    draw = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 640))
    font = _font(max(11, round(max(picture.size) / 80)))
    largest_first = np.argsort(-np.prod(corners[:, 2:] - corners[:, :2], axis=1), kind="stable")
    colours = [UNNUMBERED if ids is None else _colour(int(ids[row])) for row in range(count)]
    outlines = [_outline(box, picture.size) for box in corners.tolist()]
    for row in largest_first:
        draw.rectangle(outlines[row], outline=colours[row], width=width)
        if landmarks is not None:
            _dots(draw, np.asarray(landmarks[row], float), width, colours[row])
    tags: list[Area] = []
    for row in largest_first:
        text = _label(ids, probs, int(row))
        if text:
            tags.append(_tag(draw, text, outlines[row], font, colours[row], tags, outlines))
    return np.array(picture)


def _outline(box: list[float], size: tuple[int, int]) -> Area:
    """Clip `box` to the picture, and order its edges, as Pillow requires."""
    left, right = sorted(min(max(x, 0), size[0] - 1) for x in box[::2])
    top, bottom = sorted(min(max(y, 0), size[1] - 1) for y in box[1::2])
    return left, top, right, bottom


def _label(ids: Any, probs: Any, row: int) -> str:
    parts = []
    if ids is not None:
        parts.append(f"#{int(ids[row])}")
    if probs is not None:
        parts.append(f"{float(probs[row]):.2f}")
    return " ".join(parts)


def _dots(draw: ImageDraw, points: np.ndarray, radius: int, colour: tuple[int, ...]) -> None:
    for x, y in points:
        spot = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(spot, fill=colour, outline=(0, 0, 0))


def _tag(
    draw: ImageDraw,
    text: str,
    box: Area,
    font: FreeTypeFont | ImageFont,
    colour: tuple[int, ...],
    tags: list[Area],
    boxes: list[Area],
) -> Area:
    """Draw `text` on a filled background near the box (see `_place`), and return its area."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(2, round((bottom - top) / 5))
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    area = _place(box, wide, high, draw.im.size, tags, boxes)
    draw.rectangle(area, fill=colour)
    bright = np.dot(colour, (0.299, 0.587, 0.114)) > 110
    ink = (0,) * 3 if bright else (255,) * 3
    draw.text((area[0] + pad - left, area[1] + pad - top), text, font=font, fill=ink)
    return area


def _place(
    box: Area, wide: float, high: float, size: tuple[int, int], tags: list[Area], boxes: Any
) -> Area:
    """Find the place near `box` where a tag covers least of the other `tags`, then of `boxes`."""
    left, top, right, bottom = box
    corners = [(left, top - high), (left, bottom), (left - wide, top), (right, top), (left, top)]
    areas = []
    for x, y in corners:
        x, y = min(max(x, 0), max(size[0] - wide, 0)), min(max(y, 0), max(size[1] - high, 0))
        areas.append((x, y, x + wide, y + high))
    return min(
        areas,
        key=lambda area: (
            sum(_shared(area, tag) for tag in tags),
            sum(_shared(area, other) for other in boxes),
        ),
    )


def _shared(area: Area, other: Area) -> float:
    """Return the area that both cover, in pixels."""
    wide = min(area[2], other[2]) - max(area[0], other[0])
    high = min(area[3], other[3]) - max(area[1], other[1])
    return max(wide, 0) * max(high, 0)


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = hsv_to_rgb(number * GOLDEN % 1, 0.75, 1)
    return round(red * 255), round(green * 255), round(blue * 255)


def _font(size: int) -> FreeTypeFont | ImageFont:
    """Return Pillow's default font; `size` needs Pillow 10.1 and FreeType, else it is ignored."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError):
        return ImageFont.load_default()
