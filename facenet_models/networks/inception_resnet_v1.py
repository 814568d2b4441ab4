"""Inception-ResNet-v1: aligned face crops to embeddings, or to class logits.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", arXiv:1602.07261, as davidsandberg/facenet builds and trains it
(``src/models/inception_resnet_v1.py`` at 096ed77, "the original" below). Its numbers differ from
the paper's in places; the original's count here, because the trained weights fit them.
Submodules carry facenet-pytorch's names, so state_dicts of either load into the other, and a
forward hook on a submodule sees what the original calls an end point.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from os import PathLike
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facenet_common.errors import UsageError
from facenet_models.networks.folding import folded
from facenet_models.networks.network import Network, OutputShape
from facenet_models.networks.pretrained import load

NAME = "InceptionResnetV1"  # of the class, as the registry of weights has it
BATCH_NORM_EPS = 1e-3  # the original's batch_norm_params["epsilon"]
BATCH_NORM_MOMENTUM = 0.1  # facenet-pytorch's, torch's default; the original trained with 0.005
NORMALIZE_EPS = 1e-5  # tf.nn.l2_normalize(x, 1, 1e-10) bounds the squared norm, torch the norm


class Conv(NamedTuple):
    """One convolution: output channels, kernel height and width, stride, and the padding.

    `padded` is TensorFlow's SAME, else VALID. Only stride 1 is ever padded here, where SAME is
    symmetric; at stride 2 TensorFlow's would depend on the input's size.
    """

    channels: int
    height: int
    width: int
    stride: int = 1
    padded: bool = True

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns of zeros added on each side."""
        return (self.height // 2, self.width // 2) if self.padded else (0, 0)


Branch = tuple[Conv, ...]

# The branches of each block, in the order in which their outputs are concatenated.
BLOCK35: tuple[Branch, ...] = (
    (Conv(32, 1, 1),),
    (Conv(32, 1, 1), Conv(32, 3, 3)),
    (Conv(32, 1, 1), Conv(32, 3, 3), Conv(32, 3, 3)),
)
BLOCK17: tuple[Branch, ...] = (
    (Conv(128, 1, 1),),
    (Conv(128, 1, 1), Conv(128, 1, 7), Conv(128, 7, 1)),
)
BLOCK8: tuple[Branch, ...] = (
    (Conv(192, 1, 1),),
    (Conv(192, 1, 1), Conv(192, 1, 3), Conv(192, 3, 1)),
)
MIXED_6A: tuple[Branch, ...] = (
    (Conv(384, 3, 3, stride=2, padded=False),),
    (Conv(192, 1, 1), Conv(192, 3, 3), Conv(256, 3, 3, stride=2, padded=False)),
)
MIXED_7A: tuple[Branch, ...] = (
    (Conv(256, 1, 1), Conv(384, 3, 3, stride=2, padded=False)),
    (Conv(256, 1, 1), Conv(256, 3, 3, stride=2, padded=False)),
    (Conv(256, 1, 1), Conv(256, 3, 3), Conv(256, 3, 3, stride=2, padded=False)),
)


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, spec: Conv) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            spec.channels,
            (spec.height, spec.width),
            stride=spec.stride,
            padding=spec.padding,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(spec.channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
        self.relu = nn.ReLU()  # not in place: a hook on bn must keep what bn gave

    def forward(self, x: Tensor) -> Tensor:
        """Return ``relu(bn(conv(x)))``; `x` is ``(N, C, H, W)``."""
        x = self.bn(self.conv(x))
        out: Tensor = self.relu(x)
        return out

    def fold_batch_norm(self) -> None:
        """Make `bn` part of `conv`; see `facenet_models.networks.folding`."""
        self.conv = folded(self.conv, self.bn)
        self.bn = nn.Identity()  # type: ignore[assignment] # it has the same call
        self.relu.inplace = True


class Branches(nn.Module):
    """Parallel branches over one input, concatenated along the channels.

    Submodules are ``branch0``, ``branch1``, …: a `BasicConv2d` where the branch is one
    convolution, else a Sequential of them. `pooled` adds the input's 3x3 stride-2 maximum as the
    last branch.
    """

    def __init__(
        self, in_channels: int, branches: tuple[Branch, ...], *, pooled: bool = False
    ) -> None:
        super().__init__()
        modules = [_chain(in_channels, branch) for branch in branches]
        if pooled:
            modules.append(nn.MaxPool2d(3, stride=2))
        self._names = tuple(f"branch{i}" for i in range(len(modules)))
        for name, module in zip(self._names, modules, strict=True):
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' outputs for `x`, ``(N, C, H, W)``, concatenated along C."""
        return torch.cat([self.get_submodule(name)(x) for name in self._names], dim=1)


class Residual(Branches):
    """``relu(x + scale * conv2d(branches(x)))``; `relu` False leaves the last step out."""

    def __init__(
        self,
        channels: int,
        branches: tuple[Branch, ...],
        *,
        scale: float = 1.0,
        relu: bool = True,
    ) -> None:
        super().__init__(channels, branches)
        self.scale = scale
        self.conv2d = nn.Conv2d(sum(branch[-1].channels for branch in branches), channels, 1)
        self.relu = nn.ReLU() if relu else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the shape of `x`, ``(N, C, H, W)``."""
        x = self.conv2d(super().forward(x)) * self.scale + x
        return x if self.relu is None else self.relu(x)

    def extra_repr(self) -> str:
        """Return the scale, for ``print(model)``."""
        return f"scale={self.scale}"


class InceptionResnetV1(Network):
    """Face crops to embeddings of unit length or, with `classify`, to class logits.

    Args:
        pretrained: Weights to start from: ``"vggface2"``, ``"casia-webface"``, or the path of a
            ``.pt`` or ``.safetensors`` file. Named ones are downloaded once, and their hash is
            checked on every load (see `facenet_models.weights.pretrained`). None: random weights.
        classify: Return logits instead of embeddings. May be switched at any time by assigning
            ``model.classify``.
        num_classes: Number of classes of the ``logits`` layer. None: that of the weights, if any,
            else no such layer. Another number than theirs gives a new, untrained layer.
        dropout_prob: Probability of zeroing a pooled feature, in training mode only. 0.6 is
            facenet-pytorch's default; the original takes the probability of keeping one.
        device: Where the parameters go (anything `torch.nn.Module.to` takes). Kept, as passed, in
            ``model.device``, which a later ``model.to(...)`` does not change; None means the CPU.
        embedding_size: Length of an embedding. None: that of the weights, else 512, which both
            published checkpoints have.

    Input of a call: ``(N, 3, H, W)``, floating point of the parameters' dtype, RGB, standardised
    as in training: ``(pixel - 127.5) / 128`` for the published weights. Training used 160x160;
    any size from 75x75 works, because the last feature map is averaged whatever its size.
    Output: ``(N, embedding_size)``, each row of L2 norm 1, or ``(N, num_classes)`` unnormalised
    logits; dtype and device as the input's.

    New models are in training mode, pretrained ones too: call ``eval()`` before asking for
    embeddings. In training mode a batch of one raises ValueError (the last batch normalisation
    needs two).

    Differences from facenet-pytorch 2.6.0's class of the same name:

    * `pretrained` takes paths too, and there is `embedding_size`, by keyword only;
    * ``logits`` exists whenever `num_classes` is given, not only if `classify` is set as well, so
      `classify` can be switched on later; without it ``model.logits`` is None, not missing;
    * with `pretrained` and as many `num_classes` as the weights have, ``logits`` stays trained;
    * asking for logits that cannot be given is a ValueError or RuntimeError with a remedy, not a
      bare Exception or AttributeError;
    * rows shorter than 1e-5 are divided by 1e-5, as TensorFlow's ``l2_normalize(x, 1, 1e-10)``
      does, not by their length. All others come out equal to the last bit.

    Raises:
        ValueError: `classify` without `num_classes` or a classifier in the weights, a size below
            1 or other than that of the weights, or a `dropout_prob` outside [0, 1].
        FacenetError: The weights can't be had, or are not those of this network.
    """

    architecture = "inception_resnet_v1"
    smallest_image = 75

    logits: nn.Linear | None

    def __init__(
        self,
        pretrained: str | PathLike[str] | None = None,
        classify: bool = False,
        num_classes: int | None = None,
        dropout_prob: float = 0.6,
        device: torch.device | str | int | None = None,
        *,
        embedding_size: int | None = None,
    ) -> None:
        super().__init__()
        if classify and num_classes is None and pretrained is None:
            raise ValueError(
                "classify=True needs the number of classes: pass num_classes, "
                "for example num_classes=8631 for VGGFace2"
            )
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be None or at least 1, not {num_classes}")
        if embedding_size is not None and embedding_size < 1:
            raise ValueError(f"embedding_size must be at least 1, not {embedding_size}")
        self.pretrained = pretrained
        self.classify = classify
        self.num_classes = num_classes

        loaded, classes = None if pretrained is None else load(pretrained, NAME), num_classes
        if loaded is not None:
            classes = loaded.rows("logits.weight")
            if classify and classes is None and num_classes is None:
                raise ValueError(f"{loaded.file} holds no classifier: pass num_classes")
            trained = loaded.rows("last_linear.weight")
            if embedding_size is not None and trained not in (None, embedding_size):
                raise ValueError(f"embedding_size is {trained} in {loaded.file}")
            embedding_size = trained
        size = embedding_size or 512
        with nullcontext() if loaded is None else torch.device("meta"):
            self._build(size, classes, dropout_prob)  # no random numbers where weights come
        if loaded is not None:
            self.to_empty(device="cpu")
            loaded.fill(self)
            if num_classes is not None and num_classes != classes:
                self.logits = nn.Linear(size, num_classes)

        self.device = torch.device("cpu") if device is None else device
        self.to(self.device)

    def _build(self, embedding_size: int, classes: int | None, dropout_prob: float) -> None:
        self.conv2d_1a = BasicConv2d(3, Conv(32, 3, 3, stride=2, padded=False))
        self.conv2d_2a = BasicConv2d(32, Conv(32, 3, 3, padded=False))
        self.conv2d_2b = BasicConv2d(32, Conv(64, 3, 3))
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = BasicConv2d(64, Conv(80, 1, 1))
        self.conv2d_4a = BasicConv2d(80, Conv(192, 3, 3, padded=False))
        self.conv2d_4b = BasicConv2d(192, Conv(256, 3, 3, stride=2, padded=False))
        self.repeat_1 = _repeat(5, 256, BLOCK35, scale=0.17)
        self.mixed_6a = Branches(256, MIXED_6A, pooled=True)
        self.repeat_2 = _repeat(10, 896, BLOCK17, scale=0.10)
        self.mixed_7a = Branches(896, MIXED_7A, pooled=True)
        self.repeat_3 = _repeat(5, 1792, BLOCK8, scale=0.20)
        self.block8 = Residual(1792, BLOCK8, relu=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout_prob)
        self.last_linear = nn.Linear(1792, embedding_size, bias=False)
        self.last_bn = nn.BatchNorm1d(
            embedding_size, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM
        )
        self.logits = None if classes is None else nn.Linear(embedding_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings or logits of a batch; shapes are in the class's docstring.

        Raises:
            RuntimeError: ``classify`` is set on a model that was built without ``num_classes``.
        """
        # Shapes for 160x160 input.
        x = self.conv2d_1a(x)  # (N, 32, 79, 79)
        x = self.conv2d_2a(x)  # (N, 32, 77, 77)
        x = self.conv2d_2b(x)  # (N, 64, 77, 77)
        x = self.maxpool_3a(x)  # (N, 64, 38, 38)
        x = self.conv2d_3b(x)  # (N, 80, 38, 38)
        x = self.conv2d_4a(x)  # (N, 192, 36, 36)
        x = self.conv2d_4b(x)  # (N, 256, 17, 17)
        x = self.repeat_1(x)  # (N, 256, 17, 17)
        x = self.mixed_6a(x)  # (N, 896, 8, 8)
        x = self.repeat_2(x)  # (N, 896, 8, 8)
        x = self.mixed_7a(x)  # (N, 1792, 3, 3)
        x = self.repeat_3(x)  # (N, 1792, 3, 3)
        x = self.block8(x)  # (N, 1792, 3, 3)
        x = self.avgpool_1a(x)  # (N, 1792, 1, 1)
        x = self.dropout(x)
        x = self.last_linear(x.flatten(1))  # (N, embedding_size)
        x = self.last_bn(x)
        if not self.classify:
            return F.normalize(x, p=2.0, dim=1, eps=NORMALIZE_EPS)
        if self.logits is None:
            raise RuntimeError(
                "classify is set, but this model has no logits layer: "
                "build it with num_classes, or set model.classify = False"
            )
        logits: Tensor = self.logits(x)  # (N, num_classes)
        return logits

    def outputs(self) -> Mapping[str, OutputShape]:
        """Return the embeddings, or with ``classify`` the logits.

        Raises:
            UsageError: ``classify`` is set on a model without a classifier.
        """
        if not self.classify:
            return {"embeddings": (self.last_linear.out_features,)}
        if self.logits is None:
            raise UsageError(
                "classify is set, but this model has no logits layer",
                next_step="build it with num_classes, or set model.classify = False",
            )
        return {"logits": (self.logits.out_features,)}

    def dims(self) -> dict[str, int]:
        """Return ``embedding`` and, with a classifier, ``classes``."""
        classes = {} if self.logits is None else {"classes": self.logits.out_features}
        return {"embedding": self.last_linear.out_features, **classes}

    @classmethod
    def read_dims(cls, state: Mapping[str, Tensor]) -> dict[str, int] | None:
        """Return the sizes in a state_dict; None where that of an embedding isn't there."""
        names = {"embedding": "last_linear.weight", "classes": "logits.weight"}
        found = {
            dim: state[name].shape[0]
            for dim, name in names.items()
            if name in state and state[name].ndim == 2 and state[name].shape[0] > 0
        }
        return found if "embedding" in found else None

    @classmethod
    def from_dims(cls, dims: Mapping[str, int]) -> "InceptionResnetV1":
        """Return a network of these sizes on the meta device; no or 0 classes: no classifier."""
        with torch.device("meta"):
            return cls(
                num_classes=dims.get("classes") or None,
                embedding_size=dims["embedding"],
                device="meta",
            )

    def fold_batch_norm(self) -> None:
        """Make `last_bn` part of `last_linear`; see `facenet_models.networks.folding`."""
        self.last_linear = folded(self.last_linear, self.last_bn)
        self.last_bn = nn.Identity()  # type: ignore[assignment] # it has the same call
        self.dropout = nn.Identity()  # type: ignore[assignment] # it has the same call


def _chain(in_channels: int, branch: Branch) -> nn.Module:
    """The convolutions of `branch`, one after the other."""
    inputs = (in_channels, *(conv.channels for conv in branch[:-1]))
    convs = [BasicConv2d(count, conv) for count, conv in zip(inputs, branch, strict=True)]
    return convs[0] if len(convs) == 1 else nn.Sequential(*convs)


def _repeat(
    count: int, channels: int, branches: tuple[Branch, ...], *, scale: float
) -> nn.Sequential:
    """`count` residual blocks of one kind, one after the other."""
    return nn.Sequential(*(Residual(channels, branches, scale=scale) for _ in range(count)))
