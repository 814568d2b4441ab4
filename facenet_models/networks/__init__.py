"""The networks, as modules: no downloads, no files."""

PREPROCESSING = "RGB, (pixel - 127.5) / 128, NCHW"  # of the input of every network
