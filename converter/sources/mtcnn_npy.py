"""MTCNN's det1.npy, det2.npy and det3.npy: a pickled dict ``{layer: {weights, biases or alpha}}``.

The file is a .npy with one object, so the dict is a pickle, decoded by `unpickler`. Pickles of
NumPy before 2.0 (``numpy.core``), of later ones (``numpy._core``) and of Python 2 are accepted; the
published files are of Python 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import BFLOAT16, DTYPES, Array, DType
from converter.sources import plain_data, unpickler
from converter.sources.magic_bytes import starts_with
from converter.sources.mapped_file import MappedFile
from converter.sources.plain_data import Buildable, Dict, Name, PickleError
from facenet_common.errors import FormatError

FORMAT = "mtcnn-npy"
NAMING: Naming = "tensorflow"

MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000  # bytes; NumPy's limit for untrusted files (_MAX_HEADER_SIZE)
# The header is a Python literal; this is the form in which all versions of NumPy write it.
_HEADER = re.compile(
    rb"\{'descr': (.+), 'fortran_order': (?:False|True), 'shape': (\(.*\)), ?\} *\n"
)


class _ElementType(Buildable):
    """``numpy.dtype``: a code such as f4, and a byte order."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = plain_data.text(code)
        self.order = "<"

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise PickleError("an element type of unknown form")
        self.order = state[1]

    @property
    def is_object(self) -> bool:
        return self.code in ("O", "O4", "O8")

    def resolve(self) -> tuple[DType, np.dtype[np.generic]]:
        """Return the type, and the NumPy type of the bytes in the file."""
        for dtype in DTYPES:
            spellings = (dtype.storage, dtype.storage and dtype.storage[1:])
            if self.code in spellings and dtype is not BFLOAT16:
                return dtype, dtype.numpy.newbyteorder(">" if self.order == ">" else "<")
        raise PickleError(f"an array of unknown element type {self.code[:20]!r}")


class _Array(Buildable):
    """``numpy.ndarray``: shape, element type, order, and bytes or a list of objects."""

    def __init__(self, as_bytes: Callable[[str | bytearray], bytes]) -> None:
        self.as_bytes = as_bytes
        self.shape: tuple[int, ...] = ()
        self.type: _ElementType | None = None
        self.fortran = False
        self.data: bytes | list[object] = b""

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleError("an array of unknown form")
        _, shape, kind, fortran, data = state
        self.fill(shape, kind, bool(fortran), data)

    def fill(self, shape: object, kind: object, fortran: bool, data: object) -> None:
        if not isinstance(kind, _ElementType):
            raise PickleError("an array without an element type")
        self.shape, self.type, self.fortran = plain_data.sizes(shape), kind, fortran
        if isinstance(data, (str, bytearray)):  # text in Python 2, a byte array in protocol 5
            data = self.as_bytes(data)
        if kind.is_object and isinstance(data, list):
            if len(data) != prod(self.shape):
                raise PickleError(f"an array of shape {self.shape} with {len(data)} objects")
            self.data = data
        elif not kind.is_object and isinstance(data, bytes):
            expected = prod(self.shape) * kind.resolve()[0].itemsize
            if len(data) != expected:
                raise PickleError(
                    f"an array of shape {self.shape} with {len(data)} bytes, not {expected}"
                )
            self.data = data
        else:
            raise PickleError("an array with values of unknown form")

    def load(self) -> Array:
        assert self.type is not None
        dtype, stored = self.type.resolve()
        assert isinstance(self.data, bytes)
        flat = np.frombuffer(self.data, stored)
        array = flat.reshape(self.shape, order="F" if self.fortran else "C")
        array = np.ascontiguousarray(array, dtype.numpy).reshape(self.shape)
        array.flags.writeable = False
        return array


class _Builder:
    """The constructors for the pickle of one file.

    Each text is encoded only once: a pickle can refer to the same one a thousand times.
    """

    def __init__(self) -> None:
        self._encoded: dict[int, tuple[object, bytes]] = {}  # by id(); keeps the text alive

    def as_bytes(self, value: str | bytearray) -> bytes:
        if id(value) not in self._encoded:
            data = value.encode("latin-1") if isinstance(value, str) else bytes(value)
            self._encoded[id(value)] = value, data
        return self._encoded[id(value)][1]

    def reconstruct(self, kind: object, *_: object) -> _Array:
        if not isinstance(kind, Name) or kind.path != "numpy ndarray":
            raise PickleError("an array whose class is not numpy.ndarray")
        return _Array(self.as_bytes)

    def from_buffer(self, data: object, kind: object, shape: object, order: object) -> _Array:
        array = _Array(self.as_bytes)
        array.fill(shape, kind, order == "F", data)
        return array

    def encode(self, value: object, encoding: object) -> bytes:
        """Return bytes as Python 3 pickles them with protocol 2 and older."""
        if encoding not in ("latin1", "latin-1"):
            raise PickleError("bytes in unknown encoding")
        return self.as_bytes(plain_data.text(value))

    def constructors(self) -> unpickler.Constructors:
        cores = ("numpy.core", "numpy._core")
        return {
            "numpy ndarray": _not_called,
            "numpy dtype": _ElementType,
            "_codecs encode": self.encode,
            "__builtin__ bytes": _no_bytes,  # b"" in protocol 2
            **{f"{core}.multiarray _reconstruct": self.reconstruct for core in cores},
            **{f"{core}.numeric _frombuffer": self.from_buffer for core in cores},
        }


def _no_bytes() -> bytes:
    return b""


def _not_called(*_: object) -> object:
    raise PickleError("a call of numpy.ndarray")


def recognises(path: Path) -> bool:
    """Return whether the file starts with the magic number of .npy files."""
    return starts_with(path, MAGIC)


def open(path: Path) -> Catalog:
    """Return the arrays of the file, named ``layer/parameter``.

    The format has no checksum; every size is checked against the size of the file.

    Raises:
        FormatError: The file is damaged, or does not hold MTCNN's weights.
    """
    file = MappedFile(path)
    start = _object_header(file)
    reader = file.reader(start)
    try:
        root = unpickler.load(reader, _Builder().constructors())
        if reader.tell() != file.size:
            raise PickleError(f"{file.size - reader.tell()} other bytes after the pickle")
        arrays = _arrays(root)
        tensors = {name: _tensor(name, array) for name, array in arrays.items()}
        held = sum(ref.nbytes for ref in tensors.values())
        if held > file.size:  # the pickle refers to the same bytes many times
            raise PickleError(f"arrays of {held} bytes in a file of {file.size}")
    except PickleError as error:
        raise unpickler.format_error(path, error, "the pickled weights") from error
    return Catalog(tensors, format=FORMAT, naming=NAMING, files=(path,))


def _tensor(name: str, array: _Array) -> TensorRef:
    assert array.type is not None
    dtype, _ = array.type.resolve()
    return TensorRef(name, dtype, array.shape, array.load)


def _object_header(file: MappedFile) -> int:
    """Return the offset of the pickle. Raises FormatError unless the file holds one object."""
    version = bytes(file.view(len(MAGIC), 2, "version"))
    width = 2 if version == b"\x01\x00" else 4
    start = len(MAGIC) + 2 + width
    size = int.from_bytes(file.view(start - width, width, "header"), "little")
    header = bytes(file.view(start, size, "header")) if size <= _MAX_HEADER else b""
    match = _HEADER.fullmatch(header)
    if version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00") or match is None:
        raise FormatError(
            "the .npy header is damaged",
            file=file.path,
            expected="{'descr': …, 'fortran_order': …, 'shape': …, }",
            found=f"version {version[0]}.{version[1]}, {size} bytes: {header[:80]!r}",
            next_step="download the file again",
        )
    if match[1] not in (b"'|O'", b"'O'") or match[2] != b"()":
        raise FormatError(
            "this .npy file holds a plain array, not MTCNN weights",
            file=file.path,
            expected="one pickled dict {layer: {weights, biases or alpha}}, as in det1.npy",
            found=f"an array of {match[1].decode('latin-1')} {match[2].decode('latin-1')}",
            next_step="pass det1.npy, det2.npy or det3.npy of davidsandberg/facenet (src/align)",
        )
    return start + size


def _arrays(root: object) -> dict[str, _Array]:
    content = root.data if isinstance(root, _Array) and root.shape == () else [None]
    layers = content[0] if isinstance(content, list) and content else None
    if not isinstance(layers, Dict) or not layers:
        raise PickleError("the pickle does not hold a dict of layers")
    arrays = {}
    for layer, parameters in plain_data.named(layers).items():
        if not isinstance(parameters, Dict):
            raise PickleError(f"layer {layer[:80]!r} is not a dict of arrays")
        for parameter, array in plain_data.named(parameters).items():
            if not isinstance(array, _Array) or array.type is None or array.type.is_object:
                raise PickleError(f"{layer[:80]}/{parameter[:80]} is not an array of numbers")
            name = f"{layer}/{parameter}"
            if name in arrays:
                raise PickleError(f"two arrays have the name {name[:80]!r}")
            arrays[name] = array
    return arrays
