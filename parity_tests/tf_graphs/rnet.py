"""R-Net as a TF1 graph; see `parity_tests.tf_graphs.mtcnn`."""

from parity_tests.tf_graphs.mtcnn import Conv, Dense, Head, MtcnnNet, Pool

RNET = MtcnnNet(
    name="rnet",
    original="RNet",
    size=24,
    layers=(
        Conv("conv1", 28, 3, "prelu1"),
        Pool("pool1", 3, "SAME"),
        Conv("conv2", 48, 3, "prelu2"),
        Pool("pool2", 3, "VALID"),
        Conv("conv3", 64, 2, "prelu3"),
        Dense("conv4", 128, "prelu4"),
    ),
    heads=(Head("conv5-1", "probability", 2), Head("conv5-2", "regression", 4)),
    outputs={"regression": "rnet/conv5-2/conv5-2:0", "probability": "rnet/prob1:0"},
)
