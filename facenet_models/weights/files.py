"""Weight files: names and tensors from ``.pt`` and ``.safetensors``, and nothing else.

A weight file is untrusted. Its format is recognised by its first bytes, never by its name, and
nothing in it is run: ``torch.load`` reads tensors only (``weights_only``).
"""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from facenet_common.errors import UsageError, WeightsError
from facenet_common.optional import missing_package
from facenet_common.text import check_path

CONVERT = "facenet convert --checkpoint CHECKPOINT --out FILE.pt"

_SAFETENSORS_AT = 8  # JSON begins after the header's length, 8 bytes
_HEAD = 64  # bytes; enough to recognise a format

# First bytes of files that are often taken for weight files; what they are, and the next step.
_IMPOSTORS = (
    (b"", "an empty file", "get the file again"),
    (b"<", "a web page (HTML or XML)", "get the file again, from a direct link"),
    (b"version https://git-lfs", "a Git LFS pointer", "run: git lfs pull"),
    (b"\x89HDF\r\n", "an HDF5 file", f"if it is of Keras, convert it first: {CONVERT}"),
    (b"\x93NUMPY", "a NumPy file", f"convert it first: {CONVERT}"),
)


def load_state_dict(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of a ``.pt`` (zip or the older pickle) or ``.safetensors`` file, by name.

    All are on the CPU.

    Examples:
        >>> state = load_state_dict("vggface2.pt")  # doctest: +SKIP
        >>> state["last_linear.weight"].shape  # doctest: +SKIP
        torch.Size([512, 1792])

    Raises:
        UsageError: There is no such file, or it can't be read.
        WeightsError: It is neither, it is damaged, or it holds more than names and tensors.
        ImportError: It needs the package safetensors, which is not installed.
    """
    file = Path(path)
    head = _head(file)
    for start, found, next_step in _IMPOSTORS:
        if (head.lstrip().startswith(start)) if start else not head:
            raise WeightsError(
                "the file is not a weight file", file=file, found=found, next_step=next_step
            )
    if head[_SAFETENSORS_AT : _SAFETENSORS_AT + 1] == b"{":
        return _load_safetensors(file)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _load_torch(file)
    raise WeightsError(
        "the file is not a weight file",
        file=file,
        expected="a .pt or a .safetensors file",
        found=f"first bytes {head[:8].hex(' ')}",
        next_step=f"a TensorFlow checkpoint is converted first: {CONVERT}",
    )


def _head(file: Path) -> bytes:
    if file.is_dir():
        checkpoint = any(file.glob("*.index")) or any(file.glob("*.pb"))
        name = f"{file.absolute().name}.pt"
        raise UsageError(
            "expected a weight file, got a folder",
            file=file,
            expected="a .pt or a .safetensors file",
            found="a TensorFlow checkpoint" if checkpoint else None,
            next_step=f"convert it first: facenet convert --checkpoint {file} --out {name}"
            if checkpoint
            else "name a file in it",
        )
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UsageError(
            "the weight file can't be read",
            file=file,
            found=getattr(error, "strerror", None) or str(error),
            next_step=check_path(file),
        ) from error


def _load_torch(file: Path) -> dict[str, Tensor]:
    try:
        # Opened here: given a path, torch goes by its suffix.
        with file.open("rb") as opened, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how old files store tensors
            state = torch.load(opened, map_location="cpu", weights_only=True)
    except UnpicklingError:  # torch's message explains how to run the file; this one does not
        raise WeightsError(
            "the weight file holds more than names and tensors, or is damaged; "
            "nothing in it was run",
            file=file,
            expected="a state_dict",
            next_step="get the file again; where you trust its source, load it with torch and "
            "save model.state_dict() alone",
        ) from None
    except Exception as error:  # torch documents none, and raises what its parsers happen to
        raise _damaged(file, error) from error
    if not isinstance(state, dict) or not state:
        raise _not_a_state_dict(file, f"an object of type {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise _not_a_state_dict(file, f"{name!r}, of type {type(value).__name__}")
    return dict(state)


def _load_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        if error.name != "safetensors":  # there but broken: its own message says more
            raise
        raise missing_package("safetensors", str(file)) from error
    try:
        state: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise _damaged(file, error) from error
    if not state:
        raise _not_a_state_dict(file, "no tensor")
    return state


def _damaged(file: Path, error: Exception) -> WeightsError:
    return WeightsError(
        "the weight file is incomplete or damaged",
        file=file,
        found=(str(error).strip() or type(error).__name__).splitlines()[0],
        next_step="get or write the file again",
    )


def _not_a_state_dict(file: Path, found: str) -> WeightsError:
    return WeightsError(
        "the file is not a state_dict",
        file=file,
        expected="names and tensors",
        found=found,
        next_step="save model.state_dict(), not the model or the training's state",
    )
