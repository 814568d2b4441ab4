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
from converter.dtypes import Array, as_bytes


def tensor_sha256(array: Array) -> str:
    """Return the SHA-256 of the array's bytes in C order, in hexadecimal.

    `array` has a little-endian storage type (`DType.numpy`).
    """
    return hashlib.sha256(as_bytes(array)).hexdigest()


class Digest:
    """The digest of tensors that are added one by one, in any order."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def add(self, ref: TensorRef, sha256: str) -> None:
        """Add a tensor by its metadata and the SHA-256 of its bytes (`tensor_sha256`)."""
        line = [ref.name, ref.dtype.name, list(ref.shape), sha256]
        self._lines[ref.name] = json.dumps(line, separators=(",", ":")) + "\n"

    def hexdigest(self) -> str:
        """Return the digest of all tensors added so far, in hexadecimal."""
        whole = "".join(self._lines[name] for name in sorted(self._lines))
        return hashlib.sha256(whole.encode("ascii")).hexdigest()


def digest(tensors: Mapping[str, TensorRef]) -> str:
    """Return the digest of a catalog's tensors, in hexadecimal. Load each tensor once.

    Raises:
        FormatError: A tensor is damaged.

    Examples:
        >>> digest({})  # the SHA-256 of no bytes
        'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    result = Digest()
    for ref in tensors.values():
        result.add(ref, tensor_sha256(ref.load()))
    return result.hexdigest()
