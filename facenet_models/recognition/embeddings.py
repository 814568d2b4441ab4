"""Embeddings with the names of the images that they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from facenet_common.errors import FacenetError, UsageError

NO_FACE = "no face found"


class Miss(NamedTuple):
    """An image without an embedding, and why it has none."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Embeddings:
    """Embeddings of images, each beside its image's name.

    Attributes:
        names: One name for each embedding, in the order in which the images came. Images of a
            folder are named by their path in it, with ``/``: ``Ann/Ann_0001.jpg``.
        vectors: ``(N, D)`` float32, finite; row i belongs to ``names[i]``.
        misses: The images that have no embedding, in the order in which they came.

    Raises:
        FacenetError: names and vectors differ in number, a name is taken twice, empty, or holds
            a NUL, or the vectors are not a finite float32 matrix.
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    misses: tuple[Miss, ...] = field(default=())

    def __post_init__(self) -> None:
        vectors = self.vectors
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise FacenetError(
                "embeddings must be a float32 matrix",
                expected="float32, (N, D)",
                found=f"{vectors.dtype}, {vectors.shape}",
            )
        if len(vectors) != len(self.names):
            raise FacenetError(
                "names and embeddings differ in number",
                expected=f"{len(self.names)} rows, one for each name",
                found=f"{len(vectors)} rows",
            )
        check_names([*self.names, *(miss.name for miss in self.misses)])
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            raise FacenetError(
                f"{bad.size} of {len(vectors)} embeddings hold NaN or infinity",
                found=f"the first is that of {self.names[bad[0]]}",
                next_step="check the weights of the model that computed them",
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """Who each image shows: see `label_of`."""
        return tuple(map(label_of, self.names))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write to ``.npz`` or ``.parquet``, as the path ends; whole, or not at all.

        Raises:
            UsageError: another ending, or the file exists and `overwrite` is not set.
            OutputError: the file could not be written.
            ImportError: Parquet needs pyarrow; the message says how to install it.
        """
        from facenet_models.recognition.embedding_files import save

        save(self, Path(path), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Embeddings:
        """Read what `save` wrote. Nothing in the file is executed, and all of it is checked.

        Raises:
            UsageError: another ending, or no such file.
            FacenetError: damaged, or not a file of embeddings.
            ImportError: Parquet needs pyarrow; the message says how to install it.
        """
        from facenet_models.recognition.embedding_files import load

        return load(Path(path))


def label_of(name: str) -> str:
    """Whom an image shows, by its name: its folder (``Ann/1.jpg`` is of ``Ann``).

    An image in no folder is its own identity: ``Ann.jpg`` is of ``Ann``.
    """
    path = PurePosixPath(name)
    folder = path.parent.as_posix()
    return path.stem if folder == "." else folder


def check_names(names: Iterable[str]) -> None:
    """FacenetError unless all names are different, and none is empty or holds a NUL.

    NumPy drops NULs at the end of a string.
    """
    seen: set[str] = set()
    for name in names:
        if not name or "\0" in name:
            raise UsageError("a name is empty or holds a NUL character", found=repr(name))
        if name in seen:
            raise UsageError("two images have the same name", found=name)
        seen.add(name)
