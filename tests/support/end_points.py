"""The original's end points, in the order of the network."""

# What the original calls an end point, and the submodule whose output it is.
END_POINTS = {
    "Conv2d_1a_3x3": "conv2d_1a",
    "Conv2d_2a_3x3": "conv2d_2a",
    "Conv2d_2b_3x3": "conv2d_2b",
    "MaxPool_3a_3x3": "maxpool_3a",
    "Conv2d_3b_1x1": "conv2d_3b",
    "Conv2d_4a_3x3": "conv2d_4a",
    "Conv2d_4b_3x3": "conv2d_4b",
    "Mixed_5a": "repeat_1",
    "Mixed_6a": "mixed_6a",
    "Mixed_6b": "repeat_2",
    "Mixed_7a": "mixed_7a",
    "Mixed_8a": "repeat_3",
    "Mixed_8b": "block8",
    "PrePool": "block8",
    "PreLogitsFlatten": "dropout",
}
