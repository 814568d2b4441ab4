"""A .pt file without torch: what torch.save writes, in bytes that depend on the tensors alone.

``torch.load(weights_only=True)`` and ``mmap=True`` read it. Every record starts at a multiple of
64 bytes, as torch's own do. Source: torch/csrc/jit/serialization and torch/serialization.py.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from converter.catalog import Naming, TensorRef
from converter.dtypes import as_bytes
from converter.errors import UsageError
from converter.writers.progress import Progress

FORMAT = "torch-zip"
NAMING: Naming = "torch"
SUFFIXES = (".pt", ".pth")

ALIGNMENT = 64  # bytes; torch/csrc/jit/serialization/inline_container.h (kFieldAlignment)
_ROOT = "archive"  # torch puts the file's name here, which would make the bytes depend on it
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold
_LOCAL_HEADER_SIZE = 30


def write(path: Path, tensors: Sequence[TensorRef], progress: Progress) -> None:
    """Write `tensors` in order, holding one at a time. Raises OSError, UsageError."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _record(archive, "data.pkl", describe(tensors))
        _record(archive, "byteorder", b"little")
        for number, ref in enumerate(tensors):
            _record(archive, f"data/{number}", as_bytes(ref.load()))
            progress(ref)
        _record(archive, "version", b"3\n")


def _record(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    info = zipfile.ZipInfo(f"{_ROOT}/{name}", _EPOCH)
    info.create_system = 3  # Unix; Python would say which system this is
    info.external_attr = 0o644 << 16
    assert archive.fp is not None
    start = archive.fp.tell() + _LOCAL_HEADER_SIZE + len(info.filename) + 4
    padding = -start % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)  # FB: torch's padding field
    archive.writestr(info, data)


def describe(tensors: Sequence[TensorRef]) -> bytes:
    """The pickle of an OrderedDict of tensors, in protocol 2, as torch.save spells it."""
    out = bytearray(b"\x80\x02ccollections\nOrderedDict\n)R(")
    for number, ref in enumerate(tensors):
        out += b"".join(_tensor(str(number), ref))
    return bytes(out + b"u.")


def _tensor(key: str, ref: TensorRef) -> Iterator[bytes]:
    if ref.dtype.torch is None:
        raise UsageError(
            "this element type can't be written to a .pt file",
            tensor=ref.name,
            found=ref.dtype,
            next_step="write a .safetensors file instead",
        )
    strides = [1]
    for size in ref.shape[:0:-1]:
        strides.append(strides[-1] * max(size, 1))
    yield _text(ref.name)
    yield b"ctorch._utils\n_rebuild_tensor_v2\n("
    yield b"(" + _text("storage") + b"ctorch\n" + ref.dtype.torch.encode() + b"\n"
    count = 1
    for size in ref.shape:
        count *= size
    yield _text(key) + _text("cpu") + _integer(count) + b"tQ"
    yield _integer(0)
    yield _tuple(ref.shape) + _tuple(strides[::-1] if ref.shape else [])
    yield b"\x89ccollections\nOrderedDict\n)RtR"  # no gradient, no hooks


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    if value < 1 << 8:
        return b"K" + bytes([value])
    if value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes((value.bit_length() + 8) // 8, "little")
    return b"\x8a" + bytes([len(data)]) + data


def _tuple(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
