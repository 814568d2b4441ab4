"""Archives of Keras 3, ``.keras``: zip files with the configuration and an HDF5 file of weights.

Keras stores the members without compression. Their CRC-32 is verified before they are parsed. The
reader is imported when a file is opened: most conversions have none of Keras.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from converter.catalog import Catalog, Naming
from converter.sources.mapped_file import MappedFile
from facenet_common.errors import FormatError

FORMAT = "keras"
NAMING: Naming = "tensorflow"

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {"metadata.json", _CONFIG, _WEIGHTS}  # keras/src/saving/saving_lib.py
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")  # APPNOTE.TXT 4.3.7
_MAX_CONFIG = 1 << 24  # bytes; the configuration of a whole FaceNet has 450 kB
_ZIP_ERRORS = (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError)


def recognises(path: Path) -> bool:
    """Return whether the file is a zip archive whose first member is one of Keras'."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_LOCAL_HEADER.size)
        if len(head) < _LOCAL_HEADER.size or not head.startswith(b"PK\x03\x04"):
            return False
        return file.read(_LOCAL_HEADER.unpack(head)[9]) in {name.encode() for name in _MEMBERS}


def open(path: Path) -> Catalog:
    """Return the model's tensors. Raises as `converter.sources.keras.model.catalog`."""
    from converter.sources.keras.model import catalog

    file = MappedFile(path)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            if len(infos) != len(archive.infolist()):
                raise zipfile.BadZipFile("two files of one name")
    except _ZIP_ERRORS as error:
        raise _damaged(path, f"an invalid zip archive: {error}") from error
    for name in (_CONFIG, _WEIGHTS):
        if name not in infos:
            raise _damaged(path, f"no {name}, only {', '.join(sorted(infos)[:5])}")
    if infos[_CONFIG].file_size > _MAX_CONFIG:
        raise _damaged(path, f"a {_CONFIG} of {infos[_CONFIG].file_size:,} bytes")
    try:
        config = bytes(_member(file, infos[_CONFIG])).decode()
    except UnicodeDecodeError as error:
        raise _damaged(path, f"a {_CONFIG} that is not UTF-8") from error
    weights = _member(file, infos[_WEIGHTS])
    return catalog(weights, path, format=FORMAT, config=config, release=file.release)


def _member(file: MappedFile, info: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of a member, in place."""
    name = info.filename
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise _damaged(file.path, f"{name} is compressed or encrypted; Keras does neither")
    if info.compress_size != info.file_size:
        raise _damaged(file.path, f"{name} has two different sizes")
    header = _LOCAL_HEADER.unpack(file.view(info.header_offset, _LOCAL_HEADER.size, name))
    at = info.header_offset + _LOCAL_HEADER.size
    if header[0] != b"PK\x03\x04" or bytes(file.view(at, header[9], name)) != name.encode():
        raise _damaged(file.path, f"the two headers of {name} disagree")
    data = file.view(at + header[9] + header[10], info.file_size, name)
    if zlib.crc32(data) != info.CRC:
        raise _damaged(file.path, f"{name} does not match its CRC-32")
    return data


def _damaged(path: Path, found: str) -> FormatError:
    return FormatError(
        "the .keras archive is damaged, or not as Keras writes it",
        file=path,
        found=found,
        next_step="download the file again, or save the model again: model.save('model.keras')",
    )
