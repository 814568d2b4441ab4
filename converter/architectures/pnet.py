"""P-Net, the first network of MTCNN (det1.npy); see `converter.architectures.mtcnn`."""

from __future__ import annotations

from dataclasses import replace

from converter.architectures.mtcnn import (
    PROBABILITY,
    REGRESSION,
    card,
    conv,
    network,
    plain,
    prelu,
)
from converter.architectures.record import IMAGES

PNET = network(
    name="pnet",
    description="P-Net of MTCNN (det1.npy)",
    class_name="PNet",
    layers=(
        conv("conv1", "conv1", IMAGES, 3, 3, 10),
        prelu("PReLU1", "prelu1", "conv1", 10),
        plain("pool1", "pool1", "PReLU1"),
        conv("conv2", "conv2", "pool1", 3, 10, 16),
        prelu("PReLU2", "prelu2", "conv2", 16),
        conv("conv3", "conv3", "PReLU2", 3, 16, 32),
        prelu("PReLU3", "prelu3", "conv3", 32),
        conv("conv4-1", "conv4_1", "PReLU3", 1, 32, 2),
        plain("prob1", "softmax4_1", "conv4-1"),
        conv("conv4-2", "conv4_2", "PReLU3", 1, 32, 4),
    ),
    outputs=(replace(REGRESSION, is_map=True), replace(PROBABILITY, is_map=True)),
    # It takes any size. This one is not square and odd, so that an exchange of height and width,
    # or of floor and ceil, shows; and small, since the answer grows with it.
    feed_size=(17, 23),
    feed_map=(4, 7),
    card=card(
        title="P-Net of MTCNN",
        summary="First of MTCNN's three stages: proposes boxes that may contain a face, one for "
        "each window of 12 x 12 pixels.",
        input="batch x 3 x height x width, at least 12 x 12 pixels",
        others="R-Net and O-Net",
    ),
)
