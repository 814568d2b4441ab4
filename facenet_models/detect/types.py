"""Names of the choices that `MTCNN` offers."""

from typing import Literal

Backend = Literal["facenet-pytorch", "reference"]
SelectionMethod = Literal[
    "probability", "largest", "largest_over_threshold", "center_weighted_size"
]
