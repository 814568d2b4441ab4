"""R-Net, the second network of MTCNN; see `facenet_models.networks.mtcnn`."""

from collections.abc import Mapping

from torch import Tensor, nn

from facenet_models.networks.mtcnn import flatten_columns, require_size
from facenet_models.networks.network import Network, OutputShape


class RNet(Network):
    """Refinement network: judges and moves one candidate box.

    Input ``(N, 3, 24, 24)``. Returns ``(regression, probability)``, of shapes ``(N, 4)`` and
    ``(N, 2)``, in the input's dtype. N may be 0.

    Raises:
        ValueError: Another input size; facenet-pytorch takes 22x22 to 25x25 without an error.
    """

    architecture = "rnet"
    image_size = (24, 24)
    smallest_image = 24

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
        """Return the outputs for the images `x`, with values from -1 to 1; see the class."""
        require_size("RNet", x, 24)
        x = self.pool1(self.prelu1(self.conv1(x)))  # (N, 28, 11, 11)
        x = self.pool2(self.prelu2(self.conv2(x)))  # (N, 48, 4, 4)
        x = self.prelu3(self.conv3(x))  # (N, 64, 3, 3)
        x = self.prelu4(self.dense4(flatten_columns(x)))  # (N, 128)
        return self.dense5_2(x), self.softmax5_1(self.dense5_1(x))

    def outputs(self) -> Mapping[str, OutputShape]:
        """Return the outputs' names, in order, with the shape for one image."""
        return {"regression": (4,), "probability": (2,)}
