"""Find which network an ONNX file contains, by its metadata, else by the shapes of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converter.architectures import ARCHITECTURES
from converter.architectures.record import Output
from facenet_common.errors import ParityError
from facenet_common.text import printable

MAX_SIZE = 10**7  # of an embedding or of the classes: more than any use, little enough memory
_PREFIX = "facenet."  # of the keys that facenet_models.onnx.export writes


def facts_of(path: Path, proto: Any, like: str | None = None) -> tuple[str, dict[str, int]]:
    """Return the architecture and the sizes of the model `proto`, read from `path`.

    Networks with equal outputs can't be distinguished by shapes: a file without metadata is then of
    the architecture `like`, if that is one of them, else of the first in
    `converter.architectures.ARCHITECTURES`.

    Raises:
        ParityError: It is of an unknown network, or its metadata are impossible.
    """
    metadata = {prop.key: prop.value for prop in proto.metadata_props}
    if f"{_PREFIX}architecture" in metadata:
        return _from_metadata(path, metadata)
    return _from_shapes(path, proto.graph, like)


def _from_metadata(path: Path, metadata: Mapping[str, str]) -> tuple[str, dict[str, int]]:
    architecture = metadata[f"{_PREFIX}architecture"]
    known = ARCHITECTURES.get(architecture)
    names = known.dims if known else ()
    texts = {name: metadata[_PREFIX + name] for name in names if _PREFIX + name in metadata}
    dims = {name: int(text) for name, text in texts.items() if text.isdecimal() and len(text) < 9}
    possible = all(0 < size <= MAX_SIZE for size in dims.values()) and dims.keys() == texts.keys()
    if not known or not possible or not dims.keys() >= set(known.required_dims):
        found = ", ".join(f"{key}: {metadata[key]}" for key in metadata if _PREFIX in key)
        raise ParityError(
            "the ONNX file's metadata are invalid",
            file=path,
            expected=f"{_PREFIX}architecture: one of {', '.join(ARCHITECTURES)}; "
            "whole numbers as sizes",
            found=printable(found),
            next_step="export it again",
        )
    return architecture, dims


def _from_shapes(path: Path, graph: Any, like: str | None) -> tuple[str, dict[str, int]]:
    declared = {value.name: _shape(value) for value in graph.output}
    fitting = {
        name: dims
        for name, known in ARCHITECTURES.items()
        if (dims := _dims(known.outputs, declared)) is not None
    }
    if fitting:
        architecture = like if like in fitting else next(iter(fitting))
        return architecture, fitting[architecture]
    raise ParityError(
        "the ONNX file's outputs do not fit any known network",
        file=path,
        expected="; ".join(
            f"{name}: {', '.join(map(_text, known.outputs))}"
            for name, known in ARCHITECTURES.items()
        ),
        found=printable(", ".join(f"{name} {shape}" for name, shape in declared.items())),
        next_step="declare the outputs' shapes in the file (onnx.shape_inference)",
    )


def _dims(
    outputs: Sequence[Output], declared: Mapping[str, tuple[int, ...]]
) -> dict[str, int] | None:
    """Return the sizes of a network with `outputs`, by the declared shapes; None if they don't fit.

    A network of one output may be part of a file with others too, if one has its name.
    """
    shapes = list(declared.values())
    if len(outputs) == 1 and outputs[0].name in declared:
        shapes = [declared[outputs[0].name]]
    dims: dict[str, int] = {}
    for output in sorted(outputs, key=lambda output: isinstance(output.size, str)):
        sizes = range(1, MAX_SIZE + 1) if isinstance(output.size, str) else (output.size,)
        rank = 4 if output.is_map else 2
        shape = next((s for s in shapes if len(s) == rank and s[1] in sizes), None)
        if shape is None:
            return None
        shapes.remove(shape)
        if isinstance(output.size, str):
            dims[output.size] = shape[1]
    return None if shapes else dims


def _text(output: Output) -> str:
    return f"{output.name} (N, {output.size}{', H, W' if output.is_map else ''})"


def _shape(value: Any) -> tuple[int, ...]:
    """Return a declared shape; 0 stands for a free size."""
    return tuple(edge.dim_value for edge in value.type.tensor_type.shape.dim)
