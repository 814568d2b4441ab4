"""The PyTorch networks and the face pipeline; never imports converter.

Public names are loaded on first use (PEP 562), so ``import facenet_models`` is fast and does not
need torch.

Examples:
    >>> from facenet_models import MTCNN, InceptionResnetV1  # doctest: +SKIP
    >>> mtcnn, resnet = MTCNN(), InceptionResnetV1("vggface2").eval()  # doctest: +SKIP
    >>> embedding = resnet(mtcnn(image)[None])  # doctest: +SKIP
"""

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING

from facenet_common.optional import missing_package
from facenet_models.networks.pretrained import Loaded, set_loader
from facenet_models.networks.registry import NETWORKS

if TYPE_CHECKING:
    from facenet_models import training
    from facenet_models.detect.crops import extract_face, fixed_image_standardization, prewhiten
    from facenet_models.detect.mtcnn import MTCNN
    from facenet_models.networks.inception_resnet_v1 import InceptionResnetV1
    from facenet_models.networks.onet import ONet
    from facenet_models.networks.pnet import PNet
    from facenet_models.networks.rnet import RNet
    from facenet_models.weights.registry import Pretrained

__all__ = [
    "MTCNN",
    "InceptionResnetV1",
    "ONet",
    "PNet",
    "Pretrained",
    "RNet",
    "extract_face",
    "fixed_image_standardization",
    "prewhiten",
    "training",
]

# Of what is not a network; those are in NETWORKS.
_MODULE_OF = {  # public name: module that defines it
    "MTCNN": "facenet_models.detect.mtcnn",
    "Pretrained": "facenet_models.weights.registry",
    "extract_face": "facenet_models.detect.crops",
    "fixed_image_standardization": "facenet_models.detect.crops",
    "prewhiten": "facenet_models.detect.crops",
    "training": "facenet_models.training",  # the module itself
}


def _load(pretrained: str | PathLike[str], architecture: str) -> Loaded:
    from facenet_models.weights.pretrained import load

    return load(pretrained, architecture)


set_loader(_load)  # the networks do not import the code that finds weights


def __getattr__(name: str) -> object:
    """Load a public name on first use.

    Raises:
        AttributeError: `name` is neither one of ``__all__`` nor a network's class.
        MissingPackageError: torch is not installed; the message says how to install it.
    """
    path = NETWORKS.get(name) or _MODULE_OF.get(name)
    if path is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name != "torch":  # torch is installed but broken: keep its message
            raise
        raise missing_package("torch", f"facenet_models.{name}") from error
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value  # further uses do not call __getattr__
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *NETWORKS})
