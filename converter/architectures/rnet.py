"""R-Net, the second network of MTCNN (det2.npy); see `converter.architectures.mtcnn`."""

from __future__ import annotations

from converter.architectures.mtcnn import (
    PROBABILITY,
    REGRESSION,
    card,
    conv,
    dense,
    network,
    plain,
    prelu,
)
from converter.architectures.record import IMAGES

RNET = network(
    name="rnet",
    description="R-Net of MTCNN (det2.npy)",
    class_name="RNet",
    layers=(
        conv("conv1", "conv1", IMAGES, 3, 3, 28),
        prelu("prelu1", "prelu1", "conv1", 28),
        plain("pool1", "pool1", "prelu1"),
        conv("conv2", "conv2", "pool1", 3, 28, 48),
        prelu("prelu2", "prelu2", "conv2", 48),
        plain("pool2", "pool2", "prelu2"),
        conv("conv3", "conv3", "pool2", 2, 48, 64),
        prelu("prelu3", "prelu3", "conv3", 64),
        dense("conv4", "dense4", "prelu3", 576, 128),
        prelu("prelu4", "prelu4", "conv4", 128),
        dense("conv5-1", "dense5_1", "prelu4", 128, 2),
        plain("prob1", "softmax5_1", "conv5-1"),
        dense("conv5-2", "dense5_2", "prelu4", 128, 4),
    ),
    outputs=(REGRESSION, PROBABILITY),
    feed_size=(24, 24),
    card=card(
        title="R-Net of MTCNN",
        summary="Second of MTCNN's three stages: scores and refines one proposed box.",
        input="batch x 3 x 24 x 24",
        others="P-Net and O-Net",
    ),
)
