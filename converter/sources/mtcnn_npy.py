"""MTCNN's det1.npy, det2.npy and det3.npy: a pickled dict ``{layer: {weights, biases or alpha}}``.

The file is a .npy of one object, so the dict is a pickle, decoded by `pickles`. Both spellings of
NumPy's modules are known (``numpy.core`` before NumPy 2, ``numpy._core`` since), and the Python 2
pickles that the published files are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import BFLOAT16, DTYPES, Array, DType
from converter.sources import unpickler
from converter.sources.mapped_file import MappedFile
from converter.sources.unpickler import Buildable, Dict, Name, PickleError
from facenet_common.errors import FormatError

FORMAT = "mtcnn-npy"
NAMING: Naming = "tensorflow"

MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000  # bytes; NumPy's own limit for untrusted files
# NumPy's parser evaluates the header as Python; this is what it is as every NumPy writes it.
_HEADER = re.compile(
    rb"\{'descr': (.+), 'fortran_order': (?:False|True), 'shape': (\(.*\)), ?\} *\n"
)


class _ElementType(Buildable):
    """``numpy.dtype``: a code such as f4, then a byte order."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = unpickler.text(code)
        self.order = "<"

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise PickleError("an element type of an unknown form")
        self.order = state[1]

    @property
    def is_object(self) -> bool:
        return self.code in ("O", "O4", "O8")

    def resolve(self) -> tuple[DType, np.dtype[np.generic]]:
        """The type, and the NumPy type of the bytes in the file."""
        for dtype in DTYPES:
            spellings = (dtype.storage, dtype.storage and dtype.storage[1:])
            if self.code in spellings and dtype is not BFLOAT16:
                return dtype, dtype.numpy.newbyteorder(">" if self.order == ">" else "<")
        raise PickleError(f"arrays of element type {self.code[:20]!r}")


class _Array(Buildable):
    """``numpy.ndarray``: shape, element type, order and bytes, or a list of objects."""

    def __init__(self, as_bytes: Callable[[str | bytearray], bytes]) -> None:
        self.as_bytes = as_bytes
        self.shape: tuple[int, ...] = ()
        self.type: _ElementType | None = None
        self.fortran = False
        self.data: bytes | list[object] = b""

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleError("an array of an unknown form")
        _, shape, kind, fortran, data = state
        self.fill(shape, kind, bool(fortran), data)

    def fill(self, shape: object, kind: object, fortran: bool, data: object) -> None:
        if not isinstance(kind, _ElementType):
            raise PickleError("an array without an element type")
        self.shape, self.type, self.fortran = unpickler.sizes(shape), kind, fortran
        if isinstance(data, (str, bytearray)):  # Python 2 wrote text, protocol 5 a byte array
            data = self.as_bytes(data)
        if kind.is_object and isinstance(data, list):
            if len(data) != prod(self.shape):
                raise PickleError(f"an array of shape {self.shape} with {len(data)} objects")
            self.data = data
        elif not kind.is_object and isinstance(data, bytes):
            expected = prod(self.shape) * kind.resolve()[0].itemsize
            if len(data) != expected:
                raise PickleError(
                    f"an array of {expected} bytes (shape {self.shape}) with {len(data)} bytes"
                )
            self.data = data
        else:
            raise PickleError("an array whose values are of an unknown form")

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
    """What the pickle of one file may construct.

    Each text is turned into bytes only once: a pickle can ask for the same one a thousand times.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[object, bytes]] = {}  # by identity; keeps the text alive

    def as_bytes(self, value: str | bytearray) -> bytes:
        if id(value) not in self._made:
            made = value.encode("latin-1") if isinstance(value, str) else bytes(value)
            self._made[id(value)] = value, made
        return self._made[id(value)][1]

    def reconstruct(self, kind: object, *_: object) -> _Array:
        if not isinstance(kind, Name) or kind.path != "numpy ndarray":
            raise PickleError("an array of another class than numpy.ndarray")
        return _Array(self.as_bytes)

    def from_buffer(self, data: object, kind: object, shape: object, order: object) -> _Array:
        array = _Array(self.as_bytes)
        array.fill(shape, kind, order == "F", data)
        return array

    def encode(self, value: object, encoding: object) -> bytes:
        """How Python 3 spells bytes in pickles of protocol 2 and older."""
        if encoding not in ("latin1", "latin-1"):
            raise PickleError("bytes in an unknown encoding")
        return self.as_bytes(unpickler.text(value))

    def constructors(self) -> unpickler.Constructors:
        cores = ("numpy.core", "numpy._core")
        return {
            "numpy ndarray": _not_called,
            "numpy dtype": _ElementType,
            "_codecs encode": self.encode,
            "__builtin__ bytes": _no_bytes,  # how protocol 2 spells b""
            **{f"{core}.multiarray _reconstruct": self.reconstruct for core in cores},
            **{f"{core}.numeric _frombuffer": self.from_buffer for core in cores},
        }


def _no_bytes() -> bytes:
    return b""


def _not_called(*_: object) -> object:
    raise PickleError("numpy.ndarray is called directly")


def recognises(path: Path) -> bool:
    """Whether the file starts as .npy files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def open(path: Path) -> Catalog:
    """The arrays of the file, as ``layer/parameter``. FormatError where it is something else.

    The format has no checksum; every size is checked against the bytes that are there.
    """
    file = MappedFile(path)
    start = _object_header(file)
    reader = file.reader(start)
    try:
        root = unpickler.load(reader, _Builder().constructors())
        if reader.tell() != file.size:
            raise PickleError(f"{file.size - reader.tell()} bytes behind the pickle")
        arrays = _arrays(root)
        tensors = {name: _tensor(name, array) for name, array in arrays.items()}
        held = sum(ref.nbytes for ref in tensors.values())
        if held > file.size:  # the same bytes, many times over
            raise PickleError(f"arrays of {held} bytes in a file of {file.size}")
    except PickleError as error:
        raise unpickler.damaged(path, error, "the pickled weights") from error
    return Catalog(tensors, format=FORMAT, naming=NAMING, files=(path,))


def _tensor(name: str, array: _Array) -> TensorRef:
    assert array.type is not None
    dtype, _ = array.type.resolve()
    return TensorRef(name, dtype, array.shape, array.load)


def _object_header(file: MappedFile) -> int:
    """Where the pickle starts. FormatError unless the file holds one Python object."""
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
            next_step="fetch the file again",
        )
    if match[1] not in (b"'|O'", b"'O'") or match[2] != b"()":
        raise FormatError(
            "this .npy file holds a plain array, not MTCNN weights",
            file=file.path,
            expected="one pickled dict {layer: {weights, biases or alpha}}, as in det1.npy",
            found=f"an array of {match[1].decode('latin-1')} {match[2].decode('latin-1')}",
            next_step="give det1.npy, det2.npy or det3.npy of davidsandberg/facenet (src/align)",
        )
    return start + size


def _arrays(root: object) -> dict[str, _Array]:
    content = root.data if isinstance(root, _Array) and root.shape == () else [None]
    layers = content[0] if isinstance(content, list) and content else None
    if not isinstance(layers, Dict) or not layers:
        raise PickleError("the pickle holds no dict of layers")
    arrays = {}
    for layer, parameters in unpickler.named(layers).items():
        if not isinstance(parameters, Dict):
            raise PickleError(f"layer {layer[:80]!r} is no dict of arrays")
        for parameter, array in unpickler.named(parameters).items():
            if not isinstance(array, _Array) or array.type is None or array.type.is_object:
                raise PickleError(f"{layer[:80]}/{parameter[:80]} is no array of numbers")
            name = f"{layer}/{parameter}"
            if name in arrays:
                raise PickleError(f"two arrays are called {name[:80]!r}")
            arrays[name] = array
    return arrays
