"""The datasets of an HDF5 file, by path, with every declared size checked before it is used.

Links, and data in other files, are refused. Bytes of a dataset in one piece are taken from the
mapped file; those in chunks are read by h5py. h5py is imported only when a file is opened.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.catalog import TensorRef
from converter.dtypes import BFLOAT16, BY_NAME, FLOAT32, Array, DType
from converter.sources.shapes import shape_problem
from facenet_common.errors import FormatError
from facenet_common.optional import require
from facenet_common.text import printable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# The attributes that matter here, of groups and datasets.
ATTRIBUTES = ("dtype", "layer_names", "layer_names0", "model_config", "name", "schema")
MAX_LINKS = 20_000  # groups and datasets; a whole FaceNet with its optimiser has about 3,000
MAX_DEPTH = 24  # of nested groups
MAX_TEXT = 1 << 24  # characters of an attribute; the configuration of a whole FaceNet has 300 kB
# Compressed data: float32 weights shrink by a tenth, gzip by a factor of up to 1,032.
MAX_RATIO = 16
_SLACK = 1 << 20  # bytes; small tensors of equal numbers shrink more
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}  # H5Z_filter_t of H5Zpublic.h

# What h5py raises for files that are damaged.
_H5PY_ERRORS = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)


class _View(io.RawIOBase):
    """A read-only file over bytes, for h5py. A read beyond their end is an error."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}
        self._position = start[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        source = self._data[self._position : self._position + len(target)]
        if len(source) < len(target):
            raise EOFError("the file ends before its data")
        target[:] = source
        self._position += len(source)
        return len(source)


class Hdf5:
    """The contents of an HDF5 file: groups and datasets by path, without a leading slash.

    Args:
        data: The file's bytes.
        path: Its name, for messages.

    Attributes:
        groups: Every group, with those of its attributes that are in `ATTRIBUTES`: their text, or
            "" for any other value. The root's path is "".
        datasets: Every dataset as a `TensorRef`, whose name is its path.

    Raises:
        FormatError: It is damaged or truncated, has links, refers to other files, or declares more
            bytes than it holds.
        MissingPackageError: h5py is not installed.
    """

    def __init__(self, data: memoryview, path: Path) -> None:
        self.path = path
        self._data = data
        self._h5py: Any = require("h5py", "reading HDF5 files")
        self._file: Any = None
        self._links = 0
        self.groups: dict[str, dict[str, str]] = {}
        self.datasets: dict[str, TensorRef] = {}
        self._packed = 0  # bytes of compressed datasets, unpacked
        self._float32 = self._h5py.h5t.IEEE_F32LE
        with self._guard("its structure"):
            self._file = self._h5py.File(_View(data), "r")
            # The interface below, since the one above takes four times as long.
            self._walk(self._h5py.h5g.open(self._file.id, b"/"), "", 0)
        plain = sum(ref.nbytes for ref in self.datasets.values()) - self._packed
        if plain > len(data) or self._packed > MAX_RATIO * len(data) + _SLACK:
            raise self.damaged(
                f"{plain + self._packed:,} bytes of tensors in a file of {len(data):,} bytes"
            )

    def damaged(self, found: str, tensor: str | None = None) -> FormatError:
        """Return the error for this file."""
        return FormatError(
            "the HDF5 file is damaged, or is unlike those of Keras",
            file=self.path,
            tensor=tensor and printable(tensor, 200),
            found=found,
            next_step="download the file again, or save the model again with Keras",
        )

    @contextmanager
    def _guard(self, what: str, tensor: str | None = None) -> Iterator[None]:
        try:
            yield
        except FormatError:
            raise
        except (*_H5PY_ERRORS, RecursionError) as error:
            found = f"{what} can't be read: {str(error) or type(error).__name__}"
            raise self.damaged(printable(found, 300), tensor) from error

    def _walk(self, group: Any, prefix: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self.damaged(f"groups nested more than {MAX_DEPTH} deep")
        self.groups[prefix] = self._attributes(group)
        h5py = self._h5py
        for key, link in self._members(group):
            path = f"{prefix}/{key.decode()}" if prefix else key.decode()
            if not path.isprintable():
                raise self.damaged("a name with control characters", path)
            if link != h5py.h5l.TYPE_HARD:
                raise self.damaged("a link to another place, which is not followed", path)
            item = h5py.h5o.open(group, key)
            if isinstance(item, h5py.h5g.GroupID):
                self._walk(item, path, depth + 1)
            elif isinstance(item, h5py.h5d.DatasetID):
                self.datasets[path] = self._dataset(item, path)
            else:
                raise self.damaged("something that is neither a group nor a dataset", path)

    def _members(self, group: Any) -> list[tuple[bytes, int]]:
        """Return the names in a group, with the kind of link that each is."""
        found: list[tuple[bytes, int]] = []

        def visit(name: bytes, info: Any) -> bool | None:
            self._links += 1
            found.append((name, info.type))
            return True if self._links > MAX_LINKS else None  # anything but None ends it

        group.links.iterate(visit, info=True)
        if self._links > MAX_LINKS:
            raise self.damaged(f"more than {MAX_LINKS:,} groups and datasets")
        return found

    def _attributes(self, item: Any) -> dict[str, str]:
        """Return the attributes of `ATTRIBUTES`; of lists only that they are there.

        A list is not read: its texts may share memory in the file, but not when they are read.
        """
        h5a, texts = self._h5py.h5a, {}
        if not h5a.get_num_attrs(item):
            return {}
        for name in ATTRIBUTES:
            if not h5a.exists(item, name.encode()):
                continue
            attribute = h5a.open(item, name.encode())
            texts[name] = ""
            if attribute.shape == () and self._h5py.check_string_dtype(attribute.dtype):
                of_group = isinstance(item, self._h5py.h5g.GroupID)
                holder = self._h5py.Group(item) if of_group else self._h5py.Dataset(item)
                value = holder.attrs[name]
                texts[name] = value.decode() if isinstance(value, bytes) else str(value)
            if len(texts[name]) > MAX_TEXT:
                raise self.damaged(f"an attribute {name} of more than {MAX_TEXT:,} characters")
        return texts

    def _dataset(self, item: Any, path: str) -> TensorRef:
        shape, settings = item.shape, item.get_create_plist()
        if settings.get_external_count() or settings.get_layout() == self._h5py.h5d.VIRTUAL:
            raise self.damaged("data in another file, which is not read", path)
        if item.get_space().get_simple_extent_type() == self._h5py.h5s.NULL:
            raise self.damaged("a dataset without a shape", path)
        if wrong := shape_problem(shape):
            raise self.damaged(wrong, path)
        dtype, plain = self._dtype(item, path)
        read = partial(self._read, item, path, dtype)
        ref = TensorRef(path, dtype, tuple(shape), read)
        stored, filters = item.get_storage_size(), self._filters(settings, path)
        if "gzip" in filters:
            self._packed += ref.nbytes
            if ref.nbytes > MAX_RATIO * len(self._data) + _SLACK:
                raise self.damaged(f"{ref.nbytes:,} bytes, packed into {stored:,}", path)
        elif stored < ref.nbytes:
            raise self.damaged(f"{stored:,} bytes for {dtype} {list(shape)}", path)
        offset = item.get_offset()  # None unless it is in one piece
        if not plain or filters or offset is None:
            return ref
        if offset + ref.nbytes > len(self._data):
            raise self.damaged("data beyond the end of the file", path)
        data = self._data[offset : offset + ref.nbytes]
        return replace(ref, load=partial(_from_bytes, data, dtype, ref.shape))

    def _dtype(self, item: Any, path: str) -> tuple[DType, bool]:
        """Return the element type, and whether its stored bits are little-endian ones of it."""
        stored = item.get_type()
        if stored.equal(self._float32):
            return FLOAT32, True
        # Keras notes bfloat16 so: HDF5 has no such type.
        note = self._attributes(item).get("dtype")
        if note == "bfloat16" and stored.get_size() == 2:
            return BFLOAT16, True
        dtype = BY_NAME.get(stored.dtype.newbyteorder("<").name)
        if dtype is None or dtype is BFLOAT16 or dtype.storage is None:
            raise self.damaged(f"element type {printable(stored.dtype, 60)}", path)
        return dtype, bool(stored.equal(self._h5py.h5t.py_create(dtype.numpy, logical=True)))

    def _filters(self, settings: Any, path: str) -> set[str]:
        codes = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
        for code in codes:
            if code not in _FILTERS:
                raise self.damaged(f"a compression other than gzip (filter {code})", path)
        return {_FILTERS[code] for code in codes}

    def _read(self, item: Any, path: str, dtype: DType) -> Array:
        with self._guard("its data", path):
            values = np.asarray(self._h5py.Dataset(item)[()])
        if dtype is BFLOAT16:
            return values.view(dtype.numpy)
        return values.astype(dtype.numpy, copy=False)


def _from_bytes(data: memoryview, dtype: DType, shape: tuple[int, ...]) -> Array:
    return np.frombuffer(data, dtype.numpy).reshape(shape)
