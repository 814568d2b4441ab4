"""O-Net as a TF1 graph; see `parity_tests.tf_graphs.mtcnn`."""

from parity_tests.tf_graphs.mtcnn import Conv, Dense, Head, MtcnnNet, Pool

ONET = MtcnnNet(
    name="onet",
    original="ONet",
    size=48,
    layers=(
        Conv("conv1", 32, 3, "prelu1"),
        Pool("pool1", 3, "SAME"),
        Conv("conv2", 64, 3, "prelu2"),
        Pool("pool2", 3, "VALID"),
        Conv("conv3", 64, 3, "prelu3"),
        Pool("pool3", 2, "SAME"),
        Conv("conv4", 128, 2, "prelu4"),
        Dense("conv5", 256, "prelu5"),
    ),
    heads=(
        Head("conv6-1", "probability", 2),
        Head("conv6-2", "regression", 4),
        Head("conv6-3", "landmarks", 10),
    ),
    outputs={
        "regression": "onet/conv6-2/conv6-2:0",
        "landmarks": "onet/conv6-3/conv6-3:0",
        "probability": "onet/prob1:0",
    },
)
