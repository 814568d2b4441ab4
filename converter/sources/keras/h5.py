"""HDF5 files of Keras, ``.h5``: whole models and weights alone, of Keras 1, 2 and 3.

The reader is imported when a file is opened: most conversions have none of Keras.
"""

from __future__ import annotations

from pathlib import Path

from converter.catalog import Catalog, Naming
from converter.sources.magic_bytes import starts_with
from converter.sources.mapped_file import MappedFile
from facenet_common.errors import FormatError

FORMAT = "keras-h5"
NAMING: Naming = "tensorflow"
_MAGIC = b"\x89HDF\r\n\x1a\n"


def recognises(path: Path) -> bool:
    """Return whether the file starts with HDF5's signature."""
    return starts_with(path, _MAGIC)


def open(path: Path) -> Catalog:
    """Return the model's tensors. Raises as `converter.sources.keras.model.catalog`."""
    from converter.sources.keras.model import catalog

    file = MappedFile(path)
    return catalog(file.view(), path, format=FORMAT, release=file.release)


def holds_weights(path: Path) -> bool:
    """Return whether it is an HDF5 file of Keras, and not another one or a damaged one.

    Raises:
        UsageError: The file can't be read.
        MissingPackageError: h5py is not installed.
    """
    if not recognises(path):
        return False
    from converter.sources.keras.hdf5 import Hdf5
    from converter.sources.keras.layouts import is_keras

    try:
        return is_keras(Hdf5(MappedFile(path).view(), path))
    except FormatError:
        return False
