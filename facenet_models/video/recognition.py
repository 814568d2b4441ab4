"""Embeddings of the faces in a frame, to recognise a face that comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn


def embedder(
    model: nn.Module, image_size: int = 160
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that computes embeddings, for the argument `embed` of `follow`.

    Args:
        model: An InceptionResnetV1 in evaluation mode.
        image_size: Edge of the faces that are cut out, in pixels.

    Returns:
        A function of an image ``(H, W, 3)`` and boxes ``(N, 4)``. It cuts out the faces as MTCNN
        does, and returns ``(N, D)`` float32. The embedding of a box without a pixel in the image
        is zeros, which are similar to nothing.

    Examples:
        >>> embed = embedder(resnet)  # doctest: +SKIP
        >>> embed(image, boxes).shape  # doctest: +SKIP
        (6, 512)
    """
    import torch

    from facenet_common.errors import UsageError
    from facenet_models.detect.crops import extract_face, fixed_image_standardization

    parameter = next(model.parameters())  # for its device and dtype

    def embed(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        faces = torch.zeros(len(boxes), 3, image_size, image_size, dtype=torch.float32)
        inside = np.ones(len(boxes), dtype=bool)
        for row, box in enumerate(boxes):
            try:
                faces[row] = fixed_image_standardization(extract_face(image, box, image_size))
            except UsageError:
                inside[row] = False
        with torch.inference_mode():
            vectors: np.ndarray = model(faces.to(parameter)).float().cpu().numpy()
        vectors[~inside] = 0
        return vectors

    return embed
