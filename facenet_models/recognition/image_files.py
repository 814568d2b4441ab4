"""Find images in a folder, and read them; an unreadable image is a miss, not an error."""

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
    """Find the images in `folder` and its subfolders.

    Hidden files and folders are left out. Links are followed, but a loop of links is entered
    once only.

    Returns:
        Name to path, sorted by name. A name is the path in `folder`, with ``/``.

    Raises:
        UsageError: There is no such folder, or no image in it.

    Examples:
        >>> list(find_images("people"))  # doctest: +SKIP
        ['Ann/1.jpg', 'Bob/1.jpg']
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
    if here in above:  # a link to a folder above
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, above | {here})
        elif path.suffix.lower() in SUFFIXES:
            yield path


def read_image(source: Source, name: str) -> Image | Miss:
    """Read an image as RGB, and turn it upright by its EXIF data.

    Args:
        source: A path, a PIL image, or an array ``(H, W, 3)`` or ``(H, W)`` uint8.
        name: Of the image in messages and in the `Miss`.

    Returns:
        The image, or a `Miss` with the reason if it can't be read.

    Raises:
        UsageError: An array has another shape or dtype.
    """
    from PIL import Image, ImageOps

    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.shape[2:] not in ((3,), ()) or source.ndim < 2:
            raise UsageError(
                f"expected an image, got the array {name}",
                expected="uint8, (height, width, 3) or (height, width)",
                found=f"{source.dtype}, {source.shape}",
            )
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, Image.Image):
        return source.convert("RGB")
    try:
        with Image.open(source) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except MemoryError:  # the file may be good
        raise
    except Exception as error:  # Pillow's decoders raise errors of many types
        return Miss(name, f"unreadable: {_why(error)}")


def _to_rgb(image: Image) -> Image:
    """Convert to RGB with 8 bits.

    Of 16 bits the upper 8 are kept. Pillow's convert() would make all values above 255 white:
    https://github.com/python-pillow/Pillow/issues/3011
    """
    from PIL import Image as PillowImage

    if image.mode.startswith("I;16"):
        return PillowImage.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels have 32 bits (mode {image.mode})")
    return image.convert("RGB")


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image"
    return str(error) or type(error).__name__
