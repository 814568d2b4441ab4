"""Boxes, numbers, probabilities and landmarks drawn on a picture, by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from typing import TYPE_CHECKING, Any

import numpy as np

from facenet_common.errors import UsageError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

UNNUMBERED = (240, 228, 66)
GOLDEN = (5**0.5 - 1) / 2  # hues so far apart that any few numbers in a row look different

Area = tuple[float, float, float, float]  # left, top, right, bottom


def annotate(
    frame: Any,
    boxes: Any,
    ids: Sequence[int] | np.ndarray | None = None,
    probs: Any = None,
    landmarks: Any = None,
) -> np.ndarray:
    """A copy of `frame` on which faces are marked.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB, or a PIL image.
        boxes: ``(N, 4)``: left, top, right, bottom in pixels; may reach beyond the frame. None
            is none, here and below.
        ids: ``(N,)``: the face's number; picks the colour too.
        probs: ``(N,)``, written with two decimals, rounded.
        landmarks: ``(N, 5, 2)``: x and y.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        UsageError: another number of ids, probabilities or landmarks than of boxes.
    """
    from PIL import Image, ImageDraw

    picture = (
        frame.convert("RGB") if isinstance(frame, Image.Image) else Image.fromarray(frame)
    )  # a copy
    corners = np.asarray(() if boxes is None else boxes, float).reshape(-1, 4)
    count = len(corners)
    for name, values in (("ids", ids), ("probs", probs), ("landmarks", landmarks)):
        if values is not None and boxes is not None and len(values) != count:
            raise UsageError(f"{name} for each box", expected=count, found=len(values))
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
    """`box` within the picture, with left before right and top before bottom, as Pillow wants."""
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
    """Write `text` on a filled ground above the box, or where it hides less; see `_place`."""
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
    """Where a tag of `wide` x `high` pixels hides the least of other `tags`, then of `boxes`."""
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
    """Pixels that both cover."""
    wide = min(area[2], other[2]) - max(area[0], other[0])
    high = min(area[3], other[3]) - max(area[1], other[1])
    return max(wide, 0) * max(high, 0)


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = hsv_to_rgb(number * GOLDEN % 1, 0.75, 1)
    return round(red * 255), round(green * 255), round(blue * 255)


def _font(size: int) -> FreeTypeFont | ImageFont:
    """Pillow's own font, in any size from Pillow 10.1 on, if it was built with FreeType."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError):
        return ImageFont.load_default()
