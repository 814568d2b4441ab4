"""The safetensors format: a JSON header with the offsets of the tensors, followed by their bytes.

Source: https://github.com/huggingface/safetensors#format. There is no checksum; offsets must fill
the file without gaps or overlaps.
"""

from __future__ import annotations

import json
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import BY_SAFETENSORS, Array, DType
from converter.sources.mapped_file import MappedFile
from converter.sources.shapes import shape_problem
from facenet_common.errors import FormatError
from facenet_common.text import printable

FORMAT = "safetensors"
NAMING: Naming = "torch"

MAX_HEADER = 100_000_000  # bytes; MAX_HEADER_SIZE of safetensors/src/tensor.rs
METADATA = "__metadata__"


def recognises(path: Path) -> bool:
    """Return whether the file starts with eight bytes (the header's size) and an opening brace."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{"


def open(path: Path) -> Catalog:
    """Return the file's tensors; values are read when they are loaded. Raises FormatError."""
    file = MappedFile(path)
    size = int.from_bytes(file.view(0, 8, "header"), "little")
    if size > MAX_HEADER:
        raise _damaged(path, f"a header of {size} bytes; at most {MAX_HEADER} are allowed")
    header = _parse(file.view(8, size, "header"), path)
    start = 8 + size
    tensors = {}
    spans = []
    for name, entry in header.items():
        if name == METADATA:
            continue
        dtype, shape, begin, end = _entry(name, entry, path)
        spans.append((begin, end, name))
        data = file.view(start + begin, end - begin, f"tensor {printable(name, 80)}")
        tensors[name] = TensorRef(name, dtype, shape, partial(_load, data, dtype, shape))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise _damaged(path, f"the tensor starts at byte {begin}, not at byte {position}", name)
        position = end
    if start + position != file.size:
        raise _damaged(path, f"{file.size} bytes; the header describes {start + position}")
    return Catalog(tensors, format=FORMAT, naming=NAMING, files=(path,), release=file.release)


def _parse(data: memoryview, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(bytes(data).decode(), object_pairs_hook=_no_duplicates)
        for name in header:
            name.encode()  # JSON can contain lone surrogates, which can't be printed
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"a header that is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "a header that is not a JSON object")
    return header


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key occurs twice")
    return entries


def _entry(name: str, entry: Any, path: Path) -> tuple[DType, tuple[int, ...], int, int]:
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(path, "an entry without dtype, shape and data_offsets", name) from error
    if not isinstance(code, str) or code not in BY_SAFETENSORS:
        raise _damaged(path, f"element type {printable(code, 20)}", name)
    if type(shape) is not list or any(type(n) is not int or not 0 <= n < 1 << 63 for n in numbers):
        raise _damaged(path, "sizes that are not whole numbers from 0 to 2^63 - 1", name)
    if wrong := shape_problem(shape):
        raise _damaged(path, wrong, name)
    dtype = BY_SAFETENSORS[code]
    if end - begin != prod(shape) * dtype.itemsize:
        raise _damaged(path, f"{end - begin} bytes for {dtype} {shape}", name)
    return dtype, tuple(shape), begin, end


def _damaged(path: Path, found: str, tensor: str | None = None) -> FormatError:
    return FormatError(
        "the safetensors file is damaged",
        file=path,
        tensor=tensor and printable(tensor, 200),
        found=found,
        next_step="download the file again",
    )


def _load(data: memoryview, dtype: DType, shape: tuple[int, ...]) -> Array:
    return np.frombuffer(data, dtype.numpy).reshape(shape)
