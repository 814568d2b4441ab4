"""Read an ONNX file, which is untrusted, and load it.

It may refer to other files in its own folder only; libraries of custom operators are never loaded;
files larger than any network of this kind are not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from facenet_common.errors import ParityError, UsageError
from facenet_common.optional import require
from facenet_common.text import check_path, printable

MAX_BYTES = 2**30  # ten times InceptionResnetV1; of the file, and of the files it refers to


def read(path: Path) -> tuple[Any, bytes]:
    """Return the file's model and its bytes; other files that it names are checked, not read."""
    onnx = require("onnx", "verifying an ONNX file")
    if not path.is_file():
        raise UsageError("the ONNX file does not exist", file=path, next_step=check_path(path))
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(path, size)
        data = path.read_bytes()
    except OSError as error:
        raise ParityError("can't read the ONNX file", file=path, found=error.strerror) from error
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError: from a package that onnx may change
        raise ParityError(
            "the file is damaged, or not ONNX", file=path, found=printable(error)
        ) from error
    if not proto.graph.node or not proto.opset_import:  # any bytes may happen to be protobuf
        raise ParityError("the file is damaged, or not ONNX", file=path, found="no graph in it")
    _check_external(path, proto)
    return proto, data


def _check_external(path: Path, proto: Any) -> None:
    """Check the files with weights: plain names in the same folder, no links, total size."""
    names = {
        entry.value
        for tensor in _tensors(proto)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        file = path.parent / name
        if name in ("", ".", "..") or "/" in name or "\\" in name or file.is_symlink():
            raise ParityError(
                "the ONNX file refers to a file outside its folder, which is not opened",
                file=path,
                found=printable(name),
                next_step="export it as one file",
            )
        if not file.is_file():
            raise ParityError(
                "the ONNX file's weights are in another file, which is missing",
                file=path,
                expected=printable(file),
                next_step="put it beside the ONNX file under that name",
            )
    total = sum((path.parent / name).stat().st_size for name in names)
    if total > MAX_BYTES:
        raise _too_large(path, total)


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor in a protobuf message: in subgraphs, attributes, functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if isinstance(value, Sequence) or hasattr(value, "add") else (value,):
            yield from _tensors(part)


def weight_types(proto: Any) -> dict[str, int]:
    """Return how many numbers of each floating-point type the weights have."""
    types = require("onnx", "verifying an ONNX file").TensorProto
    names = {
        types.FLOAT: "float32",
        types.DOUBLE: "float64",
        types.FLOAT16: "float16",
        types.BFLOAT16: "bfloat16",
    }
    numbers: dict[str, int] = {}
    for tensor in _tensors(proto):
        name = names.get(tensor.data_type)
        if name:
            numbers[name] = numbers.get(name, 0) + math.prod(tensor.dims)
    return numbers


def make_session(path: Path, data: bytes, *, quick: bool = False) -> Any:
    """Return an onnxruntime session on the CPU; with `quick` it loads faster and runs slower.

    Raises:
        ParityError: onnxruntime refuses the file.
    """
    ort = require("onnxruntime", "verifying an ONNX file")
    options = ort.SessionOptions()
    if quick:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # errors are raised as well as logged
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.absolute().parent)
    )
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise ParityError(
            "onnxruntime can't load the ONNX file", file=path, found=printable(error)
        ) from error


def _too_large(path: Path, size: int) -> ParityError:
    return ParityError(
        "the ONNX file is larger than any of these networks",
        file=path,
        expected=f"at most {MAX_BYTES:,} bytes",
        found=f"{size:,}",
    )
