"""TensorProto: one tensor inside a message, as graphs and checkpoints of version 1 store it.

Sources: tensorflow/core/framework/tensor.proto and types.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from converter.dtypes import BY_TENSORFLOW, Array, DType
from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow import protobuf
from converter.sources.tensorflow.index import tensor_shape
from converter.sources.tensorflow.protobuf import DecodeError
from facenet_common.errors import FormatError

# TensorProto's fields of typed values. Floats have a fixed size, all others are varints.
_FIXED = {"float32": 5, "float64": 6}
_TYPED = {
    **_FIXED,
    **dict.fromkeys(("int32", "int16", "int8", "uint16", "uint8"), 7),
    "int64": 10,
    "bool": 11,
    **dict.fromkeys(("float16", "bfloat16"), 13),  # their bits
}
_MAX_REPEATED = 1 << 24  # bytes of a constant that repeats a value, or the file's size


def describe(tensor: memoryview) -> tuple[DType, tuple[int, ...]]:
    """Return the type and shape of a TensorProto. Raises DecodeError for impossible ones."""
    code = 0
    shape: tuple[int, ...] = ()
    for number, field in protobuf.fields(tensor):
        if number == 1:
            code = protobuf.integer(field)
        elif number == 2:
            shape = tensor_shape(protobuf.view(field))
    if code not in BY_TENSORFLOW:
        raise DecodeError(f"unknown element type {code}")
    return BY_TENSORFLOW[code], shape


def load(
    tensor: memoryview,
    file: MappedFile,
    name: str,
    dtype: DType,
    shape: tuple[int, ...],
    *,
    may_repeat: bool = True,
) -> Array:
    """Return the values of a TensorProto: read-only, of `shape`, in `dtype`'s storage type.

    Args:
        tensor: The message.
        file, name: The file and the tensor's name, for messages.
        dtype: The element type.
        shape: The size of each axis.
        may_repeat: The last value may stand for all that follow it, as in a graph's constants.

    Raises:
        FormatError: It has another number of values than the shape, or strings.
    """
    if dtype.storage is None:
        raise FormatError("strings can be listed, but not converted", file=file.path, tensor=name)
    values, repeats = _values(tensor, dtype)
    count = prod(shape)
    affordable = may_repeat and dtype.itemsize * count <= max(file.size, _MAX_REPEATED)
    short = len(values) < count and not (repeats and len(values) and affordable)
    if len(values) > count or short:
        raise FormatError(
            "a tensor's number of values does not match its shape",
            file=file.path,
            tensor=name,
            expected=f"{count} values for {dtype} {list(shape)}",
            found=f"{len(values)} values",
            next_step="download the file again, or write it again",
        )
    if len(values) < count:  # tensor.proto: the last value is repeated
        tail = np.full(count - len(values), values[-1])
        values = np.concatenate([values, tail])
        values.flags.writeable = False
    return values.reshape(shape)


def _values(tensor: memoryview, dtype: DType) -> tuple[Array, bool]:
    """Return the stored values, and whether the last one may be repeated to fill the shape."""
    typed = _TYPED.get(dtype.name)
    content = memoryview(b"")
    scalars = bytearray()
    for number, field in protobuf.fields(tensor):
        if number == 4:
            content = protobuf.view(field)
        elif number == typed:
            scalars += _typed_values(field, dtype)
    data = content if len(content) else memoryview(bytes(scalars))
    if len(data) % dtype.itemsize:
        return np.empty(0, dtype.numpy), False
    return np.frombuffer(data, dtype.numpy), not len(content)


def _typed_values(field: protobuf.Value, dtype: DType) -> bytes:
    """Return the values of one field: one, or many if they are packed.

    Values that exceed the type are left out, so that the number of values will not match.
    """
    size = dtype.itemsize
    if dtype.name in _FIXED:
        if not isinstance(field, int):
            return bytes(field)
        return field.to_bytes(size, "little") if field < 1 << 8 * size else b""
    numbers = [field] if isinstance(field, int) else list(_varints(field))
    mask = (1 << 8 * size) - 1
    fits = [n for n in numbers if n <= mask or -(1 << 8 * size - 1) <= protobuf.signed(n) < 0]
    return b"".join((n & mask).to_bytes(size, "little") for n in fits)


def _varints(packed: memoryview) -> Iterator[int]:
    position = 0
    while position < len(packed):
        number, position = protobuf.varint(packed, position)
        yield number
