"""The tensors of a source: names, types and shapes at once, values when they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal

from converter.dtypes import Array, DType

Naming = Literal["tensorflow", "torch"]


@dataclass(frozen=True)
class TensorRef:
    """One tensor: its metadata, and functions that read its values.

    Args:
        name: The name in the source.
        dtype: The element type.
        shape: The size of each axis, in the source's layout.
        load: Return a read-only array of `shape` in C order, of `dtype`'s storage type. Verify the
            checksum first if the format has one (FormatError).
        check: Verify the checksum alone; by default `load` does it.

    Examples:
        >>> from converter.dtypes import FLOAT32
        >>> import numpy as np
        >>> ref = TensorRef("conv1/biases", FLOAT32, (10,), lambda: np.zeros(10, "<f4"))
        >>> ref.nbytes, ref.load().sum()
        (40, np.float32(0.0))
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    load: Callable[[], Array] = field(repr=False, compare=False)
    check: Callable[[], object] | None = field(repr=False, compare=False, default=None)

    def verify(self) -> None:
        """Verify the stored bytes, also those of strings, which can't be loaded.

        Raises:
            FormatError: The checksum does not match.
        """
        (self.check or self.load)()

    @property
    def nbytes(self) -> int:
        """Return the size of the values in bytes; 0 for strings."""
        return prod(self.shape) * self.dtype.itemsize


class Catalog(Mapping[str, TensorRef]):
    """A mapping of the tensors of one source, by name, in the source's own order.

    Args:
        tensors: The tensors by name.
        format: The name of the format, such as ``torch-zip``.
        naming: The framework whose tensor names and layouts the source uses.
        files: All files of the source.
        notes: Remarks for the receipt and for `facenet inspect`.
        release: Called after each tensor with the number of bytes that were loaded; it may give
            memory pages back to the system.

    Examples:
        >>> Catalog({}, format="torch-zip", naming="torch", files=())
        <Catalog torch-zip : 0 tensors>
    """

    def __init__(
        self,
        tensors: Mapping[str, TensorRef],
        *,
        format: str,
        naming: Naming,
        files: tuple[Path, ...],
        notes: tuple[str, ...] = (),
        release: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._tensors = dict(tensors)
        self.format = format
        self.naming: Naming = naming
        self.files = files
        self.notes = notes
        self.release = release

    def __getitem__(self, name: str) -> TensorRef:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"<Catalog {self.format} {self.files[0] if self.files else ''}: {len(self)} tensors>"

    @property
    def nbytes(self) -> int:
        """Return the size of all values in bytes."""
        return sum(ref.nbytes for ref in self.values())
