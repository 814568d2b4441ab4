"""Find the weights that a name or a path stands for, and load them.

A file of the registry (`facenet_models.weights.registry`) is looked for, in this order,

1. in ``FACENET_WEIGHTS``: a folder, an address below which files lie under their names, or an
   artifact in an OCI registry (`facenet_models.weights.releases`);
2. in the cache, which facenet-pytorch uses too (`facenet_models.weights.cache.cache_folder`);
3. at its address, or at the same path of ``FACENET_MIRROR``; then it is cached.

``FACENET_OFFLINE=1`` leaves the network out. Hashes are checked on every load: the published one
in the cache; at the place that ``FACENET_WEIGHTS`` names, what its ``manifest.json`` or
``SHA256SUMS`` says, if there is one, because weights converted anew are the same tensors in
another file.
"""

from __future__ import annotations

import os
from pathlib import Path

from facenet_common.errors import WeightsError
from facenet_models.networks.pretrained import Loaded
from facenet_models.weights.cache import cache_folder, fetch, mirrored, ready
from facenet_models.weights.registry import Weights, find, names
from facenet_models.weights.releases import PLACE, find_at, named


def locate(weights: Weights, *, progress: bool = True) -> Path:
    """Return the file of `weights` on this machine, its hash checked; download it if need be.

    Raises:
        UsageError: ``FACENET_WEIGHTS`` is not a folder or an address.
        FacenetError: As `facenet_models.weights.releases.find_at` and
            `facenet_models.weights.cache.fetch`.
    """
    place = os.environ.get(PLACE, "")

    def check(file: Path) -> None:
        check_file(weights, file)

    looked = [f"{PLACE} is not set"]
    if place:
        file = find_at(place, weights.file, check=check, progress=progress)
        if file is not None:
            return file
        looked = [f"no {named(weights.file)} in {place} ({PLACE})"]
    url, target = mirrored(weights.url), cache_folder() / weights.file
    if not target.is_file():
        looked.append(f"no {target.name} in {target.parent}")
        ready(target, url, "; ".join(looked))
    return fetch(url, target, sha256=weights.sha256, check=check, progress=progress)


def check_file(weights: Weights, file: Path) -> None:
    """Raise WeightsError unless `file` holds the tensors of `weights`: names and shapes."""
    from facenet_models.networks.architectures import describe, from_state_dict
    from facenet_models.weights.files import load_state_dict

    model = from_state_dict(load_state_dict(file))
    sizes = {"embedding": weights.embedding_size, "classes": weights.classes}
    expected = {name: size for name, size in sizes.items() if size is not None}
    found = dict(describe(model).dims)
    if type(model).__name__ != weights.architecture or found != expected:
        raise WeightsError(
            f"the file does not hold the weights {weights.name}",
            file=file,
            expected=f"{weights.architecture} {expected or ''}",
            found=f"{type(model).__name__} {found or ''}",
        )


def load(pretrained: str | os.PathLike[str], architecture: str) -> Loaded:
    """Return the weights that `pretrained` names, on the CPU.

    Args:
        pretrained: A name of the registry, or the path of a ``.pt`` or ``.safetensors`` file. A
            string is a path if it has one of these endings or exists, and is not a name.
        architecture: The network's class.

    Raises:
        FacenetError: As `find`, `locate` and `facenet_models.weights.files.load_state_dict`.
    """
    from facenet_models.weights.files import load_state_dict

    file = Path(pretrained)
    if isinstance(pretrained, str):
        is_path = pretrained.endswith((".pt", ".pth", ".safetensors")) or bool(
            pretrained and file.exists()
        )
        if pretrained in names(architecture) or not is_path:
            file = locate(find(pretrained, architecture))
    return Loaded(load_state_dict(file), file)
