"""Find images in a folder, and read them; what can't be read is a miss, not an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Union

import numpy as np

from facenet_common.errors import UsageError
from facenet_common.text import check_path
from facenet_models.recognition.embeddings import Miss

if TYPE_CHECKING:
    from PIL.Image import Image

Source = Union[str, Path, "Image", np.ndarray]
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def find_images(folder: str | Path) -> dict[str, Path]:
    """The images in `folder` and in the folders in it: name to path, sorted by name.

    A name is the path in `folder`, with ``/``. Hidden files and folders are left out. Links are
    followed, but not in circles.

    Raises:
        UsageError: no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError("no such folder", file=folder, next_step=check_path(folder))
    found = {path.relative_to(folder).as_posix(): path for path in _walk(folder, frozenset())}
    if not found:
        raise UsageError(
            "no image in the folder or below it",
            file=folder,
            expected="files that end in " + ", ".join(sorted(SUFFIXES)),
        )
    return dict(sorted(found.items()))


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that we are in
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, above | {here})
        elif path.suffix.lower() in SUFFIXES:
            yield path


def read_image(source: Source, name: str) -> Image | Miss:
    """An RGB image, turned upright as its EXIF data asks, or why it can't be read.

    Raises:
        UsageError: an array that is not ``(H, W, 3)`` or ``(H, W)`` uint8.
    """
    from PIL import Image, ImageOps

    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.shape[2:] not in ((3,), ()) or source.ndim < 2:
            raise UsageError(
                f"can't take the array {name} for an image",
                expected="uint8, (height, width, 3) or (height, width)",
                found=f"{source.dtype}, {source.shape}",
            )
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, Image.Image):
        return source.convert("RGB")
    try:
        with Image.open(source) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        return Miss(name, f"unreadable: {_why(error)}")


def _to_rgb(image: Image) -> Image:
    """RGB, 8 bits. Of 16 bits the upper 8 are kept, where Pillow makes all above 255 white."""
    from PIL import Image as PillowImage

    if image.mode.startswith("I;16"):
        return PillowImage.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode})")
    return image.convert("RGB")


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image"
    return str(error) or type(error).__name__
