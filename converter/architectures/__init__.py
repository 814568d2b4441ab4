"""The networks that can be converted and verified: one module and one line each.

A network's `Architecture` is all that other modules need to know of it. To add one, see "Add a
network" in CONTRIBUTING.md.
"""

from __future__ import annotations

from converter.architectures.inception_resnet_v1 import INCEPTION_RESNET_V1
from converter.architectures.onet import ONET
from converter.architectures.pnet import PNET
from converter.architectures.record import Architecture
from converter.architectures.rnet import RNET

ARCHITECTURES: dict[str, Architecture] = {
    record.name: record
    for record in (
        INCEPTION_RESNET_V1,
        PNET,
        RNET,
        ONET,
    )
}
"""Every network by its name."""

__all__ = ["ARCHITECTURES", "INCEPTION_RESNET_V1", "ONET", "PNET", "RNET"]
