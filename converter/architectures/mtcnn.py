"""The three networks of MTCNN: det1.npy, det2.npy and det3.npy, and facenet-pytorch's names.

Sources: src/align/detect_face.py and the .npy files of davidsandberg/facenet at 096ed77, and the
state_dicts that facenet-pytorch publishes. Names carry no scope, as in the files.

The original detector transposes each image before it feeds a network, so that the first axis of
its kernels runs along the width. Its dense layers flatten (width, height, channel); the PyTorch
networks flatten in the same order, so dense matrices are only transposed.
"""

from __future__ import annotations

from converter.layouts import AS_IS, IO_TO_OI, WHIO_TO_OIHW
from converter.rules import Architecture, Row, Rule


def _conv(source: str, target: str, size: int, inputs: int, outputs: int) -> tuple[Row, ...]:
    shape = (size, size, inputs, outputs)
    return (
        Rule(f"{source}/weights", f"{target}.weight", WHIO_TO_OIHW, shape),
        Rule(f"{source}/biases", f"{target}.bias", AS_IS, (outputs,)),
    )


def _dense(source: str, target: str, inputs: int, outputs: int) -> tuple[Row, ...]:
    return (
        Rule(f"{source}/weights", f"{target}.weight", IO_TO_OI, (inputs, outputs)),
        Rule(f"{source}/biases", f"{target}.bias", AS_IS, (outputs,)),
    )


def _prelu(source: str, target: str, channels: int) -> tuple[Row, ...]:
    return (Rule(f"{source}/alpha", f"{target}.weight", AS_IS, (channels,)),)


PNET = Architecture(
    name="pnet",
    description="P-Net of MTCNN (det1.npy)",
    rows=(
        *_conv("conv1", "conv1", 3, 3, 10),
        *_prelu("PReLU1", "prelu1", 10),
        *_conv("conv2", "conv2", 3, 10, 16),
        *_prelu("PReLU2", "prelu2", 16),
        *_conv("conv3", "conv3", 3, 16, 32),
        *_prelu("PReLU3", "prelu3", 32),
        *_conv("conv4-1", "conv4_1", 1, 32, 2),
        *_conv("conv4-2", "conv4_2", 1, 32, 4),
    ),
)

RNET = Architecture(
    name="rnet",
    description="R-Net of MTCNN (det2.npy)",
    rows=(
        *_conv("conv1", "conv1", 3, 3, 28),
        *_prelu("prelu1", "prelu1", 28),
        *_conv("conv2", "conv2", 3, 28, 48),
        *_prelu("prelu2", "prelu2", 48),
        *_conv("conv3", "conv3", 2, 48, 64),
        *_prelu("prelu3", "prelu3", 64),
        *_dense("conv4", "dense4", 576, 128),
        *_prelu("prelu4", "prelu4", 128),
        *_dense("conv5-1", "dense5_1", 128, 2),
        *_dense("conv5-2", "dense5_2", 128, 4),
    ),
)

ONET = Architecture(
    name="onet",
    description="O-Net of MTCNN (det3.npy)",
    rows=(
        *_conv("conv1", "conv1", 3, 3, 32),
        *_prelu("prelu1", "prelu1", 32),
        *_conv("conv2", "conv2", 3, 32, 64),
        *_prelu("prelu2", "prelu2", 64),
        *_conv("conv3", "conv3", 3, 64, 64),
        *_prelu("prelu3", "prelu3", 64),
        *_conv("conv4", "conv4", 2, 64, 128),
        *_prelu("prelu4", "prelu4", 128),
        *_dense("conv5", "dense5", 1152, 256),
        *_prelu("prelu5", "prelu5", 256),
        *_dense("conv6-1", "dense6_1", 256, 2),
        *_dense("conv6-2", "dense6_2", 256, 4),
        *_dense("conv6-3", "dense6_3", 256, 10),
    ),
)
