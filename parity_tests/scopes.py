"""Scopes of the original's graphs beside the paths of torch's modules, as bare data.

From davidsandberg/facenet ``src/models/inception_resnet_v1.py`` and ``src/align/detect_face.py`` at
096ed77, and from facenet_models. `parity_tests.probes` makes probes of them.
"""

from __future__ import annotations

from collections.abc import Mapping

Branches = tuple[tuple[str, ...], ...]

BLOCK35: Branches = (
    ("Conv2d_1x1",),
    ("Conv2d_0a_1x1", "Conv2d_0b_3x3"),
    ("Conv2d_0a_1x1", "Conv2d_0b_3x3", "Conv2d_0c_3x3"),
)
BLOCK17: Branches = (("Conv2d_1x1",), ("Conv2d_0a_1x1", "Conv2d_0b_1x7", "Conv2d_0c_7x1"))
BLOCK8: Branches = (("Conv2d_1x1",), ("Conv2d_0a_1x1", "Conv2d_0b_1x3", "Conv2d_0c_3x1"))
MIXED_6A: Branches = (
    ("Conv2d_1a_3x3",),
    ("Conv2d_0a_1x1", "Conv2d_0b_3x3", "Conv2d_1a_3x3"),
    ("MaxPool_1a_3x3",),
)
MIXED_7A: Branches = (
    ("Conv2d_0a_1x1", "Conv2d_1a_3x3"),
    ("Conv2d_0a_1x1", "Conv2d_1a_3x3"),
    ("Conv2d_0a_1x1", "Conv2d_0b_3x3", "Conv2d_1a_3x3"),
    ("MaxPool_1a_3x3",),
)
STEM = {
    "Conv2d_1a_3x3": "conv2d_1a",
    "Conv2d_2a_3x3": "conv2d_2a",
    "Conv2d_2b_3x3": "conv2d_2b",
    "MaxPool_3a_3x3": "maxpool_3a",
    "Conv2d_3b_1x1": "conv2d_3b",
    "Conv2d_4a_3x3": "conv2d_4a",
    "Conv2d_4b_3x3": "conv2d_4b",
}
TAIL = ("avgpool_1a", "dropout", "last_linear", "last_bn")
MIXED = {"Mixed_6a": ("mixed_6a", MIXED_6A), "Mixed_7a": ("mixed_7a", MIXED_7A)}
# Scope: torch path of the Sequential, the blocks' name, how many, branches, end point.
REPEATS = {
    "Repeat": ("repeat_1", "block35", 5, BLOCK35, "Mixed_5a"),
    "Repeat_1": ("repeat_2", "block17", 10, BLOCK17, "Mixed_6b"),
    "Repeat_2": ("repeat_3", "block8", 5, BLOCK8, "Mixed_8a"),
}

# Scope, torch path, name of the scope before ("" is the images). Prob1's tensor has no scope.
MTCNN: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "pnet": (
        ("conv1", "conv1", ""),
        ("PReLU1", "prelu1", "conv1"),
        ("pool1", "pool1", "PReLU1"),
        ("conv2", "conv2", "pool1"),
        ("PReLU2", "prelu2", "conv2"),
        ("conv3", "conv3", "PReLU2"),
        ("PReLU3", "prelu3", "conv3"),
        ("conv4-1", "conv4_1", "PReLU3"),
        ("prob1", "softmax4_1", "conv4-1"),
        ("conv4-2", "conv4_2", "PReLU3"),
    ),
    "rnet": (
        ("conv1", "conv1", ""),
        ("prelu1", "prelu1", "conv1"),
        ("pool1", "pool1", "prelu1"),
        ("conv2", "conv2", "pool1"),
        ("prelu2", "prelu2", "conv2"),
        ("pool2", "pool2", "prelu2"),
        ("conv3", "conv3", "pool2"),
        ("prelu3", "prelu3", "conv3"),
        ("conv4", "dense4", "prelu3"),
        ("prelu4", "prelu4", "conv4"),
        ("conv5-1", "dense5_1", "prelu4"),
        ("prob1", "softmax5_1", "conv5-1"),
        ("conv5-2", "dense5_2", "prelu4"),
    ),
    "onet": (
        ("conv1", "conv1", ""),
        ("prelu1", "prelu1", "conv1"),
        ("pool1", "pool1", "prelu1"),
        ("conv2", "conv2", "pool1"),
        ("prelu2", "prelu2", "conv2"),
        ("pool2", "pool2", "prelu2"),
        ("conv3", "conv3", "pool2"),
        ("prelu3", "prelu3", "conv3"),
        ("pool3", "pool3", "prelu3"),
        ("conv4", "conv4", "pool3"),
        ("prelu4", "prelu4", "conv4"),
        ("conv5", "dense5", "prelu4"),
        ("prelu5", "prelu5", "conv5"),
        ("conv6-1", "dense6_1", "prelu5"),
        ("prob1", "softmax6_1", "conv6-1"),
        ("conv6-2", "dense6_2", "prelu5"),
        ("conv6-3", "dense6_3", "prelu5"),
    ),
}
