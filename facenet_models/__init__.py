"""The PyTorch networks and the face pipeline. Never imports converter.

The names below are loaded on first use (PEP 562): ``import facenet_models`` itself needs neither
torch nor the time that importing it takes.
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
_MODULE_OF = {
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


set_loader(_load)  # the networks themselves import nothing that looks for weights


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
        if error.name != "torch":  # torch is there but broken: its own message says more
            raise
        raise missing_package("torch", f"facenet_models.{name}") from error
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value  # next time no __getattr__
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *NETWORKS})
