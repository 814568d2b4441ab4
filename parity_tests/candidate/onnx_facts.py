"""Which network an ONNX file holds: what it says itself, else what its shapes say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facenet_common.errors import ParityError
from facenet_common.text import printable

# Each network's answers in its order, with their numbers an image (P-Net: a window). None is the
# embedding's size.
OUTPUTS: Mapping[str, Mapping[str, int | None]] = {
    "inception_resnet_v1": {"embeddings": None},
    "pnet": {"regression": 4, "probability": 2},
    "rnet": {"regression": 4, "probability": 2},
    "onet": {"regression": 4, "landmarks": 10, "probability": 2},
}
MAX_SIZE = 10**7  # of an embedding or of the classes: beyond all use, and not yet harmful
_PREFIX = "facenet."  # of the keys that facenet_models.onnx.export writes


def facts_of(path: Path, proto: Any) -> tuple[str, dict[str, int]]:
    """The architecture and the sizes of the model `proto`, read from `path`.

    Raises:
        ParityError: It is of no known network, or says something impossible about itself.
    """
    said = {prop.key: prop.value for prop in proto.metadata_props}
    if f"{_PREFIX}architecture" in said:
        return _from_metadata(path, said)
    return _from_shapes(path, proto.graph)


def _from_metadata(path: Path, said: Mapping[str, str]) -> tuple[str, dict[str, int]]:
    architecture = said[f"{_PREFIX}architecture"]
    names = ("embedding", "classes") if architecture == "inception_resnet_v1" else ()
    texts = {name: said[_PREFIX + name] for name in names if _PREFIX + name in said}
    dims = {name: int(text) for name, text in texts.items() if text.isdecimal() and len(text) < 9}
    possible = all(0 < size <= MAX_SIZE for size in dims.values()) and dims.keys() == texts.keys()
    complete = "embedding" in dims or not names
    if architecture not in OUTPUTS or not possible or not complete:
        raise ParityError(
            "the ONNX file's metadata make no sense",
            file=path,
            expected=f"{_PREFIX}architecture: one of {', '.join(OUTPUTS)}; whole numbers as sizes",
            found=printable(", ".join(f"{key}: {said[key]}" for key in said if _PREFIX in key)),
            next_step="export it again",
        )
    return architecture, dims


def _from_shapes(path: Path, graph: Any) -> tuple[str, dict[str, int]]:
    declared = {value.name: _shape(value) for value in graph.output}
    ranks = {len(shape) for shape in declared.values()}
    sizes = sorted(shape[1] for shape in declared.values() if len(shape) > 1)
    if ranks == {4} and sizes == [2, 4]:
        return "pnet", {}
    if ranks == {2} and sizes == [2, 4]:
        return "rnet", {}
    if ranks == {2} and sizes == [2, 4, 10]:
        return "onet", {}
    size = _shape_of_embedding(declared)
    if 0 < size <= MAX_SIZE:
        return "inception_resnet_v1", {"embedding": size}
    raise ParityError(
        "the ONNX file's outputs are those of no network known here",
        file=path,
        expected="embeddings (N, size); or (N, 4) and (N, 2), and (N, 10) for O-Net; "
        "or (N, 4, H, W) and (N, 2, H, W)",
        found=printable(", ".join(f"{name} {shape}" for name, shape in declared.items())),
        next_step="declare the outputs' shapes in the file (onnx.shape_inference)",
    )


def _shape_of_embedding(declared: Mapping[str, tuple[int, ...]]) -> int:
    """The length of the only row, or of that named embeddings; 0 if there is none."""
    name = "embeddings" if "embeddings" in declared else next(iter(declared), "")
    if len(declared) != 1 and name != "embeddings":
        return 0
    shape = declared.get(name, ())
    return shape[1] if len(shape) == 2 else 0


def _shape(value: Any) -> tuple[int, ...]:
    """A declared shape; 0 stands for what is free."""
    return tuple(edge.dim_value for edge in value.type.tensor_type.shape.dim)
