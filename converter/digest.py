"""One hash for a set of tensors, whatever file they are in.

The digest is the SHA-256 of one line per tensor, sorted by name (code points)::

    ["NAME","DTYPE",[SHAPE],"SHA-256 of its little-endian bytes in C order"]\n

each line being JSON without spaces, ASCII only. A ``.pt`` and a ``.safetensors`` of the same
tensors have the same digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from converter.catalog import TensorRef
from converter.dtypes import Array, DType, as_bytes


def tensor_sha256(array: Array) -> str:
    """SHA-256 of the array's bytes in C order; `array` is in a little-endian storage type."""
    return hashlib.sha256(as_bytes(array)).hexdigest()


class Digest:
    """Collects tensors in any order; `hexdigest` doesn't depend on it."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def add(self, name: str, dtype: DType, shape: tuple[int, ...], array: Array) -> None:
        """Add a tensor. `array` holds its values in `dtype`'s storage type."""
        line = [name, dtype.name, list(shape), tensor_sha256(array)]
        self._lines[name] = json.dumps(line, separators=(",", ":")) + "\n"

    def hexdigest(self) -> str:
        """The digest of everything added, in hexadecimal."""
        whole = "".join(self._lines[name] for name in sorted(self._lines))
        return hashlib.sha256(whole.encode("ascii")).hexdigest()


def digest(tensors: Mapping[str, TensorRef]) -> str:
    """The digest of a catalog's tensors; loads each."""
    made = Digest()
    for name, ref in tensors.items():
        made.add(name, ref.dtype, ref.shape, ref.load())
    return made.hexdigest()
