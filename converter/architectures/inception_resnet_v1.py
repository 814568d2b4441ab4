"""Inception-ResNet-v1 as davidsandberg/facenet trains it and facenet-pytorch names it.

Sources: the variables of the original graph (src/models/inception_resnet_v1.py and
src/train_softmax.py at 096ed77) and the state_dict of facenet-pytorch 2.6.0.
"""

from __future__ import annotations

from converter.architectures.training import TRAINING_LEFTOVERS
from converter.dtypes import INT64
from converter.layouts import AS_IS, HWIO_TO_OIHW, IO_TO_OI
from converter.rules import Architecture, Dim, Row, Rule, Synthesize, repeat

_NO_GAMMA = "the original's batch normalisation has no scale (gamma): it computes as if it were 1"
_NO_COUNT = "PyTorch's count of training batches; not used in inference"


def _batch_norm(source: str, target: str, channels: Dim) -> tuple[Row, ...]:
    return (
        Synthesize(f"{target}.weight", (channels,), 1, _NO_GAMMA),
        Rule(f"{source}/beta", f"{target}.bias", AS_IS, (channels,)),
        Rule(f"{source}/moving_mean", f"{target}.running_mean", AS_IS, (channels,)),
        Rule(f"{source}/moving_variance", f"{target}.running_var", AS_IS, (channels,)),
        Synthesize(f"{target}.num_batches_tracked", (), 0, _NO_COUNT, INT64, binding=False),
    )


def _basic_conv(source: str, target: str, shape: tuple[int, int, int, int]) -> tuple[Row, ...]:
    """A convolution without bias, then batch normalisation. `shape` is HWIO."""
    source = f"InceptionResnetV1/{source}"
    return (
        Rule(f"{source}/weights", f"{target}.conv.weight", HWIO_TO_OIHW, shape),
        *_batch_norm(f"{source}/BatchNorm", f"{target}.bn", shape[3]),
    )


def _projection(source: str, target: str, inputs: int, outputs: int) -> tuple[Row, ...]:
    """The 1x1 convolution with bias that ends a residual block."""
    source = f"InceptionResnetV1/{source}/Conv2d_1x1"
    return (
        Rule(f"{source}/weights", f"{target}.conv2d.weight", HWIO_TO_OIHW, (1, 1, inputs, outputs)),
        Rule(f"{source}/biases", f"{target}.conv2d.bias", AS_IS, (outputs,)),
    )


def _block35(source: str, target: str) -> tuple[Row, ...]:
    return (
        *_basic_conv(f"{source}/Branch_0/Conv2d_1x1", f"{target}.branch0", (1, 1, 256, 32)),
        *_basic_conv(f"{source}/Branch_1/Conv2d_0a_1x1", f"{target}.branch1.0", (1, 1, 256, 32)),
        *_basic_conv(f"{source}/Branch_1/Conv2d_0b_3x3", f"{target}.branch1.1", (3, 3, 32, 32)),
        *_basic_conv(f"{source}/Branch_2/Conv2d_0a_1x1", f"{target}.branch2.0", (1, 1, 256, 32)),
        *_basic_conv(f"{source}/Branch_2/Conv2d_0b_3x3", f"{target}.branch2.1", (3, 3, 32, 32)),
        *_basic_conv(f"{source}/Branch_2/Conv2d_0c_3x3", f"{target}.branch2.2", (3, 3, 32, 32)),
        *_projection(source, target, 96, 256),
    )


def _two_branches(
    source: str, target: str, channels: int, width: int, taps: int
) -> tuple[Row, ...]:
    """block17 (896 channels, width 128, 7 taps) and block8 (1792, 192, 3): alike in form."""
    tall = (taps, 1, width, width)
    wide = (1, taps, width, width)
    first = (1, 1, channels, width)
    branch_1 = f"{source}/Branch_1"
    return (
        *_basic_conv(f"{source}/Branch_0/Conv2d_1x1", f"{target}.branch0", first),
        *_basic_conv(f"{branch_1}/Conv2d_0a_1x1", f"{target}.branch1.0", first),
        *_basic_conv(f"{branch_1}/Conv2d_0b_1x{taps}", f"{target}.branch1.1", wide),
        *_basic_conv(f"{branch_1}/Conv2d_0c_{taps}x1", f"{target}.branch1.2", tall),
        *_projection(source, target, 2 * width, channels),
    )


_STEM = (
    *_basic_conv("Conv2d_1a_3x3", "conv2d_1a", (3, 3, 3, 32)),
    *_basic_conv("Conv2d_2a_3x3", "conv2d_2a", (3, 3, 32, 32)),
    *_basic_conv("Conv2d_2b_3x3", "conv2d_2b", (3, 3, 32, 64)),
    *_basic_conv("Conv2d_3b_1x1", "conv2d_3b", (1, 1, 64, 80)),
    *_basic_conv("Conv2d_4a_3x3", "conv2d_4a", (3, 3, 80, 192)),
    *_basic_conv("Conv2d_4b_3x3", "conv2d_4b", (3, 3, 192, 256)),
)

_MIXED_6A = (
    *_basic_conv("Mixed_6a/Branch_0/Conv2d_1a_3x3", "mixed_6a.branch0", (3, 3, 256, 384)),
    *_basic_conv("Mixed_6a/Branch_1/Conv2d_0a_1x1", "mixed_6a.branch1.0", (1, 1, 256, 192)),
    *_basic_conv("Mixed_6a/Branch_1/Conv2d_0b_3x3", "mixed_6a.branch1.1", (3, 3, 192, 192)),
    *_basic_conv("Mixed_6a/Branch_1/Conv2d_1a_3x3", "mixed_6a.branch1.2", (3, 3, 192, 256)),
)

_MIXED_7A = (
    *_basic_conv("Mixed_7a/Branch_0/Conv2d_0a_1x1", "mixed_7a.branch0.0", (1, 1, 896, 256)),
    *_basic_conv("Mixed_7a/Branch_0/Conv2d_1a_3x3", "mixed_7a.branch0.1", (3, 3, 256, 384)),
    *_basic_conv("Mixed_7a/Branch_1/Conv2d_0a_1x1", "mixed_7a.branch1.0", (1, 1, 896, 256)),
    *_basic_conv("Mixed_7a/Branch_1/Conv2d_1a_3x3", "mixed_7a.branch1.1", (3, 3, 256, 256)),
    *_basic_conv("Mixed_7a/Branch_2/Conv2d_0a_1x1", "mixed_7a.branch2.0", (1, 1, 896, 256)),
    *_basic_conv("Mixed_7a/Branch_2/Conv2d_0b_3x3", "mixed_7a.branch2.1", (3, 3, 256, 256)),
    *_basic_conv("Mixed_7a/Branch_2/Conv2d_1a_3x3", "mixed_7a.branch2.2", (3, 3, 256, 256)),
)

_BOTTLENECK = (
    Rule(
        "InceptionResnetV1/Bottleneck/weights", "last_linear.weight", IO_TO_OI, (1792, "embedding")
    ),
    *_batch_norm("InceptionResnetV1/Bottleneck/BatchNorm", "last_bn", "embedding"),
)

_LOGITS = (
    Rule("Logits/weights", "logits.weight", IO_TO_OI, ("embedding", "classes"), part="logits"),
    Rule("Logits/biases", "logits.bias", AS_IS, ("classes",), part="logits"),
)

INCEPTION_RESNET_V1 = Architecture(
    name="inception_resnet_v1",
    description="Inception-ResNet-v1 (FaceNet)",
    rows=(
        *_STEM,
        *repeat("i", range(1, 6), _block35("Repeat/block35_{i}", "repeat_1.{i-1}")),
        *_MIXED_6A,
        *repeat(
            "i",
            range(1, 11),
            _two_branches("Repeat_1/block17_{i}", "repeat_2.{i-1}", 896, 128, 7),
        ),
        *_MIXED_7A,
        *repeat(
            "i", range(1, 6), _two_branches("Repeat_2/block8_{i}", "repeat_3.{i-1}", 1792, 192, 3)
        ),
        *_two_branches("Block8", "block8", 1792, 192, 3),
        *_BOTTLENECK,
        *_LOGITS,
    ),
    leftovers=TRAINING_LEFTOVERS,
)
