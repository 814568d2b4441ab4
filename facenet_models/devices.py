"""Devices by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facenet_common.errors import UsageError

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """Return torch's device of that name.

    Raises:
        UsageError: torch has no such kind of device, or this machine has none.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    import torch  # here, so that commands can report that it is missing

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            "unknown kind of device", expected="cpu, cuda, cuda:1, mps …", found=name
        ) from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # whatever is missing
        raise UsageError(
            f"torch {torch.__version__} has no device {name!r} here",
            next_step="leave --device out, or install a torch that is built for it",
        ) from error
    return device
