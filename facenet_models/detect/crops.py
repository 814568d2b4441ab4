"""Faces cut out of images, and how their values are scaled for the networks."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facenet_common.atomic import write_file
from facenet_common.errors import UsageError
from facenet_models.detect.images import is_pil, to_rgb
from facenet_models.detect.inter_area import inter_area

AnyArray = TypeVar("AnyArray", np.ndarray, Tensor)


def fixed_image_standardization(image: AnyArray) -> AnyArray:
    """``(image - 127.5) / 128``: 0 to 255 becomes -1 to 1, as the published networks take it."""
    return (image - 127.5) / 128.0


def prewhiten(image: AnyArray, *, unbiased: bool = False) -> AnyArray:
    """`image` less its mean, divided by its standard deviation, which is at least 1/sqrt(size).

    By default the population deviation (divisor n), like the original ``facenet.prewhiten``.
    ``unbiased=True`` takes the sample deviation (divisor n - 1), like facenet-pytorch's; for a
    face of 160x160 the results differ by a factor of 1 - 7e-6.
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
    """The face in `box` as ``(3, image_size, image_size)`` float32 with values 0 to 255.

    Args:
        img: One image; see `facenet_models.detect.images`.
        box: Left, top, right, bottom in pixels; the parts outside the image are left out.
        margin: Pixels of the result, both sides together, to add around the box.
        save_path: Where to write the face; its suffix gives the format, missing folders are made.

    The resampling depends on the kind of `img`, as in facenet-pytorch: Pillow's bilinear for a PIL
    image, OpenCV's INTER_AREA for an array, torch's area for a tensor. facenet-pytorch returns a
    tensor's face as height x width x 3; here it is 3 x height x width too.

    Raises:
        UsageError: The box holds no pixel of the image, or the margin leaves no face.
        OutputError: The file could not be written.
    """
    if not 0 <= margin < image_size:
        raise UsageError(
            "the margin must leave a face", expected=f"0 to {image_size - 1}", found=margin
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
    """`box` with its margin, in whole pixels of the image; right and bottom are outside."""
    # Python floats would round elsewhere: the arithmetic is the box's own (float32) as before.
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
            "the box holds no pixel of the image",
            expected=f"left < right and top < bottom within {width}x{height}",
            found=", ".join(f"{float(edge):g}" for edge in box),
        )
    return pixels


def _resize(
    img: Any, rgb: np.ndarray | Tensor, pixels: tuple[int, int, int, int], size: int
) -> np.ndarray | Tensor:
    """The `pixels` of an image as ``(size, size, 3)`` uint8."""
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
    """Write ``(H, W, 3)`` uint8 as an image file; its folders are made if they are missing.

    Raises:
        UsageError: The path's suffix is no image format of Pillow's.
        OutputError: The file could not be written.
    """
    from PIL import Image

    array = face.cpu().numpy() if isinstance(face, Tensor) else face
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise UsageError(
            "the file's name does not say what kind of image to write",
            file=path,
            expected="a suffix such as .png or .jpg",
        )
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(data, format=kind)
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data.getvalue())
