"""The .pt format of PyTorch before 1.6: pickles, followed by the bytes of the storages.

facenet-pytorch's published weights have this format. There is no checksum; the sizes must add up to
the file's. Source: torch/serialization.py (_legacy_save).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.catalog import Catalog, Naming
from converter.sources import plain_data, unpickler
from converter.sources.magic_bytes import starts_with
from converter.sources.mapped_file import MappedFile
from converter.sources.plain_data import Dict, List, PickleError
from converter.sources.pytorch.state_dict import CONSTRUCTORS, Storages, pickle_error, state_dict
from converter.sources.unpickler import Reader
from facenet_common.errors import FormatError

FORMAT = "torch-legacy"
NAMING: Naming = "torch"

# The number at the start of every such file, pickled with protocol 2 (LONG1 of ten bytes).
MAGIC = 0x1950A86A20F9469CFC6C
_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
_PROTOCOL = 1001


def recognises(path: Path) -> bool:
    """Return whether the file starts with the pickled magic number."""
    return starts_with(path, _START)


def open(path: Path) -> Catalog:
    """Return the state_dict's tensors. Values are read when they are loaded.

    Raises:
        FormatError: The file is damaged, or holds more than a state_dict.
    """
    file = MappedFile(path)
    reader = file.reader()
    storages = Storages()
    try:
        _check_preamble(reader)
        root = unpickler.load(reader, CONSTRUCTORS, storages.add)
        keys = unpickler.load(reader, {})
        data = _storage_data(file, reader.tell(), keys, storages)
        tensors = state_dict(root, lambda storage: data[storage.key])
    except PickleError as error:
        raise pickle_error(path, error) from error
    return Catalog(tensors, format=FORMAT, naming=NAMING, files=(path,), release=file.release)


def _check_preamble(reader: Reader) -> None:
    magic, protocol, system = (unpickler.load(reader, {}) for _ in range(3))
    if magic != MAGIC or protocol != _PROTOCOL or not isinstance(system, Dict):
        raise PickleError("the preamble has an unknown version")
    if system.get("little_endian") is not True:
        raise PickleError("the data is big-endian: save it again on a little-endian machine")


def _storage_data(
    file: MappedFile, position: int, keys: Any, storages: Storages
) -> dict[str, memoryview]:
    """Return the bytes of each storage: in the file, its count (8 bytes), then its elements."""
    if not isinstance(keys, List) or sorted(map(plain_data.text, keys)) != sorted(storages):
        raise PickleError("the list of storages does not match the tensors")
    data = {}
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(file.view(position, 8, "storage size"), "little")
        if count != storage.count:
            raise PickleError(
                f"storage {key[:40]} has {count} elements, its tensors expect {storage.count}"
            )
        size = count * storage.dtype.itemsize
        data[key] = file.view(position + 8, size, "storage")
        position += 8 + size
    if position != file.size:
        raise FormatError(
            "the .pt file is damaged",
            file=file.path,
            expected=f"{position} bytes",
            found=f"{file.size} bytes",
            next_step="download the file again",
        )
    return data
