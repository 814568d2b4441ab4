"""The published weights: names, addresses, hashes, origins and licences.

`Pretrained` is the registry. `facenet_models.weights.pretrained` finds the files and loads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from facenet_common.errors import UsageError
from facenet_common.published import FILES
from facenet_models.networks import PREPROCESSING

INCEPTION = "InceptionResnetV1"

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

    `sha256` comes from several independent sources (`facenet_common.published`). It is None where
    no trustworthy hash is known; then that of the first download is kept
    (see `facenet_models.weights.cache`). `classes`, `embedding_size` and `lfw_accuracy` (share of
    6,000 pairs, from the README of davidsandberg/facenet) are None where they don't apply. `source`
    is the file or folder of the original that they were converted from, `source_sha256` its hash;
    there is none for the two large ones.
    """

    name: str
    architecture: str
    file: str
    url: str
    sha256: str | None
    training_set: str
    origin: str
    licence: str
    source: str
    source_sha256: str | None = None
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


def _mtcnn(
    name: str, architecture: str, size: int, sha256: str, source: str, source_sha256: str
) -> Weights:
    return Weights(
        name=name,
        architecture=architecture,
        file=f"{name}.pt",
        url=f"{_DATA}{name}.pt",
        sha256=sha256,
        training_set="WIDER FACE and CelebA",  # arXiv:1604.02878, section III
        origin="kpzhang93/MTCNN_face_detection_alignment, by way of " + _CONVERTED,
        licence=_licence("WIDER FACE and CelebA", "arXiv:1511.06523, arXiv:1411.7766"),
        source=source,  # in src/align, at 096ed77
        source_sha256=source_sha256,
        image_size=(size, size),
    )


class Pretrained(Enum):
    """All published weight files.

    Examples:
        >>> Pretrained.VGGFACE2.value.classes
        8631
    """

    VGGFACE2 = Weights(
        name="vggface2",
        architecture=INCEPTION,
        file="20180402-114759-vggface2.pt",
        url=_RELEASE + "20180402-114759-vggface2.pt",
        sha256=FILES["20180402-114759-vggface2.pt"].sha256,
        training_set="VGGFace2",
        origin=_CONVERTED,
        licence=_licence("VGGFace2", "https://www.robots.ox.ac.uk/~vgg/data/vgg_face2/"),
        source="20180402-114759",
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
        sha256=FILES["20180408-102900-casia-webface.pt"].sha256,
        training_set="CASIA-WebFace",
        origin=_CONVERTED,
        licence=_licence("CASIA-WebFace", "arXiv:1411.7923"),
        source="20180408-102900",
        classes=10575,
        embedding_size=512,
        lfw_accuracy=0.9905,
        image_size=(160, 160),
    )
    PNET = _mtcnn(
        name="pnet",
        architecture="PNet",
        size=12,
        sha256="a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
        source="det1.npy",
        source_sha256="3285cf7a3de2651c5784cb9e32013f5919aae95fd1ed1bc371dd9691affb39af",
    )
    RNET = _mtcnn(
        name="rnet",
        architecture="RNet",
        size=24,
        sha256="bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
        source="det2.npy",
        source_sha256="716b8b83e42476791c9096f14dbb09fefc88bf5c7ec876b1683f9acd52b3f39c",
    )
    ONET = _mtcnn(
        name="onet",
        architecture="ONet",
        size=48,
        sha256="165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
        source="det3.npy",
        source_sha256="396ead803d85d3443307ff8f45fb6aed2536579b415a4f4d4cb8f93ea6b1476a",
    )


DETECTOR = {
    entry.value.name: entry.value for entry in (Pretrained.PNET, Pretrained.RNET, Pretrained.ONET)
}
"""The published weights of MTCNN's three networks, by name, in the order of the stages."""


def names(architecture: str) -> list[str]:
    """Return the names of the weights for that class.

    Examples:
        >>> names("InceptionResnetV1")
        ['vggface2', 'casia-webface']
    """
    return [entry.value.name for entry in Pretrained if entry.value.architecture == architecture]


def find(name: str, architecture: str) -> Weights:
    """Return the registry's entry for a name and the network's class.

    Raises:
        UsageError: There is no such entry.
    """
    for entry in Pretrained:
        if (entry.value.name, entry.value.architecture) == (name, architecture):
            return entry.value
    raise UsageError(
        f"{architecture} has no pretrained weights of this name",
        expected=f"{', '.join(names(architecture))}, or the path of a weight file",
        found=repr(name),
    )
