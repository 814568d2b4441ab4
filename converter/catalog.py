"""What a source holds: names, types and shapes now, values on demand."""

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
    """One tensor: metadata, and the way to its values.

    `load` returns a read-only array of `dtype`'s storage and `shape`, C order, after checking
    whatever checksum the format has (FormatError).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    load: Callable[[], Array] = field(repr=False, compare=False)
    check: Callable[[], object] | None = field(repr=False, compare=False, default=None)

    def verify(self) -> None:
        """Check the stored bytes as `load` does; strings, which have no NumPy type, too."""
        (self.check or self.load)()

    @property
    def nbytes(self) -> int:
        """Bytes of the values; 0 for strings."""
        return prod(self.shape) * self.dtype.itemsize


class Catalog(Mapping[str, TensorRef]):
    """The tensors of one source, by name, in the source's own order.

    `format` is the format's name, `naming` the side whose tensor names it uses, `files` every
    file it is made of, `notes` what a person should know of it. `release` is told after each
    tensor how many bytes were loaded, and lets go of memory pages now and then.
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
        """Bytes of all values together."""
        return sum(ref.nbytes for ref in self.values())
