"""O-Net, the third network of MTCNN (det3.npy); see `converter.architectures.mtcnn`."""

from __future__ import annotations

from converter.architectures.mtcnn import (
    LANDMARKS,
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

ONET = network(
    name="onet",
    description="O-Net of MTCNN (det3.npy)",
    class_name="ONet",
    layers=(
        conv("conv1", "conv1", IMAGES, 3, 3, 32),
        prelu("prelu1", "prelu1", "conv1", 32),
        plain("pool1", "pool1", "prelu1"),
        conv("conv2", "conv2", "pool1", 3, 32, 64),
        prelu("prelu2", "prelu2", "conv2", 64),
        plain("pool2", "pool2", "prelu2"),
        conv("conv3", "conv3", "pool2", 3, 64, 64),
        prelu("prelu3", "prelu3", "conv3", 64),
        plain("pool3", "pool3", "prelu3"),
        conv("conv4", "conv4", "pool3", 2, 64, 128),
        prelu("prelu4", "prelu4", "conv4", 128),
        dense("conv5", "dense5", "prelu4", 1152, 256),
        prelu("prelu5", "prelu5", "conv5", 256),
        dense("conv6-1", "dense6_1", "prelu5", 256, 2),
        plain("prob1", "softmax6_1", "conv6-1"),
        dense("conv6-2", "dense6_2", "prelu5", 256, 4),
        dense("conv6-3", "dense6_3", "prelu5", 256, 10),
    ),
    outputs=(REGRESSION, LANDMARKS, PROBABILITY),
    feed_size=(48, 48),
    card=card(
        title="O-Net of MTCNN",
        summary="Last of MTCNN's three stages: scores and refines one box, and locates the eyes, "
        "the nose and the corners of the mouth.",
        input="batch x 3 x 48 x 48",
        others="P-Net and R-Net",
        landmarks=True,
    ),
)
