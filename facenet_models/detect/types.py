"""Types of the options of `MTCNN` that take one of a few strings."""

from typing import Literal

Backend = Literal["facenet-pytorch", "reference"]
SelectionMethod = Literal[
    "probability", "largest", "largest_over_threshold", "center_weighted_size"
]
