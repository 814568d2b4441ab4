"""Where the weights of MTCNN's three nets are looked for, and loading them."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from facenet_models.errors import UsageError, WeightsError
from facenet_models.weights_files import load_state_dict

FOLDER_VARIABLE = "FACENET_WEIGHTS"
SUFFIXES = (".pt", ".pth", ".safetensors")
MTCNN_SOURCES = {"pnet": "det1.npy", "rnet": "det2.npy", "onet": "det3.npy"}


def mtcnn_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Where the weights of all three nets are: ``pnet``, ``rnet``, ``onet`` with a known suffix.

    `folder` if given; else the one that the environment variable FACENET_WEIGHTS names, if set;
    else the first complete one among those in which torch.hub and facenet-pytorch keep files.

    Raises:
        UsageError: No such folder has all three; the message says how to make them.
    """
    named = folder if folder is not None else os.environ.get(FOLDER_VARIABLE) or None
    folders = [Path(named).expanduser()] if named is not None else _cache_folders()
    for candidate in folders:
        if all(_net_file(candidate, net) is not None for net in MTCNN_SOURCES):
            return candidate
    missing = [net for net in MTCNN_SOURCES if _net_file(folders[0], net) is None]
    commands = [
        f"convert --checkpoint {source} --out {folders[0] / net}.pt"
        for net, source in MTCNN_SOURCES.items()
    ]
    raise UsageError(
        "MTCNN's weights were not found",
        expected="pnet, rnet and onet (.pt, .pth or .safetensors) in one folder",
        found="no " + ", ".join(missing) + " in " + " or ".join(map(str, folders)),
        next_step="pass weights=FOLDER or set FACENET_WEIGHTS to their folder. Make them from "
        "the det1.npy, det2.npy and det3.npy of davidsandberg/facenet (src/align):\n"
        + "\n".join(f"            {command}" for command in commands),
    )


def load_mtcnn_net(net: nn.Module, name: str, folder: Path) -> None:
    """Fill `net` with the weights `name` ("pnet", "rnet" or "onet") in `folder`.

    Raises:
        UsageError, WeightsError: See `load_state_dict`; or the tensors are those of another net.
    """
    path = _net_file(folder, name)
    if path is None:
        raise UsageError("there is no such weight file", file=folder / f"{name}.pt")
    try:
        net.load_state_dict(load_state_dict(path))
    except RuntimeError as error:  # names or shapes
        raise WeightsError(
            f"these are not the weights of {type(net).__name__}",
            file=path,
            found=" ".join(str(error).split()),
        ) from error


def _net_file(folder: Path, net: str) -> Path | None:
    files = (folder / f"{net}{suffix}" for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def _cache_folders() -> list[Path]:
    """torch.hub's folder, then facenet-pytorch's, which leaves the ``hub`` out."""
    hub = Path(torch.hub.get_dir()).expanduser()
    return [hub / "checkpoints", hub.parent / "checkpoints"]
