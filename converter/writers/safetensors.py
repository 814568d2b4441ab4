"""Write a .safetensors file. Its bytes depend on the tensors alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from converter.catalog import Naming, TensorRef
from converter.sources.safetensors import METADATA
from converter.writers.stream import OnWritten, stream
from facenet_common.errors import UsageError

FORMAT = "safetensors"
NAMING: Naming = "torch"
SUFFIXES = (".safetensors",)

ALIGNMENT = 64  # bytes; the format requires 8


def write(path: Path, tensors: Sequence[TensorRef], on_written: OnWritten) -> None:
    """Write `tensors` to `path`. At most two batches of them are in memory.

    Tensors are sorted by the size of their element type, largest first, then by name, as in the
    reference implementation (safetensors/src/tensor.rs): so each is aligned to its element type.

    Args:
        path: The file.
        tensors: The tensors.
        on_written: Called after each tensor.

    Raises:
        OSError: The file can't be written.
        UsageError: The format lacks an element type.
    """
    ordered = sorted(tensors, key=lambda ref: (-ref.dtype.itemsize, ref.name))
    with path.open("wb") as file:
        file.write(_header(ordered))
        for _, data, _ in stream(ordered, on_written):
            file.write(data)


def _header(ordered: Sequence[TensorRef]) -> bytes:
    entries: dict[str, object] = {METADATA: {"format": "pt"}}  # transformers requires it
    position = 0
    for ref in ordered:
        if ref.dtype.safetensors is None:
            raise UsageError(
                "a .safetensors file can't hold this element type",
                tensor=ref.name,
                found=ref.dtype,
                next_step="write a .pt file instead",
            )
        entries[ref.name] = {
            "dtype": ref.dtype.safetensors,
            "shape": list(ref.shape),
            "data_offsets": [position, position + ref.nbytes],
        }
        position += ref.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
