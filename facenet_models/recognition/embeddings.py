"""Embeddings, each with the name of its image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from facenet_common.errors import FacenetError, UsageError
from facenet_models.recognition.formats import files
from facenet_models.recognition.formats.table import Miss, Table

__all__ = ["NO_FACE", "Embeddings", "Miss", "check_names", "label_of"]

NO_FACE = "no face found"


@dataclass(frozen=True, eq=False)  # comparing arrays with == gives an array
class Embeddings:
    """Embeddings of images, each with the name of its image.

    Attributes:
        names: One name for each embedding, in the order of the images. The name of an image in a
            folder is its path in that folder, with ``/``: ``Ann/Ann_0001.jpg``.
        vectors: ``(N, D)`` float32, finite; row i belongs to ``names[i]``.
        misses: The images without an embedding, in their order.

    Raises:
        FacenetError: The numbers of names and vectors differ, a name appears twice, is empty or
            contains a NUL character, or the vectors are not a finite float32 matrix.

    Examples:
        >>> vectors = np.eye(2, 512, dtype=np.float32)
        >>> Embeddings(("Ann/1.jpg", "Bob/1.jpg"), vectors).labels
        ('Ann', 'Bob')
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
                "the numbers of names and embeddings differ",
                expected=f"{len(self.names)} rows, one for each name",
                found=f"{len(vectors)} rows",
            )
        check_names([*self.names, *(miss.name for miss in self.misses)])
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            raise FacenetError(
                f"{bad.size} of {len(vectors)} embeddings contain NaN or infinity",
                found=f"the first is that of {self.names[bad[0]]}",
                next_step="check the weights of the model that computed them",
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the person on each image; see `label_of`."""
        return tuple(map(label_of, self.names))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write to a ``.npz`` or ``.parquet`` file, completely or not at all.

        Args:
            path: Its suffix selects the format.
            overwrite: Replace an existing file.

        Raises:
            UsageError: The suffix is unknown, or the file exists and `overwrite` is not set.
            OutputError: The file could not be written.
            MissingPackageError: Parquet needs pyarrow, which is not installed.

        Examples:
            >>> embeddings.save("people.npz")  # doctest: +SKIP
        """
        table = Table(self.names, self.labels, self.vectors, self.misses)
        files.save(table, Path(path), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Embeddings:
        """Read a file that `save` wrote. Nothing in it is executed, and all of it is checked.

        Raises:
            UsageError: The suffix is unknown, or there is no such file.
            FacenetError: The file is damaged, or of another kind.
            MissingPackageError: Parquet needs pyarrow, which is not installed.

        Examples:
            >>> embeddings = Embeddings.load("people.npz")  # doctest: +SKIP
        """
        names, _, vectors, misses = files.load(Path(path))
        try:
            return cls(names, vectors, misses)
        except FacenetError as error:
            raise FacenetError(
                error.problem, file=path, expected=error.expected, found=error.found
            ) from error


def label_of(name: str) -> str:
    """Return the person on an image: the folder in the image's name, else the file's stem.

    Examples:
        >>> label_of("Ann/1.jpg"), label_of("Bob.jpg")
        ('Ann', 'Bob')
    """
    path = PurePosixPath(name)
    folder = path.parent.as_posix()
    return path.stem if folder == "." else folder


def check_names(names: Iterable[str]) -> None:
    """Check that all names differ, and that none is empty or contains a NUL character.

    NumPy drops NUL characters at the end of a string, so such a name could not be saved.

    Raises:
        UsageError: A name is not allowed.
    """
    seen: set[str] = set()
    for name in names:
        if not name or "\0" in name:
            raise UsageError("a name is empty or contains a NUL character", found=repr(name))
        if name in seen:
            raise UsageError("two images have the same name", found=name)
        seen.add(name)
