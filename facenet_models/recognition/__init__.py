"""Recognition: faces to embeddings, and embeddings to identities.

    from facenet_models.recognition import Embeddings, distance, embed, identify

torch and Pillow are imported when `embed` runs; the rest needs NumPy only.
"""

from facenet_models.recognition.distances import Match, Metric, distance, identify
from facenet_models.recognition.embeddings import Embeddings, Miss
from facenet_models.recognition.image_files import find_images
from facenet_models.recognition.pipeline import embed

__all__ = [
    "Embeddings",
    "Match",
    "Metric",
    "Miss",
    "distance",
    "embed",
    "find_images",
    "identify",
]
