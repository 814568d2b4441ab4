"""The content of a file of embeddings, the same in every format."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FORMAT = "facenet-embeddings-1"  # every file has this mark


class Miss(NamedTuple):
    """An image without an embedding, and why it has none."""

    name: str
    reason: str


class Table(NamedTuple):
    """The content of a file of embeddings.

    Attributes:
        names: One name for each embedding.
        labels: One label for each embedding; empty in formats that do not store them.
        vectors: ``(N, D)``.
        misses: The images without an embedding.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: np.ndarray
    misses: tuple[Miss, ...]


class InvalidFileError(Exception):
    """The file has another content than a file of embeddings; the text says which."""
