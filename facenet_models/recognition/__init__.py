"""Face recognition: compute embeddings of faces, store them, and compare them.

    from facenet_models.recognition import Embeddings, distance, embed, identify

`pipeline`: images to embeddings. `embeddings`: the result; `formats`: its files. `distances`:
distances and nearest identities. `image_files`: find and read images. Only `embed` needs torch
and Pillow, and imports them when it is called.
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
