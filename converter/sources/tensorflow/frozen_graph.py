"""Frozen graphs (.pb): a GraphDef whose variables are constants. Read without TensorFlow.

Freezing replaces a variable with a constant of the same name and keeps the Identity ``NAME/read``
after it. Constants with such an Identity are weights; the many others (strides, axes, epsilons) are
not listed. Sources: tensorflow/core/framework/
graph.proto, node_def.proto, attr_value.proto, tensor.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import BY_TENSORFLOW, Array, DType
from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow import protobuf
from converter.sources.tensorflow.index import tensor_shape
from converter.sources.tensorflow.protobuf import DecodeError
from facenet_common.errors import FormatError

FORMAT = "frozen-graph"
NAMING: Naming = "tensorflow"

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


def recognises(path: Path) -> bool:
    """Return whether the file's suffix is .pb; a GraphDef has no magic number."""
    return path.suffix == ".pb" and path.is_file()


def open(path: Path) -> Catalog:
    """Return the graph's frozen variables. Values are read when they are loaded.

    Raises:
        FormatError: The file is damaged, or the graph has no frozen variables.
    """
    file = MappedFile(path)
    try:
        constants, read = _scan(file.view())
        refs = {}
        for name in constants:
            if name not in read:
                continue
            dtype, shape = _describe(constants[name])
            load = partial(_load, constants[name], file, name, dtype, shape)
            refs[name] = TensorRef(name, dtype, shape, load)
    except DecodeError as error:
        if not file.view(0, 1)[0] == 0x0A:  # field 1 (node), length-delimited
            raise file.wrong_format("a frozen TensorFlow graph (GraphDef)") from error
        raise FormatError(
            "the frozen graph is damaged", file=path, found=error, next_step="download it again"
        ) from error
    if not refs:
        raise FormatError(
            "the graph holds no frozen variables",
            file=path,
            expected="constants with an Identity NAME/read, as freeze_graph.py writes them",
            found=f"{len(constants)} constants without one",
            next_step="pass the checkpoint's folder, or freeze the graph with its weights",
        )
    others = len(constants) - len(refs)
    notes = (f"skipped {others} constants that are not weights (strides, axes, epsilons)",)
    return Catalog(
        refs,
        format=FORMAT,
        naming=NAMING,
        files=(path,),
        notes=notes if others else (),
        release=file.release,
    )


def _scan(graph: memoryview) -> tuple[dict[str, memoryview], set[str]]:
    """Return the TensorProto of every constant, and the names that have a ``/read`` Identity."""
    constants: dict[str, memoryview] = {}
    read: set[str] = set()
    seen: set[str] = set()
    for number, field in protobuf.fields(graph):
        if number != 1:
            continue
        name, op, source, tensor = _node(protobuf.view(field))
        if name in seen:
            raise DecodeError(f"two nodes have the name {name}")
        seen.add(name)
        if op == "Const" and tensor is not None:
            constants[name] = tensor
        elif op == "Identity" and name == f"{source}/read":
            read.add(source)
    return constants, read


def _node(node: memoryview) -> tuple[str, str, str, memoryview | None]:
    name = op = source = ""
    tensor = None
    for number, field in protobuf.fields(node):
        if number == 1:
            name = protobuf.text(field)
        elif number == 2:
            op = protobuf.text(field)
        elif number == 3 and not source:
            source = protobuf.text(field).removesuffix(":0")
        elif number == 5:
            tensor = _value_attribute(protobuf.view(field)) or tensor
    return name, op, source, tensor


def _value_attribute(attribute: memoryview) -> memoryview | None:
    """Return the tensor of a node's attribute ``value``; None for another attribute."""
    entry = dict(protobuf.fields(attribute))
    if bytes(protobuf.view(entry.get(1, memoryview(b"")))) != b"value" or 2 not in entry:
        return None
    return next(
        (protobuf.view(v) for n, v in protobuf.fields(protobuf.view(entry[2])) if n == 8), None
    )


def _describe(tensor: memoryview) -> tuple[DType, tuple[int, ...]]:
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


def _load(
    tensor: memoryview, file: MappedFile, name: str, dtype: DType, shape: tuple[int, ...]
) -> Array:
    if dtype.storage is None:
        raise FormatError("strings can be listed, but not converted", file=file.path, tensor=name)
    values, repeats = _values(tensor, dtype)
    count = prod(shape)
    affordable = dtype.itemsize * count <= max(file.size, _MAX_REPEATED)
    short = len(values) < count and not (repeats and len(values) and affordable)
    if len(values) > count or short:
        raise FormatError(
            "a constant's number of values does not match its shape",
            file=file.path,
            tensor=name,
            expected=f"{count} values for {dtype} {list(shape)}",
            found=f"{len(values)} values",
            next_step="download the graph again, or freeze it again",
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
