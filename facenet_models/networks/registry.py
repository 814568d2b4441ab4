"""The networks by the names of their classes: one line each.

Modules are imported on first use, so that this one needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facenet_models.networks.network import Network

NETWORKS: dict[str, str] = {
    "InceptionResnetV1": "facenet_models.networks.inception_resnet_v1",
    "PNet": "facenet_models.networks.pnet",
    "RNet": "facenet_models.networks.rnet",
    "ONet": "facenet_models.networks.onet",
}
"""Each class and its module."""


def networks() -> list[type[Network]]:
    """Return the classes, in the order of `NETWORKS`."""
    return [getattr(import_module(module), name) for name, module in NETWORKS.items()]
