"""The networks that can be converted: one table each."""

from converter.architectures.inception_resnet_v1 import INCEPTION_RESNET_V1
from converter.architectures.mtcnn import ONET, PNET, RNET
from converter.rules import Architecture

ARCHITECTURES: tuple[Architecture, ...] = (INCEPTION_RESNET_V1, PNET, RNET, ONET)

__all__ = ["ARCHITECTURES", "INCEPTION_RESNET_V1", "ONET", "PNET", "RNET"]
