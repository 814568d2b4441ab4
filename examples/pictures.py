"""Drawings that several notebooks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt


def show(
    images: Sequence[Any],
    titles: Sequence[str] | None = None,
    columns: int = 4,
    size: float = 2.2,
    suptitle: str = "",
) -> None:
    """Draw `images` (Pillow's, or arrays ``(H, W, 3)``) in a grid, `size` inches each."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    shapes = [np.shape(image) for image in images]
    tall = max(shape[0] / shape[1] for shape in shapes)
    high = rows * (size * tall + 0.35 * bool(titles)) + 0.4 * bool(suptitle)
    figure, grid = plt.subplots(
        rows, columns, figsize=(columns * size, high), squeeze=False, layout="constrained"
    )
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles or [""] * len(images), strict=False):
        axes.imshow(image)
        axes.set_title(title, fontsize=9)
    figure.suptitle(suptitle, fontsize=11)
    plt.show()


def as_picture(face: Any) -> np.ndarray:
    """Return MTCNN's standardised face ``(3, H, W)`` as ``(H, W, 3)`` uint8."""
    values = face.permute(1, 2, 0).numpy() * 128 + 127.5
    return values.round().clip(0, 255).astype(np.uint8)


def matrix(values: np.ndarray, names: Sequence[str], label: str, title: str) -> None:
    """Draw a square matrix with its values written in, named on both sides."""
    count = len(names)
    figure, axes = plt.subplots(
        figsize=(2.4 + 0.62 * count, 1.6 + 0.55 * count), layout="constrained"
    )
    drawn = axes.imshow(values, cmap="viridis_r")
    middle = (values.max() + values.min()) / 2
    for row, column in np.ndindex(values.shape):
        ink = "white" if values[row, column] > middle else "black"
        text = f"{values[row, column]:.2g}" if row != column else "0"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(count), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0, labelsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.8)
    plt.show()
