"""O-Net, the third network of MTCNN; see `facenet_models.networks.mtcnn`."""

from collections.abc import Mapping

from torch import Tensor, nn

from facenet_models.networks.mtcnn import flatten_columns, require_size
from facenet_models.networks.network import Network, OutputShape


class ONet(Network):
    """Output network: final box, face probability and five landmarks.

    Input ``(N, 3, 48, 48)``. Returns ``(regression, landmarks, probability)``, of shapes
    ``(N, 4)``, ``(N, 10)`` and ``(N, 2)``, in the input's dtype. N may be 0.

    Raises:
        ValueError: Another input size; facenet-pytorch takes some others without an error.
    """

    architecture = "onet"
    image_size = (48, 48)
    smallest_image = 48

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
        """Return the outputs for the images `x`, with values from -1 to 1; see the class."""
        require_size("ONet", x, 48)
        x = self.pool1(self.prelu1(self.conv1(x)))  # (N, 32, 23, 23)
        x = self.pool2(self.prelu2(self.conv2(x)))  # (N, 64, 10, 10)
        x = self.pool3(self.prelu3(self.conv3(x)))  # (N, 64, 4, 4)
        x = self.prelu4(self.conv4(x))  # (N, 128, 3, 3)
        x = self.prelu5(self.dense5(flatten_columns(x)))  # (N, 256)
        return self.dense6_2(x), self.dense6_3(x), self.softmax6_1(self.dense6_1(x))

    def outputs(self) -> Mapping[str, OutputShape]:
        """Return the outputs' names, in order, with the shape for one image."""
        return {"regression": (4,), "landmarks": (10,), "probability": (2,)}
