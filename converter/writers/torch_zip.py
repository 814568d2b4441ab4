"""Write a .pt file in the format of torch.save. Its bytes depend on the tensors alone.

``torch.load(weights_only=True)`` and ``mmap=True`` read it. Every record starts at a multiple of
64 bytes, as torch's do. The standard library's zipfile is not used, so that the bytes are the same
with every version of Python. Sources: torch/csrc/jit/serialization, torch/serialization.py, and
PKWARE's APPNOTE.TXT (4.3) for the archive.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO

from converter.catalog import Naming, TensorRef
from converter.writers.stream import OnWritten, stream
from facenet_common.errors import UsageError

FORMAT = "torch-zip"
NAMING: Naming = "torch"
SUFFIXES = (".pt", ".pth")

ALIGNMENT = 64  # bytes; torch/csrc/jit/serialization/inline_container.h (kFieldAlignment)
_ROOT = "archive"  # torch uses the file's name, on which the bytes would then depend
_MAX_SIZE = (1 << 32) - 1  # bytes; larger archives need the zip64 format

_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL_HEADER = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_VERSION = 20  # of the zip format, for uncompressed records
_MADE_BY = 3 << 8 | _VERSION  # Unix
_DATE = 1 << 5 | 1  # 1980-01-01, the earliest date of the format
_MODE = 0o100644 << 16  # a plain file, readable by all


def write(path: Path, tensors: Sequence[TensorRef], on_written: OnWritten) -> None:
    """Write `tensors` to `path`, in order. At most two batches of them are in memory.

    Args:
        path: The file.
        tensors: The tensors.
        on_written: Called after each tensor.

    Raises:
        OSError: The file can't be written.
        UsageError: The format lacks an element type, or the tensors exceed 4 GiB.
    """
    if sum(ref.nbytes for ref in tensors) > _MAX_SIZE - (
        1 << 26
    ):  # minus room for the pickle and headers
        raise UsageError(
            "a .pt file can't hold more than 4 GiB",
            next_step="write a .safetensors file instead",
        )
    with path.open("wb") as file:
        archive = _Archive(file)
        archive.add("data.pkl", describe(tensors))
        archive.add("byteorder", b"little")
        for number, (_, data, crc) in enumerate(stream(tensors, on_written, zlib.crc32)):
            archive.add(f"data/{number}", data, crc)
        archive.add("version", b"3\n")
        archive.finish()


class _Archive:
    """A zip archive of uncompressed records, written from start to end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._directory: list[bytes] = []

    def add(self, name: str, data: bytes | memoryview, crc: int | None = None) -> None:
        """Append a record whose data starts at a multiple of `ALIGNMENT`."""
        path = f"{_ROOT}/{name}".encode("ascii")
        size = len(data)
        crc = zlib.crc32(data) if crc is None else crc
        start = self._position
        padding = -(start + _LOCAL_HEADER.size + len(path) + 4) % ALIGNMENT
        extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)  # FB: torch's padding field
        common = (_VERSION, 0, 0, 0, _DATE, crc, size, size, len(path))
        self._append(_LOCAL_HEADER.pack(b"PK\3\4", *common, len(extra)), path, extra, data)
        entry = _CENTRAL_HEADER.pack(b"PK\1\2", _MADE_BY, *common, 0, 0, 0, 0, _MODE, start)
        self._directory.append(entry + path)

    def finish(self) -> None:
        """Append the directory."""
        start, count = self._position, len(self._directory)
        directory = b"".join(self._directory)
        self._append(directory, _END.pack(b"PK\5\6", 0, 0, count, count, len(directory), start, 0))

    def _append(self, *pieces: bytes | memoryview) -> None:
        for piece in pieces:
            self._file.write(piece)
            self._position += len(piece)


def describe(tensors: Sequence[TensorRef]) -> bytes:
    """Return the pickle of an OrderedDict of tensors, with protocol 2, as torch.save writes it.

    Raises:
        UsageError: The format lacks an element type.
    """
    memo: dict[bytes, int] = {}

    def shared(operation: bytes) -> bytes:
        """Return `operation` the first time, and from then on the operation that looks it up."""
        if operation in memo:
            return b"h" + bytes([memo[operation]])
        memo[operation] = len(memo)
        return operation + b"q" + bytes([memo[operation]])

    out = bytearray(b"\x80\x02" + shared(_ORDERED_DICT) + b")R(")
    for number, ref in enumerate(tensors):
        out += b"".join(_tensor(str(number), ref, shared))
    return bytes(out + b"u.")


_ORDERED_DICT = b"ccollections\nOrderedDict\n"
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def _tensor(key: str, ref: TensorRef, shared: Callable[[bytes], bytes]) -> Iterator[bytes]:
    if ref.dtype.torch is None:
        raise UsageError(
            "a .pt file can't hold this element type",
            tensor=ref.name,
            found=ref.dtype,
            next_step="write a .safetensors file instead",
        )
    strides = [1]
    for size in ref.shape[:0:-1]:
        strides.append(strides[-1] * max(size, 1))
    yield _text(ref.name) + shared(_REBUILD) + b"("
    yield b"(" + shared(_text("storage")) + shared(b"ctorch\n" + ref.dtype.torch.encode() + b"\n")
    yield _text(key) + shared(_text("cpu")) + _integer(prod(ref.shape)) + b"tQ"
    yield _integer(0) + _tuple(ref.shape) + _tuple(strides[::-1] if ref.shape else [])
    yield b"\x89" + shared(_ORDERED_DICT) + b")RtR"  # no gradient, no hooks


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
