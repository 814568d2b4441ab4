"""P-Net, R-Net and O-Net, the three networks of the MTCNN face detector.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks", arXiv:1604.02878. Layer sizes are those of davidsandberg/facenet's
``src/align/detect_face.py`` at 096ed77 ("the original" below), submodule names those of
facenet-pytorch, so its published state_dicts load as they are.

All three take ``(N, 3, H, W)`` floating point RGB, ``(pixel - 127.5) / 128``. The trained weights
come from a program that stores images column by column; the original transposes every image
before feeding it and the outputs afterwards. Here the kernels are transposed instead, once, when
they are converted, and images are fed upright. One trace of it stays: `_flatten_columns`.

What they return is the same everywhere:

* regression, 4 numbers: what to add to the edges left, top, right, bottom of the box looked at,
  in units of the box's width and height;
* probability, 2 numbers that add up to 1: no face, face;
* landmarks (O-Net only), 10 numbers: x of left eye, right eye, nose, left and right mouth corner
  in units of the box's width from its left edge, then the five y likewise.

facenet-pytorch's ``pretrained`` parameter is not here yet. No layer acts differently in training
mode, so ``eval()`` changes nothing.
"""

from torch import Tensor, nn


class PNet(nn.Module):
    """Proposal network: fully convolutional, one answer for each 12x12 window, every 2 pixels.

    Input ``(N, 3, H, W)``, H and W at least 12. Returns ``(regression, probability)``, of shapes
    ``(N, 4, H', W')`` and ``(N, 2, H', W')`` with ``H' = ceil((H - 2) / 2) - 4`` and W' likewise,
    in the input's dtype.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, stride=2, ceil_mode=True)  # SAME in the original
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.softmax4_1 = nn.Softmax(dim=1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # Shapes for the smallest input, 12x12.
        x = self.pool1(self.prelu1(self.conv1(x)))  # (N, 10, 5, 5)
        x = self.prelu2(self.conv2(x))  # (N, 16, 3, 3)
        x = self.prelu3(self.conv3(x))  # (N, 32, 1, 1)
        return self.conv4_2(x), self.softmax4_1(self.conv4_1(x))


class RNet(nn.Module):
    """Refinement network: judges and moves one candidate box.

    Input ``(N, 3, 24, 24)``. Returns ``(regression, probability)``, of shapes ``(N, 4)`` and
    ``(N, 2)``, in the input's dtype. N may be 0.

    Raises:
        ValueError: Another input size; facenet-pytorch takes 22x22 to 25x25 without a word.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # SAME in the original
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, stride=2)  # VALID
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(64 * 3 * 3, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.softmax5_1 = nn.Softmax(dim=1)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _require_size("RNet", x, 24)
        x = self.pool1(self.prelu1(self.conv1(x)))  # (N, 28, 11, 11)
        x = self.pool2(self.prelu2(self.conv2(x)))  # (N, 48, 4, 4)
        x = self.prelu3(self.conv3(x))  # (N, 64, 3, 3)
        x = self.prelu4(self.dense4(_flatten_columns(x)))  # (N, 128)
        return self.dense5_2(x), self.softmax5_1(self.dense5_1(x))


class ONet(nn.Module):
    """Output network: final box, face probability and five landmarks.

    Input ``(N, 3, 48, 48)``. Returns ``(regression, landmarks, probability)``, of shapes
    ``(N, 4)``, ``(N, 10)`` and ``(N, 2)``, in the input's dtype. N may be 0.

    Raises:
        ValueError: Another input size; facenet-pytorch takes some others without a word.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # SAME in the original
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, stride=2)  # VALID
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, stride=2)  # SAME, but 8 divides evenly
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(128 * 3 * 3, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.softmax6_1 = nn.Softmax(dim=1)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _require_size("ONet", x, 48)
        x = self.pool1(self.prelu1(self.conv1(x)))  # (N, 32, 23, 23)
        x = self.pool2(self.prelu2(self.conv2(x)))  # (N, 64, 10, 10)
        x = self.pool3(self.prelu3(self.conv3(x)))  # (N, 64, 4, 4)
        x = self.prelu4(self.conv4(x))  # (N, 128, 3, 3)
        x = self.prelu5(self.dense5(_flatten_columns(x)))  # (N, 256)
        return self.dense6_2(x), self.dense6_3(x), self.softmax6_1(self.dense6_1(x))


def _flatten_columns(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` to ``(N, W * H * C)``: the order in which the dense weights expect it."""
    return x.permute(0, 3, 2, 1).flatten(1)


def _require_size(net: str, x: Tensor, size: int) -> None:
    """Refuse what the layers could digest by accident: they round, and a wrong size may fit."""
    if x.shape[1:] != (3, size, size):
        raise ValueError(f"{net} takes input of shape (N, 3, {size}, {size}), not {(*x.shape,)}")
