"""Convert the images that MTCNN accepts to one form: RGB, ``(H, W, 3)``, values 0 to 255.

Accepted are PIL images of any mode, and arrays and tensors ``(H, W)``, ``(H, W, 1)``,
``(H, W, 3)``, ``(H, W, 4)`` and, where the shape is unambiguous, ``(C, H, W)``, of any dtype with
values 0 to 255; floats a little outside are clamped. Grey is repeated to three channels; alpha is
dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from facenet_common.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
# What floats may go below 0 and above 255; they are clamped. Bicubic interpolation overshoots an
# edge from 0 to 255 by up to 18 (a = -0.5) or 28 (a = -0.75), in each of two directions.
OVERSHOOT = 64.0


def is_pil(image: object) -> bool:
    """Return whether `image` is a PIL image, without importing Pillow."""
    return any(cls.__module__.startswith("PIL.") for cls in type(image).__mro__)


def is_batch(images: object) -> bool:
    """Return whether `images` is a list, a tuple, or an array or tensor of 4 dimensions.

    facenet-pytorch takes a tensor of 4 dimensions for one image:
    https://github.com/timesler/facenet-pytorch/issues/114

    Examples:
        >>> is_batch(np.zeros((1, 20, 20, 3))), is_batch(np.zeros((20, 20, 3)))
        (True, False)
    """
    if isinstance(images, list | tuple):
        return True
    return isinstance(images, np.ndarray | Tensor) and images.ndim == 4


def as_list(images: Any) -> list[Any]:
    """Return the images of a batch, or one image, as a list."""
    return list(images) if is_batch(images) else [images]


def to_rgb(image: Any) -> np.ndarray | Tensor:
    """Convert `image` to RGB, ``(H, W, 3)``.

    Returns:
        A tensor on the same device for a tensor, else an array. uint8 where all values are whole
        numbers, else float32 or float64.

    Raises:
        UsageError: `image` is of another kind or shape, has no pixels, or has values outside 0 to
            255.

    Examples:
        >>> to_rgb(np.zeros((20, 30), np.uint8)).shape
        (20, 30, 3)
    """
    if is_pil(image):
        return _pil_to_rgb(image)
    if not isinstance(image, np.ndarray | Tensor):
        raise UsageError(
            f"expected an image, got {type(image).__name__}",
            expected="a PIL image, an array or tensor (H, W, 3), or a list of these",
            found=type(image).__name__,
            next_step="open the file first: PIL.Image.open(path)",
        )
    rgb: np.ndarray | Tensor = _to_range(_to_channels_last(image))
    return rgb


def _pil_to_rgb(image: Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":  # convert() would clip 16 bits and more
        return to_rgb_array(np.asarray(image))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def to_rgb_array(array: np.ndarray) -> np.ndarray:
    """Convert an array as `to_rgb` does; return an array."""
    rgb = to_rgb(array)
    assert isinstance(rgb, np.ndarray)
    return rgb


def _to_channels_last(image: Any) -> Any:
    """Convert an array or tensor to ``(H, W, 3)``."""
    shape = tuple(image.shape)
    if image.ndim == 2:
        image = image[:, :, None]
    elif image.ndim == 3 and shape[2] not in CHANNELS and shape[0] in CHANNELS:
        image = (
            image.transpose(1, 2, 0) if isinstance(image, np.ndarray) else image.permute(1, 2, 0)
        )
    if image.ndim != 3 or image.shape[2] not in CHANNELS or 0 in shape:
        raise UsageError(
            "expected an image, got an array of another shape",
            expected="shape (H, W, 3); also (H, W), (H, W, 1), (H, W, 4), (3, H, W)",
            found=f"shape {shape}",
        )
    if image.shape[2] == 1:
        return image[:, :, [0, 0, 0]]
    return image[:, :, :3]


def _to_range(image: Any) -> Any:
    """Convert `image` to uint8, or to floats where it has fractions; check that it is 0 to 255."""
    if image.dtype in (torch.uint8, np.uint8):
        return image
    tensor = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    low, high = (float(v) for v in torch.aminmax(tensor.double()))
    problem = _range_problem(low, high, tensor.dtype)
    if problem is not None:
        what, next_step = problem
        raise UsageError(
            what,
            expected="0 to 255",
            found=f"{low:g} to {high:g}, {tensor.dtype}",
            next_step=next_step,
        )
    if low < 0 or high > 255:
        tensor = tensor.clamp(0, 255)
    whole = tensor.to(torch.uint8)
    if torch.equal(whole.to(tensor.dtype), tensor):
        tensor = whole
    elif tensor.dtype != torch.float64:
        tensor = tensor.float()
    return tensor if isinstance(image, Tensor) else tensor.numpy()


def _range_problem(low: float, high: float, dtype: torch.dtype) -> tuple[str, str] | None:
    """Return what is wrong with the values of an image, and what to do; None if nothing is."""
    over = OVERSHOOT if dtype.is_floating_point else 0.0
    if dtype.is_floating_point and ((low >= 0 and 0 < high <= 1) or -0.5 <= low < 0 < high <= 1.5):
        return "the image's values are fractions of 1", "multiply them by 255"
    if dtype.is_floating_point and -4 <= low < 0 and high <= 4:
        return "the image's values are standardised", "give the image as it was: 0 to 255"
    if not (-over <= low and high <= 255 + over) or dtype == torch.bool:
        return "the image's values are out of range", "scale them to 0 to 255"
    return None


def to_tensors(images: Sequence[Any], device: torch.device) -> list[Tensor]:
    """Convert each of `images` to a tensor ``(H, W, 3)`` on `device`; see `to_rgb`."""
    tensors = []
    for image in images:
        rgb = to_rgb(image)
        if isinstance(rgb, np.ndarray):
            # torch warns of read-only memory such as Pillow's. A copy costs little here.
            array = np.ascontiguousarray(rgb) if rgb.flags.writeable else np.array(rgb, order="C")
            rgb = torch.from_numpy(array)
        tensors.append(rgb.to(device))
    return tensors
