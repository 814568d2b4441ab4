"""Embeddings of the faces in a frame, by which a face that comes back is recognised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn


def embedder(
    model: nn.Module, image_size: int = 160
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What `follow` takes as `embed`, from an InceptionResnetV1 in evaluation mode.

    Given an image ``(H, W, 3)`` and boxes ``(N, 4)``, it cuts faces of `image_size` pixels, as
    MTCNN does, and gives ``(N, D)`` float32: zeros, which resemble nothing, for a box without a
    pixel in the image.
    """
    import torch

    from facenet_common.errors import UsageError
    from facenet_models.detect.crops import extract_face, fixed_image_standardization

    where = next(model.parameters())

    def embed(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        faces = torch.zeros(len(boxes), 3, image_size, image_size)
        inside = np.ones(len(boxes), dtype=bool)
        for row, box in enumerate(boxes):
            try:
                faces[row] = fixed_image_standardization(extract_face(image, box, image_size))
            except UsageError:
                inside[row] = False
        with torch.inference_mode():
            vectors = model(faces.to(where)).float().cpu().numpy()
        vectors[~inside] = 0
        answer: np.ndarray = vectors
        return answer

    return embed
