"""Frozen graphs (.pb): a GraphDef whose variables are constants. Read without TensorFlow.

Freezing replaces a variable with a constant of the same name and keeps the Identity ``NAME/read``
after it, or of a resource variable an Identity ``…/ReadVariableOp``. Constants with such an
Identity are weights. Where tools removed it (`remove_training_nodes`), constants by the names of a
known network are. The many others (strides, axes, epsilons) are not listed. Sources: graph.proto,
node_def.proto, attr_value.proto and tensor.proto of tensorflow/core/framework/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path

from converter.architectures import ARCHITECTURES
from converter.catalog import Catalog, Naming, TensorRef
from converter.sources import archive
from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow import protobuf
from converter.sources.tensorflow.protobuf import DecodeError
from converter.sources.tensorflow.tensor_proto import describe, load
from facenet_common.errors import FormatError

FORMAT = "frozen-graph"
NAMING: Naming = "tensorflow"
_RESOURCE_READ = re.compile(r"(^|/)ReadVariableOp(_\d+)?$")


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
        nodes = [
            protobuf.view(field) for number, field in protobuf.fields(file.view()) if number == 1
        ]
        return constants_of([nodes], file, FORMAT)
    except DecodeError as error:
        if not file.view(0, 1)[0] == 0x0A:  # field 1 (node), length-delimited
            raise file.wrong_format("a frozen TensorFlow graph (GraphDef)") from error
        raise FormatError(
            "the frozen graph is damaged", file=path, found=error, next_step="download it again"
        ) from error


def constants_of(graphs: Iterable[Sequence[memoryview]], file: MappedFile, format: str) -> Catalog:
    """Return the constants that are weights, of graphs and functions: their nodes (NodeDefs).

    Raises:
        DecodeError: A node is damaged.
        FormatError: None of them is a weight.
    """
    constants: dict[str, memoryview] = {}
    read: set[str] = set()
    for nodes in graphs:
        found, weights = _scan(nodes)
        both = found.keys() & constants.keys() & (read | weights)
        if twice := [name for name in both if found[name] != constants[name]]:
            raise DecodeError(f"two different constants have the name {twice[0]}")
        constants |= found
        read |= weights
    refs = {}
    for name in constants:
        if name not in read:
            continue
        dtype, shape = describe(constants[name])
        values = partial(load, constants[name], file, name, dtype, shape)
        refs[name] = TensorRef(name, dtype, shape, values)
    if not refs:
        raise FormatError(
            "the graph holds no frozen variables",
            file=file.path,
            expected="constants with an Identity NAME/read, as freeze_graph.py writes, or by the "
            "names of a known network",
            found=f"{len(constants)} other constants",
            next_step="pass the checkpoint's folder, or freeze the graph with its weights",
        )
    others = len(constants) - len(refs)
    notes = (f"skipped {others} constants that are not weights (strides, axes, epsilons)",)
    return Catalog(
        refs,
        format=format,
        naming=NAMING,
        files=(file.path,),
        notes=notes if others else (),
        release=file.release,
    )


def is_variable(node: memoryview) -> bool:
    """Return whether a NodeDef is a variable, whose values are elsewhere."""
    return _node(node)[1] in ("Variable", "VariableV2", "VarHandleOp")


def _scan(nodes: Sequence[memoryview]) -> tuple[dict[str, memoryview], set[str]]:
    """Return the TensorProto of every constant, and the names of those that are weights."""
    constants: dict[str, memoryview] = {}
    read: set[str] = set()
    seen: set[str] = set()
    for node in nodes:
        name, op, source, tensor = _node(node)
        if name in seen:
            raise DecodeError(f"two nodes have the name {name}")
        seen.add(name)
        if op == "Const" and tensor is not None:
            constants[name] = tensor
        elif op in ("Identity", "ReadVariableOp") and _reads(name, source):
            read.add(source)
    known = {name for name in constants if name in _known()} - read
    return constants, read | known


def _reads(identity: str, source: str) -> bool:
    return identity == f"{source}/read" or bool(_RESOURCE_READ.search(identity))


@cache
def _known() -> frozenset[str]:
    """Return the names of the variables of all known networks, in TensorFlow."""
    return frozenset(
        row.source for known in ARCHITECTURES.values() for row in known.rows if row.source
    )


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
