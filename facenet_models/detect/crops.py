"""Cut faces out of images, and scale their values for the networks."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facenet_common.atomic import write_file
from facenet_common.errors import UsageError
from facenet_models.detect.images import is_batch, is_pil, to_rgb
from facenet_models.detect.inter_area import inter_area

AnyArray = TypeVar("AnyArray", np.ndarray, Tensor)


def fixed_image_standardization(image: AnyArray) -> AnyArray:
    """Return ``(image - 127.5) / 128``: values 0 to 255 become -1 to 1.

    The published networks take images that are scaled in this way.

    Examples:
        >>> fixed_image_standardization(np.array([0.0, 127.5, 255.0])).tolist()
        [-0.99609375, 0.0, 0.99609375]
    """
    return (image - 127.5) / 128.0


def prewhiten(image: AnyArray, *, unbiased: bool = False) -> AnyArray:
    """Subtract the mean of `image` and divide by its standard deviation, at least 1/sqrt(size).

    Args:
        image: An array or tensor of any shape.
        unbiased: Use the sample deviation (divisor n - 1), as facenet-pytorch does. The default
            is the population deviation (divisor n), as in the original ``facenet.prewhiten``. For
            a face of 160x160 the results differ by a factor of 1 - 7e-6.

    Examples:
        >>> prewhiten(np.array([1.0, 3.0])).tolist()
        [-1.0, 1.0]
    """
    correction = int(unbiased)
    size = math.prod(image.shape)
    if isinstance(image, Tensor):
        values = image if image.is_floating_point() else image.float()
        return (values - values.mean()) / values.std(correction=correction).clamp(min=size**-0.5)
    deviation = np.maximum(np.std(image, ddof=correction), size**-0.5)
    whitened: np.ndarray = (image - np.mean(image)) / deviation
    return whitened


def extract_face(
    img: Any,
    box: Any,
    image_size: int = 160,
    margin: int = 0,
    save_path: str | os.PathLike[str] | None = None,
) -> Tensor:
    """Cut the face in `box` out of an image and resample it to a square.

    Args:
        img: One image; see `facenet_models.detect.images`.
        box: Left, top, right, bottom in pixels. Parts outside the image are cut off.
        image_size: Edge of the square, in pixels.
        margin: Pixels of the result, both sides together, to add around the box.
        save_path: Write the face to this file too. Its suffix gives the format; missing folders
            are created.

    Returns:
        ``(3, image_size, image_size)`` float32, values 0 to 255.

    The resampling depends on the kind of `img`, as in facenet-pytorch: Pillow's bilinear for a PIL
    image, OpenCV's INTER_AREA for an array, torch's area for a tensor. facenet-pytorch returns a
    tensor's face as height x width x 3; here it is 3 x height x width too.

    Raises:
        UsageError: The box contains no pixel of the image, or the margin is as large as the face.
        OutputError: The file could not be written.

    Examples:
        >>> extract_face(np.zeros((100, 200, 3), np.uint8), [10, 10, 50, 60]).shape
        torch.Size([3, 160, 160])
    """
    if not 0 <= margin < image_size:
        raise UsageError(
            "margin must be smaller than image_size",
            expected=f"0 to {image_size - 1} pixels",
            found=margin,
        )
    rgb = to_rgb(img)
    pixels = _pixels(box, image_size, margin, rgb.shape[1], rgb.shape[0])
    face = _resize(img, rgb, pixels, image_size)
    if save_path is not None:
        save_face(face, Path(save_path))
    if isinstance(face, Tensor):
        return face.permute(2, 0, 1).float()
    return torch.from_numpy(face.transpose(2, 0, 1).astype(np.float32))


def _pixels(
    box: Any, image_size: int, margin: int, width: int, height: int
) -> tuple[int, int, int, int]:
    """Return `box` with its margin in whole pixels of the image, right and bottom exclusive."""
    # Computed in the box's own type: float32 and Python's floats can round to other pixels.
    left, top, right, bottom = box
    wider = margin * (right - left) / (image_size - margin)
    higher = margin * (bottom - top) / (image_size - margin)
    pixels = (
        int(max(left - wider / 2, 0)),
        int(max(top - higher / 2, 0)),
        int(min(right + wider / 2, width)),
        int(min(bottom + higher / 2, height)),
    )
    if pixels[2] <= pixels[0] or pixels[3] <= pixels[1]:
        raise UsageError(
            "the box contains no pixel of the image",
            expected=f"left < right and top < bottom within {width}x{height}",
            found=", ".join(f"{float(edge):g}" for edge in box),
        )
    return pixels


def _resize(
    img: Any, rgb: np.ndarray | Tensor, pixels: tuple[int, int, int, int], size: int
) -> np.ndarray | Tensor:
    """Resample the `pixels` of an image to ``(size, size, 3)`` uint8."""
    left, top, right, bottom = pixels
    part = rgb[top:bottom, left:right]
    if isinstance(part, Tensor):
        planes = part.permute(2, 0, 1)[None].float()
        area = F.interpolate(planes, size=(size, size), mode="area")
        return area.to(torch.uint8)[0].permute(1, 2, 0)
    if is_pil(img):
        from PIL import Image

        face = Image.fromarray(np.ascontiguousarray(part))
        return np.asarray(face.resize((size, size), Image.Resampling.BILINEAR))
    if part.dtype != np.uint8:
        part = np.rint(part).astype(np.uint8)
    return inter_area(part, size, size)


def save_face(face: np.ndarray | Tensor, path: Path) -> None:
    """Write ``(H, W, 3)`` uint8 as an image file; create missing folders.

    Raises:
        UsageError: Pillow has no image format for the path's suffix.
        OutputError: The file could not be written.
    """
    from PIL import Image

    array = face.cpu().numpy() if isinstance(face, Tensor) else face
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise UsageError(
            "unknown image format",
            file=path,
            expected="a suffix such as .png or .jpg",
        )
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(data, format=kind)
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data.getvalue())


def face_paths(img: Any, save_path: Any) -> list[Path | None]:
    """Return one path, or None, for each image of `MTCNN.forward`.

    Raises:
        UsageError: A batch has a single path, to which each face would be written in turn, or a
            list of another length.
    """
    if not is_batch(img):
        if isinstance(save_path, list | tuple) and len(save_path) == 1:
            save_path = save_path[0]
        return [None if save_path is None else Path(save_path)]
    if save_path is None:
        return [None] * len(img)
    if isinstance(save_path, str | os.PathLike) or len(save_path) != len(img):
        found = 1 if isinstance(save_path, str | os.PathLike) else len(save_path)
        raise UsageError(
            "a batch needs one save_path for each image, in a list",
            expected=f"{len(img)} paths",
            found=f"{found}: {save_path!r}" if found == 1 else found,
        )
    return [None if path is None else Path(path) for path in save_path]


def number_paths(paths: Sequence[Path | None], counts: Sequence[int]) -> list[list[Path | None]]:
    """Return the path of every face: ``name.png``, ``name_2.png``, … for each image's path.

    Args:
        paths: A path, or None, for each image.
        counts: The number of faces of each image.

    Raises:
        UsageError: Two faces would be written to one file.

    Examples:
        >>> number_paths([Path("a.png"), None], [2, 1])
        [[PosixPath('a.png'), PosixPath('a_2.png')], [None]]
    """
    rows: list[list[Path | None]] = []
    taken: set[Path] = set()
    for path, count in zip(paths, counts, strict=True):
        if path is None:
            rows.append([None] * count)
            continue
        names = [f"_{number}" if number > 1 else "" for number in range(1, count + 1)]
        row = [path.with_name(f"{path.stem}{name}{path.suffix}") for name in names]
        for target in row:
            if target.absolute() in taken:
                raise UsageError(
                    "two faces would be written to one file",
                    file=target,
                    next_step="pass paths that stay apart when _2, _3, … is added to their names",
                )
            taken.add(target.absolute())
        rows.append([*row])
    return rows
