"""Frozen graphs (.pb): a GraphDef whose variables are constants. Read without TensorFlow.

Freezing replaces a variable with a constant of the same name and keeps the Identity ``NAME/read``
after it. Constants with such an Identity are weights; the many others (strides, axes, epsilons) are
not listed. Sources: tensorflow/core/framework/
graph.proto, node_def.proto, attr_value.proto, tensor.proto.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from converter.catalog import Catalog, Naming, TensorRef
from converter.sources import archive
from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow import protobuf
from converter.sources.tensorflow.protobuf import DecodeError
from converter.sources.tensorflow.tensor_proto import describe, load
from facenet_common.errors import FormatError

FORMAT = "frozen-graph"
NAMING: Naming = "tensorflow"


def recognises(path: Path) -> bool:
    """Return whether the file's suffix is .pb; a GraphDef has no magic number."""
    return path.suffix == ".pb" and archive.is_file(path)


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
            dtype, shape = describe(constants[name])
            values = partial(load, constants[name], file, name, dtype, shape)
            refs[name] = TensorRef(name, dtype, shape, values)
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
