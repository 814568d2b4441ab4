"""Load the weights of MTCNN's three networks."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from facenet_common.errors import UsageError, WeightsError
from facenet_models.networks.pretrained import Loaded
from facenet_models.weights.files import load_state_dict
from facenet_models.weights.pretrained import load
from facenet_models.weights.registry import DETECTOR
from facenet_models.weights.releases import find_in

SUFFIXES = (".pt", ".pth", ".safetensors")


def fill(nets: dict[str, nn.Module], folder: str | os.PathLike[str] | None) -> None:
    """Load weights into the networks, whose keys are those of `DETECTOR`.

    With `folder`, the files of these names in it, checked against its hashes
    (`facenet_models.weights.releases.find_in`); without, those that
    `facenet_models.weights.pretrained` finds: it looks in ``FACENET_WEIGHTS`` and the cache, and
    downloads them if need be.

    Raises:
        UsageError: There is no such folder, or it lacks one; the message says how to make them.
        WeightsError: A file is damaged, another net's, or not the one that the folder's manifest
            or list of hashes names.
        DownloadError: They are not here, and can't be downloaded.
    """
    files = None if folder is None else _files(Path(folder).expanduser())
    for name, net in nets.items():
        if files is None:
            loaded = load(name, type(net).__name__)
        else:
            loaded = Loaded(load_state_dict(files[name]), files[name])
        try:
            loaded.fill(net)
        except WeightsError as error:
            error.next_step = f"name the file after its net: {name}.pt is {type(net).__name__}'s"
            raise


def _files(folder: Path) -> dict[str, Path]:
    """Return the file of each network."""
    _check_folder(folder)
    found = {net: find_in(folder, f"{net}.pt", SUFFIXES) for net in DETECTOR}
    missing = [net for net, file in found.items() if file is None]
    if not missing:
        return {net: file for net, file in found.items() if file is not None}
    commands = [
        f"convert --checkpoint {weights.source} --out {folder / net}.pt"
        for net, weights in DETECTOR.items()
    ]
    raise UsageError(
        "MTCNN's weights were not found",
        expected="pnet, rnet and onet (.pt, .pth or .safetensors) in one folder",
        found=f"no {', '.join(missing)} in {folder}",
        next_step="name their folder, or none: then they are downloaded. Or make "
        "them from det1.npy, det2.npy and det3.npy of davidsandberg/facenet (src/align):\n"
        + "\n".join(f"            {command}" for command in commands),
    )


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    raise UsageError(
        "this is a file, not a folder of MTCNN's weights"
        if folder.exists()
        else "there is no such folder of MTCNN's weights",
        file=folder,
        expected="a folder that holds pnet, rnet and onet (.pt, .pth or .safetensors)",
        next_step="name a folder, or none: then they are found or downloaded as docs/models.md "
        "says",
    )
