"""P-Net as a TF1 graph; see `parity_tests.tf_graphs.mtcnn`."""

from parity_tests.tf_graphs.mtcnn import Conv, Head, MtcnnNet, Pool

PNET = MtcnnNet(
    name="pnet",
    original="PNet",
    size=None,
    layers=(
        Conv("conv1", 10, 3, "PReLU1"),
        Pool("pool1", 2, "SAME"),
        Conv("conv2", 16, 3, "PReLU2"),
        Conv("conv3", 32, 3, "PReLU3"),
    ),
    heads=(Head("conv4-1", "probability", 2), Head("conv4-2", "regression", 4)),
    outputs={"regression": "pnet/conv4-2/BiasAdd:0", "probability": "pnet/prob1:0"},
)
