"""A recorded reference as one HDF5 file: named arrays, and a manifest with their hashes.

Layout, schema `SCHEMA`::

    /                   attributes: schema; manifest_sha256, in hexadecimal
    /manifest           uint8: JSON in UTF-8: {"about": …, "arrays": {NAME: {dtype, shape, sha256}}}
    /feeds/NAME         float32 (N, H, W, 3): the images
    /answers/float32    (samples, numbers): the outputs, feed after feed
    /answers/float64    those of the graph rewritten to float64
    /rounding           float64 (samples,): the scale of rounding, if torch was installed
    /activations/TENSOR float32: that tensor of the graph for the images of the first feed

Schema 1 also listed the network's settings in `about`; a file of that schema is read without them.

Arrays are little-endian, in chunks of whole rows with a Fletcher-32 checksum each, so that some
rows can be read without the rest. They are not compressed: activations hardly shrink. An array
that is read whole is also compared with its SHA-256.

Files are untrusted. Links and external or virtual data are refused, and every declared size is
compared with the number of stored bytes before it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.digest import tensor_sha256
from facenet_common.atomic import atomic_file, output_error
from facenet_common.errors import ParityError
from facenet_common.optional import require

Array = npt.NDArray[Any]

SCHEMA = "facenet-parity/reference/2"
READABLE = (SCHEMA, "facenet-parity/reference/1")
MAGIC = b"\x89HDF\r\n\x1a\n"
DTYPES = ("<f4", "<f8")
CHUNK = 1 << 20  # bytes, about; a chunk holds at least one row
MAX_MANIFEST = 16 << 20  # bytes; that of 167 activations and 716 weights has 0.2 MB
MAX_DIMENSIONS = 4


def write(path: Path, about: Mapping[str, Any], arrays: Iterable[tuple[str, Array]]) -> None:
    """Write a record. `arrays` is consumed one by one; `about` is read after the last.

    Raises:
        OutputError: The file can't be written; nothing is left under its name.
        MissingPackageError: h5py is not installed.

    Examples:
        >>> write(Path("r.h5"), {"name": "demo"}, [("answers/float32", np.zeros((2, 3), "f4"))])
        >>> with Store(Path("r.h5")) as store:
        ...     store.about["name"], store.shapes
        ('demo', {'answers/float32': (2, 3)})
    """
    h5py = require("h5py", "a recorded reference")
    with atomic_file(path) as partial:
        rows: dict[str, dict[str, Any]] = {}
        try:
            # The file is locked already, by `atomic_file`.
            with h5py.File(partial, "w", locking=False) as file:
                for name, array in arrays:
                    rows[name] = _add(file, name, array)
                manifest = json.dumps({"about": dict(about), "arrays": rows}).encode()
                file.create_dataset("manifest", data=np.frombuffer(manifest, np.uint8))
                file.attrs["schema"] = SCHEMA
                file.attrs["manifest_sha256"] = hashlib.sha256(manifest).hexdigest()
        except OSError as error:
            raise output_error(path, error) from error


def _add(file: Any, name: str, array: Array) -> dict[str, Any]:
    """Add one array; return its row of the manifest."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    row = max(1, little[:1].nbytes)
    chunks = (max(1, min(len(little), CHUNK // row)), *little.shape[1:])
    file.create_dataset(name, data=little, chunks=chunks, fletcher32=True)
    return {
        "dtype": little.dtype.str,
        "shape": list(little.shape),
        "sha256": tensor_sha256(little),
    }


def is_hdf5(path: Path) -> bool:
    """Return whether the file begins with HDF5's signature; False if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class Store:
    """An open record; a context manager.

    Opening checks the manifest and, against it, every name, dtype, shape and stored size.

    Attributes:
        about: The mapping given to `write`.
        shapes: The shapes of the arrays, by name.

    Raises:
        ParityError: The file can't be read, is damaged, foreign, of another schema, or unsafe.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._h5py = require("h5py", "a recorded reference")
        if not is_hdf5(path):
            raise self._refusal("is not an HDF5 file")
        try:
            self._file = self._h5py.File(path, "r")
        except (OSError, RuntimeError, ValueError) as error:
            raise self._refusal("can't be opened as HDF5", str(error)) from error
        try:
            self.about, self._rows = self._manifest()
            self._check()
        except BaseException:
            self._file.close()
            raise
        self.shapes = {name: tuple(row["shape"]) for name, row in self._rows.items()}

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, name: str, rows: int | None = None) -> Array:
        """Return the array of that name, or only its first `rows` rows.

        Raises:
            ParityError: There is no such array, or its bytes are damaged.
        """
        if name not in self._rows:
            raise self._refusal(f"has no array {name!r}")
        data = self._file[name]
        try:
            array: Array = data[:rows]
        except (OSError, RuntimeError, ValueError) as error:
            raise self._damage(name, str(error)) from error
        whole = len(array) == len(data)
        if whole and tensor_sha256(array) != self._rows[name]["sha256"]:
            raise self._damage(name, "another SHA-256")
        return array

    def _manifest(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        try:
            schema = self._file.attrs.get("schema")
            wanted = self._file.attrs.get("manifest_sha256")
            if schema not in READABLE:
                raise self._refusal(
                    "has a schema that this version can't read", str(schema), SCHEMA
                )
            data = self._file.get("manifest")
            self._check_stored("manifest", data, "|u1", None, MAX_MANIFEST)
            text = data[:].tobytes()
            if hashlib.sha256(text).hexdigest() != wanted:
                raise self._damage("manifest", "another SHA-256")
            manifest = json.loads(text)
            return dict(manifest["about"]), {**manifest["arrays"]}
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damage("manifest", f"{type(error).__name__}: {error}") from error

    def _check(self) -> None:
        """Check every link and dataset against the manifest."""
        names: set[str] = set()

        def visit(group: Any, prefix: str) -> None:
            for key in group:
                name = f"{prefix}{key}"
                link = group.get(key, getlink=True)
                if not isinstance(link, self._h5py.HardLink):
                    raise self._refusal(f"has a link, which is not followed: {name!r}")
                item = group.get(key)
                if isinstance(item, self._h5py.Group):
                    if prefix.count("/") > 64:  # names are short; a group may contain itself
                        raise self._refusal("has groups nested more than 64 levels deep")
                    visit(item, f"{name}/")
                elif name != "manifest":
                    names.add(name)
                    self._check_row(name, item)

        try:
            visit(self._file, "")
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise self._damage("structure", f"{type(error).__name__}: {error}") from error
        missing = self._rows.keys() - names
        if missing:
            raise self._refusal(f"lacks {min(missing)!r}, which its manifest lists")

    def _check_row(self, name: str, data: Any) -> None:
        row = self._rows.get(name)
        if row is None:
            raise self._refusal(f"contains {name!r}, which its manifest does not list")
        if row["dtype"] not in DTYPES or not 1 <= len(row["shape"]) <= MAX_DIMENSIONS:
            raise self._damage("manifest", f"{name!r} has type {row['dtype']!r}")
        self._check_stored(name, data, row["dtype"], tuple(row["shape"]), None)

    def _check_stored(
        self, name: str, data: Any, dtype: str, shape: tuple[int, ...] | None, limit: int | None
    ) -> None:
        if not isinstance(data, self._h5py.Dataset):
            raise self._refusal(f"has no array {name!r}")
        if data.is_virtual or data.external:
            raise self._refusal(f"stores {name!r} in another file")
        if data.dtype.str != dtype or (shape is not None and data.shape != shape):
            found = f"{data.dtype.str} {list(data.shape or ())}"
            raise self._damage(name, found, f"{dtype} {list(shape or ())}")
        if shape is None and data.ndim != 1:
            raise self._damage(name, f"{data.ndim} axes")
        if limit is not None and data.nbytes > limit:
            raise self._damage(name, f"{data.nbytes:,} bytes", f"at most {limit:,}")
        if data.compression or data.id.get_storage_size() < data.nbytes:
            raise self._damage(name, "fewer bytes than its shape needs")

    def _damage(self, name: str, found: str, expected: str | None = None) -> ParityError:
        return self._refusal(f"is damaged at {name!r}", found, expected)

    def _refusal(
        self, what: str, found: str | None = None, expected: str | None = None
    ) -> ParityError:
        return ParityError(
            f"the recorded reference {what}",
            file=self._path,
            expected=expected,
            found=found,
            next_step="record it again: facenet capture CHECKPOINT --out reference.h5",
        )
