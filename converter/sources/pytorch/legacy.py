"""PyTorch's .pt before 1.6: pickles one after the other, then the storages' bytes.

facenet-pytorch's published weights are such files. There is no checksum; sizes must add up to
the file's. Source: torch/serialization.py (_legacy_save).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.catalog import Catalog, Naming
from converter.sources import unpickler
from converter.sources.mapped_file import MappedFile
from converter.sources.pytorch.state_dict import CONSTRUCTORS, Storages, refused, state_dict
from converter.sources.unpickler import Dict, List, PickleError, Reader
from facenet_common.errors import FormatError

FORMAT = "torch-legacy"
NAMING: Naming = "torch"

# The number that starts every such file, as protocol 2 pickles it (LONG1 of ten bytes).
MAGIC = 0x1950A86A20F9469CFC6C
_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
_PROTOCOL = 1001


def recognises(path: Path) -> bool:
    """Whether the file starts with the pickled magic number."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_START)) == _START


def open(path: Path) -> Catalog:
    """The state_dict's tensors; values stay on disk until loaded. Raises FormatError."""
    file = MappedFile(path)
    reader = file.reader()
    used = Storages()
    try:
        _check_preamble(reader)
        root = unpickler.load(reader, CONSTRUCTORS, used.refer)
        keys = unpickler.load(reader, {})
        places = _places(file, reader.tell(), keys, used)
        tensors = state_dict(root, lambda storage: places[storage.key])
    except PickleError as error:
        raise refused(path, error) from error
    return Catalog(tensors, format=FORMAT, naming=NAMING, files=(path,), release=file.release)


def _check_preamble(reader: Reader) -> None:
    magic, protocol, system = (unpickler.load(reader, {}) for _ in range(3))
    if magic != MAGIC or protocol != _PROTOCOL or not isinstance(system, Dict):
        raise PickleError("a preamble of an unknown version")
    if system.get("little_endian") is not True:
        raise PickleError("big-endian data")


def _places(file: MappedFile, position: int, keys: Any, used: Storages) -> dict[str, memoryview]:
    """The bytes of each storage: an element count (8 bytes), then the elements; none left over."""
    if not isinstance(keys, List) or sorted(map(unpickler.text, keys)) != sorted(used):
        raise PickleError("another list of storages than the tensors need")
    places = {}
    for key in keys:
        storage = used[key]
        count = int.from_bytes(file.view(position, 8, "storage size"), "little")
        if count != storage.count:
            raise PickleError(f"storage {key[:40]} has {count} elements instead of {storage.count}")
        size = count * storage.dtype.itemsize
        places[key] = file.view(position + 8, size, "storage")
        position += 8 + size
    if position != file.size:
        raise FormatError(
            "the .pt file is damaged",
            file=file.path,
            expected=f"{position} bytes",
            found=f"{file.size} bytes",
            next_step="fetch the file again",
        )
    return places
