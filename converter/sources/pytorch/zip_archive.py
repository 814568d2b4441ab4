"""The .pt format of PyTorch since 1.6: a zip archive with a pickle and one record per storage.

The pickle is decoded by `unpickler`, which calls nothing. The CRC-32 of each record is verified.
Source: torch/csrc/jit/serialization (reader and writer), torch/serialization.py.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

from converter.catalog import Catalog, Naming
from converter.sources import unpickler
from converter.sources.magic_bytes import starts_with
from converter.sources.mapped_file import MappedFile
from converter.sources.plain_data import PickleError
from converter.sources.pytorch.state_dict import (
    CONSTRUCTORS,
    Storage,
    Storages,
    pickle_error,
    state_dict,
)
from facenet_common.errors import FormatError

FORMAT = "torch-zip"
NAMING: Naming = "torch"

# The exceptions of zipfile for malformed archives.
_ZIP_ERRORS = (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError)
_END_SIZE = 22  # bytes of the record that ends an archive without a comment (4.3.16)
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")  # APPNOTE.TXT 4.3.7
# The records of torch.save beside storages. Readers skip names that start with a dot.
_DESCRIPTION = {"data.pkl", "version", "byteorder"}


def recognises(path: Path) -> bool:
    """Return whether the file starts with the magic number of zip archives."""
    return starts_with(path, b"PK\x03\x04")


class _Archive:
    """The records of the archive, by name without the top folder."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.checked: set[str] = set()
        try:
            with zipfile.ZipFile(file.path) as archive:
                infos = archive.infolist()
        except _ZIP_ERRORS as error:
            raise self.damaged(f"an invalid zip archive: {error}") from error
        # The first record must start the file, and the directory must end it.
        end = bytes(file.view(max(0, file.size - _END_SIZE), None, "directory"))
        first = min((info.header_offset for info in infos), default=0)
        if first or not end.startswith(b"PK\x05\x06"):
            raise self.damaged("other bytes before or after the archive")
        folders = {info.filename.partition("/")[0] for info in infos}
        if len(folders) != 1:
            raise self.damaged(f"{len(folders)} folders at the top; torch writes one")
        self.infos = {info.filename.partition("/")[2]: info for info in infos}
        if len(self.infos) != len(infos):
            raise self.damaged("two records with the same name")

    def record(self, name: str) -> memoryview:
        """Return the bytes of a record. Verify the CRC-32 the first time. Raises FormatError."""
        info = self.infos.get(name)
        if info is None:
            raise self.damaged(f"record {name!r} is missing")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise self.damaged(f"record {name!r} is compressed or encrypted; torch does neither")
        if info.compress_size != info.file_size:
            raise self.damaged(f"record {name!r} has two different sizes")
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
        deferred = flags & 0x08 or size == 0xFFFFFFFF  # they are after the data, or in zip64 fields
        if (
            parts[0] != b"PK\x03\x04"
            or name != info.orig_filename.encode()
            or method != info.compress_type
            or not (deferred or (crc == info.CRC and size == info.file_size))
        ):
            raise self.damaged(f"the two headers of {info.filename[:80]!r} disagree")
        return int(at + name_size + extra_size)

    def storage(self, storage: Storage) -> memoryview:
        """Return the bytes of a storage, verified. Raises FormatError."""
        data = self.record(f"data/{storage.key}")
        expected = storage.count * storage.dtype.itemsize
        if len(data) < expected:
            raise self.damaged(
                f"storage {storage.key[:20]} has {len(data)} bytes, its tensors expect {expected}"
            )
        return data[:expected]

    def check_used(self, storages: Storages) -> None:
        """Raise FormatError for records that do not belong to a state_dict of these storages.

        With some of them, torch reads another object: with constants.pkl, a TorchScript module.
        """
        used = _DESCRIPTION | {f"data/{key}" for key in storages}
        for name in self.infos:
            if name not in used and not name.startswith("."):
                raise self.damaged(f"record {name[:80]!r} does not belong to a state_dict")

    def damaged(self, found: str) -> FormatError:
        """Return the error for this archive."""
        return FormatError(
            "the .pt file is damaged, or is not a state_dict",
            file=self.file.path,
            found=found,
            next_step="download the file again, or save the model again: "
            "torch.save(model.state_dict(), path)",
        )


def open(path: Path) -> Catalog:
    """Return the state_dict's tensors. Values are read when they are loaded.

    Raises:
        FormatError: The file is damaged, or holds more than a state_dict.
    """
    file = MappedFile(path)
    archive = _Archive(file)
    if "byteorder" in archive.infos and bytes(archive.record("byteorder")) != b"little":
        raise archive.damaged("big-endian data; save it again on a little-endian machine")
    for name in archive.infos:
        if not name.startswith("data/"):  # those of tensors are verified when they are loaded
            archive.record(name)
    storages = Storages()
    try:
        description = io.BytesIO(archive.record("data.pkl"))
        root = unpickler.load(description, CONSTRUCTORS, storages.add)
        tensors = state_dict(root, archive.storage)
    except PickleError as error:
        raise pickle_error(path, error) from error
    for ref in tensors.values():
        if ref.nbytes > file.size:
            raise archive.damaged(
                f"tensor {ref.name[:80]} has {ref.nbytes} bytes, more than the file"
            )
    archive.check_used(storages)
    return Catalog(tensors, format=FORMAT, naming=NAMING, files=(path,), release=file.release)
