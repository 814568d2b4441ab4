"""Find which network an ONNX file contains, by its metadata, else by the shapes of its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.architectures import ARCHITECTURES
from converter.architectures.record import Architecture, Output
from facenet_common.errors import ParityError
from facenet_common.text import printable
from parity_tests.candidate.onnx.file import make_session, read
from parity_tests.candidate.onnx.interface import match_outputs, plain, run_once

MAX_SIZE = 10**7  # of an embedding or of the classes: more than any use, little enough memory
_PREFIX = "facenet."  # of the keys that facenet_models.onnx.export writes


def onnx_facts(
    path: Path, like: str | None = None, dims: Mapping[str, int] | None = None
) -> tuple[str, dict[str, int]]:
    """Return the architecture and its sizes: from the file's metadata, else by running it once.

    Args:
        path: The file.
        like: The architecture that it should be. Networks with equal outputs can't be distinguished
            by shapes: a file without metadata is taken for `like` if it can be that.
        dims: The sizes that it should have: they tell embeddings from other outputs.

    Raises:
        UsageError: There is no such file.
        ParityError: It is not an ONNX file, or of an unknown network, or its metadata are invalid.
    """
    proto, data = read(path)
    metadata = {prop.key: prop.value for prop in proto.metadata_props}
    if f"{_PREFIX}architecture" in metadata:
        return _from_metadata(path, metadata)
    return _from_run(path, make_session(path, data, quick=True), like, dims or {})


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


def _from_run(
    path: Path, session: Any, like: str | None, dims: Mapping[str, int]
) -> tuple[str, dict[str, int]]:
    """Run the file with the images of each network, and return the one whose outputs it gives.

    Raises:
        ParityError: It gives those of none. If it runs with no images, the error says why.
    """
    fitting: dict[str, dict[str, int]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    problem = None
    for name in sorted(ARCHITECTURES, key=lambda name: name != like):
        try:
            images, shapes = run_once(path, session, name)
        except ParityError as error:
            problem = problem or error
            continue
        sizes = _sizes(ARCHITECTURES[name], shapes, dims)
        if sizes is not None and match_outputs(images, shapes, name, sizes):
            fitting[name] = sizes
        if like in fitting:
            break
    if fitting:  # the one with the most outputs: R-Net's are among O-Net's
        found = max(fitting, key=lambda name: (name == like, len(ARCHITECTURES[name].outputs)))
        return found, fitting[found]
    if problem and not shapes:
        raise problem
    logits = any(plain(name) == "logits" for name in shapes)
    raise ParityError(
        "the ONNX file's outputs do not fit any known network",
        file=path,
        expected="; ".join(
            f"{name}: {', '.join(map(_text, known.outputs))}"
            for name, known in ARCHITECTURES.items()
        ),
        found=printable(", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())),
        next_step="export it without --classify"
        if logits
        else "name the outputs as above, or leave out the others",
    )


def _sizes(
    known: Architecture, shapes: Mapping[str, tuple[int, ...]], dims: Mapping[str, int]
) -> dict[str, int] | None:
    """Return the sizes of the network that the file's outputs show; None if none is it.

    That is the output of the network's name, else one of the size in `dims`, else the only one.
    """
    widths = [(plain(name), shape[1]) for name, shape in shapes.items() if len(shape) == 2]
    found = {}
    for output in known.outputs:
        if not isinstance(output.size, str):
            continue
        named = [size for name, size in widths if name == output.name]
        wanted = [size for _, size in widths if size == dims.get(output.size)]
        alone = [size for _, size in widths] if len(widths) == 1 else []
        size = next(iter(named or wanted or alone), 0)
        if not 0 < size <= MAX_SIZE:
            return None
        found[output.size] = size
    return found


def _text(output: Output) -> str:
    return f"{output.name} (N, {output.size}{', H, W' if output.is_map else ''})"
