"""P-Net, the first network of MTCNN; see `facenet_models.networks.mtcnn`."""

from collections.abc import Mapping

from torch import Tensor, nn

from facenet_models.networks.network import Network, OutputShape


class PNet(Network):
    """Proposal network: fully convolutional, one answer for each 12x12 window, every 2 pixels.

    Input ``(N, 3, H, W)``, H and W at least 12. Returns ``(regression, probability)``, of shapes
    ``(N, 4, H', W')`` and ``(N, 2, H', W')`` with ``H' = ceil((H - 2) / 2) - 4`` and W' likewise,
    in the input's dtype.
    """

    architecture = "pnet"
    smallest_image = 12

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
        """Return the outputs for the images `x`, with values from -1 to 1; see the class."""
        # Shapes for the smallest input, 12x12.
        x = self.pool1(self.prelu1(self.conv1(x)))  # (N, 10, 5, 5)
        x = self.prelu2(self.conv2(x))  # (N, 16, 3, 3)
        x = self.prelu3(self.conv3(x))  # (N, 32, 1, 1)
        return self.conv4_2(x), self.softmax4_1(self.conv4_1(x))

    def outputs(self) -> Mapping[str, OutputShape]:
        """Return the outputs' names, in order, with the shape for one image."""
        return {"regression": (4, None, None), "probability": (2, None, None)}

    @classmethod
    def map_edge(cls, edge: int) -> int:
        """Return the height of the output maps for images of height `edge`; widths likewise."""
        return (edge - 1) // 2 - 4
