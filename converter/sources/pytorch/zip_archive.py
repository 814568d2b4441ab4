"""PyTorch's .pt since 1.6: a zip archive with a small pickle and one stored record per storage.

The pickle is decoded by `pickles`, which runs nothing. Records are checked against the archive's
CRC-32. Source: torch/csrc/jit/serialization (reader and writer), torch/serialization.py.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

from converter.catalog import Catalog, Naming
from converter.sources import unpickler
from converter.sources.mapped_file import MappedFile
from converter.sources.pytorch.state_dict import (
    CONSTRUCTORS,
    Storage,
    Storages,
    refused,
    state_dict,
)
from converter.sources.unpickler import PickleError
from facenet_common.errors import FormatError

FORMAT = "torch-zip"
NAMING: Naming = "torch"

# What zipfile raises on malformed archives.
_ZIP_ERRORS = (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError)
_END_SIZE = 22  # bytes of the record that ends an archive without a comment (4.3.16)
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")  # APPNOTE.TXT 4.3.7
# What torch.save writes beside storages, and names with a dot in front, which all readers skip.
_DESCRIPTION = {"data.pkl", "version", "byteorder"}


def recognises(path: Path) -> bool:
    """Whether the file starts as zip archives do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


class _Archive:
    """The records of the archive by name, without the folder that torch puts them into."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.checked: set[str] = set()
        try:
            with zipfile.ZipFile(file.path) as archive:
                infos = archive.infolist()
        except _ZIP_ERRORS as error:
            raise self.damaged(f"no valid zip archive: {error}") from error
        # The first record starts the file and the directory ends it: nothing is left out.
        end = bytes(file.view(max(0, file.size - _END_SIZE), None, "directory"))
        first = min((info.header_offset for info in infos), default=0)
        if first or not end.startswith(b"PK\x05\x06"):
            raise self.damaged("bytes before or behind the archive")
        folders = {info.filename.partition("/")[0] for info in infos}
        if len(folders) != 1:
            raise self.damaged(f"{len(folders)} folders at its top, where torch writes one")
        self.infos = {info.filename.partition("/")[2]: info for info in infos}
        if len(self.infos) != len(infos):
            raise self.damaged("two records with one name")

    def record(self, name: str) -> memoryview:
        """The record's bytes, checked against their CRC-32 once."""
        info = self.infos.get(name)
        if info is None:
            raise self.damaged(f"no record {name!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise self.damaged(f"record {name!r} is compressed or encrypted; torch stores plainly")
        if info.compress_size != info.file_size:
            raise self.damaged(f"record {name!r} has two sizes")
        data = self.file.view(self._start(info), info.file_size, f"record {name}")
        if name not in self.checked:
            if zlib.crc32(data) != info.CRC:
                raise self.damaged(f"record {name!r} does not match its CRC-32")
            self.checked.add(name)
        return data

    def _start(self, info: zipfile.ZipInfo) -> int:
        header = self.file.view(info.header_offset, _LOCAL_HEADER.size, "record header")
        parts = _LOCAL_HEADER.unpack(header)
        name_size, extra_size = parts[9], parts[10]
        at = info.header_offset + _LOCAL_HEADER.size
        name = bytes(self.file.view(at, name_size, "record header"))
        flags, method, crc, size = parts[2], parts[3], parts[6], parts[8]
        deferred = flags & 0x08 or size == 0xFFFFFFFF  # said behind the data, or in zip64 fields
        if (
            parts[0] != b"PK\x03\x04"
            or name != info.orig_filename.encode()
            or method != info.compress_type
            or not (deferred or (crc == info.CRC and size == info.file_size))
        ):
            raise self.damaged(f"the two headers of {info.filename[:80]!r} disagree")
        return int(at + name_size + extra_size)

    def storage(self, storage: Storage) -> memoryview:
        data = self.record(f"data/{storage.key}")
        expected = storage.count * storage.dtype.itemsize
        if len(data) < expected:
            raise self.damaged(
                f"storage {storage.key[:20]} has {len(data)} bytes, its tensors need {expected}"
            )
        return data[:expected]

    def check_used(self, storages: Storages) -> None:
        """FormatError for records that a state_dict of these storages has no use for.

        To torch, some of them make the archive another thing: constants.pkl a TorchScript module.
        """
        used = _DESCRIPTION | {f"data/{key}" for key in storages}
        for name in self.infos:
            if name not in used and not name.startswith("."):
                raise self.damaged(f"record {name[:80]!r}, which no state_dict has a use for")

    def damaged(self, found: str) -> FormatError:
        return FormatError(
            "the .pt file is damaged, or is not a state_dict",
            file=self.file.path,
            found=found,
            next_step="fetch the file again, or save the model anew: "
            "torch.save(model.state_dict(), path)",
        )


def open(path: Path) -> Catalog:
    """The state_dict's tensors; values stay on disk until loaded. Raises FormatError."""
    file = MappedFile(path)
    archive = _Archive(file)
    if "byteorder" in archive.infos and bytes(archive.record("byteorder")) != b"little":
        raise archive.damaged("big-endian data; save it again on a little-endian machine")
    for name in archive.infos:
        if not name.startswith("data/"):  # tensors' are checked when they are loaded
            archive.record(name)
    used = Storages()
    try:
        description = io.BytesIO(archive.record("data.pkl"))
        root = unpickler.load(description, CONSTRUCTORS, used.refer)
        tensors = state_dict(root, archive.storage)
    except PickleError as error:
        raise refused(path, error) from error
    for ref in tensors.values():
        if ref.nbytes > file.size:
            raise archive.damaged(f"{ref.name[:80]} declares {ref.nbytes} bytes")
    archive.check_used(used)
    return Catalog(tensors, format=FORMAT, naming=NAMING, files=(path,), release=file.release)
