"""The published weights: what they are, where they are, and how they get here.

`Pretrained` is the registry. A file is looked for, in this order,

1. in ``FACENET_WEIGHTS``: a folder, an address below which files lie under their names, or an
   artifact in an OCI registry (`facenet_models.release`);
2. in the cache, which facenet-pytorch uses too (`facenet_models.download.cache_folder`);
3. at its address, or at the same path of ``FACENET_MIRROR``; then it is cached.

``FACENET_OFFLINE=1`` leaves the network out. Hashes are checked on every load: the published one
in the cache; at the place that ``FACENET_WEIGHTS`` names, what its ``manifest.json`` or
``SHA256SUMS`` says, if there is one, because weights converted anew are the same tensors in
another file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from facenet_common.errors import UsageError, WeightsError
from facenet_models.download import cache_folder, fetch, mirrored, ready
from facenet_models.release import PLACE, find_at, named

if TYPE_CHECKING:
    from torch import Tensor, nn

INCEPTION = "InceptionResnetV1"
PREPROCESSING = "RGB, (pixel - 127.5) / 128, NCHW"

_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
# The commit whose files the hashes below are those of.
_DATA = (
    "https://raw.githubusercontent.com/timesler/facenet-pytorch/"
    "787da06156087cd6b616fe6608213722bddc30cd/data/"
)
_CONVERTED = "davidsandberg/facenet, converted by timesler/facenet-pytorch; both MIT"


@dataclass(frozen=True)
class Weights:
    """One published weight file.

    `sha256` is None where no trustworthy hash is known; then the first download's is kept (see
    `facenet_models.download`). `classes`, `embedding_size` and `lfw_accuracy` (share of 6,000
    pairs, as davidsandberg/facenet's README states it) are None where they don't apply.
    """

    name: str
    architecture: str
    file: str
    url: str
    sha256: str | None
    training_set: str
    origin: str
    licence: str
    classes: int | None = None
    embedding_size: int | None = None
    lfw_accuracy: float | None = None
    image_size: tuple[int, int] | None = None
    preprocessing: str = PREPROCESSING


def _licence(data: str, where: str) -> str:
    return (
        f"The weights' files are under the MIT licence; the photographs of {data} ({where}) are "
        "not: their terms are the data sets' own, to be checked before any use but research"
    )


def _mtcnn(name: str, architecture: str, size: int, sha256: str) -> Weights:
    return Weights(
        name=name,
        architecture=architecture,
        file=f"{name}.pt",
        url=f"{_DATA}{name}.pt",
        sha256=sha256,
        training_set="WIDER FACE and CelebA",  # arXiv:1604.02878, section III
        origin="kpzhang93/MTCNN_face_detection_alignment, by way of " + _CONVERTED,
        licence=_licence("WIDER FACE and CelebA", "arXiv:1511.06523, arXiv:1411.7766"),
        image_size=(size, size),
    )


class Pretrained(Enum):
    """Every weight file that this package knows by name."""

    VGGFACE2 = Weights(
        name="vggface2",
        architecture=INCEPTION,
        file="20180402-114759-vggface2.pt",
        url=_RELEASE + "20180402-114759-vggface2.pt",
        sha256=None,  # nobody published one; the name's ending is not a hash
        training_set="VGGFace2",
        origin=_CONVERTED,
        licence=_licence("VGGFace2", "https://www.robots.ox.ac.uk/~vgg/data/vgg_face2/"),
        classes=8631,
        embedding_size=512,
        lfw_accuracy=0.9965,
        image_size=(160, 160),
    )
    CASIA_WEBFACE = Weights(
        name="casia-webface",
        architecture=INCEPTION,
        file="20180408-102900-casia-webface.pt",
        url=_RELEASE + "20180408-102900-casia-webface.pt",
        sha256=None,
        training_set="CASIA-WebFace",
        origin=_CONVERTED,
        licence=_licence("CASIA-WebFace", "arXiv:1411.7923"),
        classes=10575,
        embedding_size=512,
        lfw_accuracy=0.9905,
        image_size=(160, 160),
    )
    PNET = _mtcnn(
        "pnet", "PNet", 12, "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f"
    )
    RNET = _mtcnn(
        "rnet", "RNet", 24, "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86"
    )
    ONET = _mtcnn(
        "onet", "ONet", 48, "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d"
    )


def names(architecture: str) -> list[str]:
    """The names of the weights for that class."""
    return [entry.value.name for entry in Pretrained if entry.value.architecture == architecture]


def find(name: str, architecture: str) -> Weights:
    """The registry's entry for a name.

    Raises:
        UsageError: There is none for that class.
    """
    for entry in Pretrained:
        if (entry.value.name, entry.value.architecture) == (name, architecture):
            return entry.value
    raise UsageError(
        f"{architecture} has no pretrained weights of this name",
        expected=f"{', '.join(names(architecture))}, or the path of a weight file",
        found=repr(name),
    )


def locate(weights: Weights, *, progress: bool = True) -> Path:
    """The file of `weights` on this machine, its hash checked; downloaded if need be.

    Raises:
        UsageError: ``FACENET_WEIGHTS`` names no folder and no address.
        FacenetError: As `facenet_models.release.find_at` and `facenet_models.download.fetch`.
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
    """Raises WeightsError unless `file` holds the tensors of `weights`: names and shapes."""
    from facenet_models.architectures import describe, from_state_dict
    from facenet_models.weights_files import load_state_dict

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


class Loaded(NamedTuple):
    """A state_dict and the file that it is from."""

    state: dict[str, Tensor]
    file: Path

    def rows(self, name: str) -> int | None:
        """The first dimension of a tensor; None where there is no such tensor."""
        value = self.state.get(name)
        return value.shape[0] if value is not None and value.ndim else None

    def fill(self, model: nn.Module) -> None:
        """Copy the tensors into `model`, in its own dtypes.

        Counters of batches (``num_batches_tracked``), which conversions may leave out, become 0.

        Raises:
            WeightsError: A name is missing or unknown, or a shape differs; all are named.
        """
        counters = {
            name: value.new_zeros(())
            for name, value in model.state_dict().items()
            if name.endswith(".num_batches_tracked")
        }
        try:
            model.load_state_dict({**counters, **self.state})
        except RuntimeError as error:
            raise WeightsError(
                f"the weights do not fit {type(model).__name__}",
                file=self.file,
                found="; ".join(line.strip() for line in str(error).splitlines()[1:]),
            ) from error


def load(pretrained: str | os.PathLike[str], architecture: str) -> Loaded:
    """The weights that `pretrained` names, on the CPU.

    Args:
        pretrained: A name of the registry, or the path of a ``.pt`` or ``.safetensors`` file: what
            is not a string, has one of these endings, or names what exists.
        architecture: The class that they are for.

    Raises:
        FacenetError: As `find`, `locate` and `facenet_models.weights_files.load_state_dict`.
    """
    from facenet_models.weights_files import load_state_dict

    file = Path(pretrained)
    if isinstance(pretrained, str):
        is_path = pretrained.endswith((".pt", ".pth", ".safetensors")) or bool(
            pretrained and file.exists()
        )
        if pretrained in names(architecture) or not is_path:
            file = locate(find(pretrained, architecture))
    return Loaded(load_state_dict(file), file)
