"""Find torch's devices by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facenet_common.errors import UsageError

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """Return torch's device of that name.

    Args:
        name: Such as cpu, cuda, cuda:1 or mps.

    Raises:
        UsageError: torch does not have this kind of device, or this machine does not.

    Examples:
        >>> find_device("cpu")
        device(type='cpu')
    """
    import torch  # imported here so that commands can report a missing torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            "unknown kind of device", expected="cpu, cuda, cuda:1, mps …", found=name
        ) from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # depends on the device
        raise UsageError(
            f"torch {torch.__version__} has no device {name!r} on this machine",
            next_step="leave --device out, or install a build of torch for it",
        ) from error
    return device
