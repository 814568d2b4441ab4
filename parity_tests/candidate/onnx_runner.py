"""Run a candidate that is an ONNX file, by onnxruntime on the CPU.

The file is untrusted. It may refer to other files in its own folder only; libraries of custom
operators are never loaded; files larger than any network of this kind are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from facenet_common.errors import ParityError, UsageError
from facenet_common.optional import require
from facenet_common.text import check_path, printable
from parity_tests.candidate.onnx_facts import facts_of
from parity_tests.probes import FROM_TORCH, TO_TORCH, images_layout

Array = npt.NDArray[Any]

MAX_BYTES = 2**30  # ten times InceptionResnetV1; of the file, and of the files it refers to
_INPUT_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}


class OnnxCandidate:
    """Runs an ONNX file, ours or any other of the same network; a context manager.

    Args:
        path: The file. Its input is ``(N, 3, H, W)``; N, H and W may be fixed.
        architecture: A name of `converter.architectures.ARCHITECTURES`.
        dims: Its ``required_dims``.

    Entering loads the file, and raises `ParityError` if it can't be run or lacks an output of the
    architecture. Afterwards `dtypes` names the floating-point types of its weights, sorted. `model`
    is None: there is no torch module.
    """

    model = None

    def __init__(self, path: Path, architecture: str, dims: Mapping[str, int]) -> None:
        self.name = path.name
        self.dtypes: tuple[str, ...] = ()
        self._path = path
        self._architecture = architecture
        self._dims = dims
        self._session: Any = None
        self._outputs: list[str] = []

    def __enter__(self) -> OnnxCandidate:
        proto, data = _read(self._path)
        self.dtypes = _floating_types(proto)
        del proto  # as large as the weights
        session = _make_session(self._path, data)
        _check_input(self._path, session)
        self._outputs = _match_outputs(self._path, session, self._architecture, self._dims)
        self._session = session
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session = None

    @property
    def architecture(self) -> str:
        return self._architecture

    def run(self, images: Array) -> tuple[Array, ...]:
        """Return the outputs for `images`, both in TensorFlow's layout (NHWC).

        They are float64 if the file computes in it, else float32. A file with a fixed batch size is
        run several times.

        Raises:
            ParityError: The file does not take images of this size, or failed on them.
        """
        layout = images_layout(self._architecture)
        source = self._session.get_inputs()[0]
        batch = np.ascontiguousarray(images.transpose(TO_TORCH[layout]), _INPUT_TYPES[source.type])
        self._check_size(source, batch)
        parts = [self._run(source.name, part) for part in _split(batch, source.shape[0])]
        arrays = [np.concatenate(column)[: len(batch)] for column in zip(*parts, strict=True)]
        dtype = np.float64 if source.type == "tensor(double)" else np.float32
        arrays = [np.asarray(array, dtype) for array in arrays]
        return tuple(a.transpose(FROM_TORCH[layout]) if a.ndim == 4 else a for a in arrays)

    def _run(self, name: str, batch: Array) -> list[Array]:
        try:
            answers: list[Array] = self._session.run(self._outputs, {name: batch})
        except Exception as error:  # onnxruntime's errors have no common base
            raise ParityError(
                "onnxruntime failed on the images",
                file=self._path,
                expected=f"outputs for an input of shape {batch.shape}",
                found=printable(error),
            ) from error
        return answers

    def _check_size(self, source: Any, batch: Array) -> None:
        pairs = zip(source.shape[2:], batch.shape[2:], strict=True)
        if any(isinstance(fixed, int) and fixed != size for fixed, size in pairs):
            raise ParityError(
                "the ONNX file takes images of another size",
                file=self._path,
                expected=f"{source.shape[2]} by {source.shape[3]}",
                found=f"{batch.shape[2]} by {batch.shape[3]}",
                next_step="export it with free height and width",
            )


def onnx_facts(path: Path, like: str | None = None) -> tuple[str, dict[str, int]]:
    """Return the architecture and its sizes: from the file's metadata, else from its shapes.

    `like` is the architecture to prefer where the shapes fit several.

    Raises:
        UsageError: There is no such file.
        ParityError: It is not an ONNX file, or of an unknown network.
    """
    return facts_of(path, _read(path)[0], like)


def _read(path: Path) -> tuple[Any, bytes]:
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


def _floating_types(proto: Any) -> tuple[str, ...]:
    types = require("onnx", "verifying an ONNX file").TensorProto
    names = {
        types.FLOAT: "float32",
        types.DOUBLE: "float64",
        types.FLOAT16: "float16",
        types.BFLOAT16: "bfloat16",
    }
    found = {names.get(tensor.data_type) for tensor in proto.graph.initializer}
    return tuple(sorted(name for name in found if name))


def _make_session(path: Path, data: bytes) -> Any:
    ort = require("onnxruntime", "verifying an ONNX file")
    options = ort.SessionOptions()
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


def _check_input(path: Path, session: Any) -> None:
    """Raise ParityError unless there is one input, of images with three channels first."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if inputs else []
    fits = len(inputs) == 1 and len(shape) == 4 and inputs[0].type in _INPUT_TYPES
    if not fits or (shape[1] != 3 and (isinstance(shape[1], int) or shape[3] == 3)):
        raise ParityError(
            "the ONNX file does not take images in the networks' layout",
            file=path,
            expected="one floating point input of shape (N, 3, H, W)",
            found=printable(", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs) or "none"),
        )


def _match_outputs(
    path: Path, session: Any, architecture: str, dims: Mapping[str, int]
) -> list[str]:
    """Return the file's names of the architecture's outputs, matched by name, else by shape."""
    declared = {output.name: output.shape for output in session.get_outputs()}
    wanted = {output.name: output.size for output in ARCHITECTURES[architecture].outputs}
    if set(wanted) <= set(declared):
        return list(wanted)
    matched = []
    for name, dim in wanted.items():
        size = dims.get(dim) if isinstance(dim, str) else dim
        fitting = [key for key, shape in declared.items() if shape[1:2] == [size or 0]]
        if len(fitting) != 1 or fitting[0] == "logits":
            raise ParityError(
                f"the ONNX file does not give the {name} of {architecture}",
                file=path,
                expected=f"one output named {name}, or with {size} numbers for each image",
                found=printable(", ".join(f"{key} {shape}" for key, shape in declared.items())),
                next_step="export it without --classify" if "logits" in declared else None,
            )
        matched += fitting
    return matched


def _split(batch: Array, fixed: object) -> list[Array]:
    """Split `batch` into parts of `fixed` images, if that is a number; pad the last part."""
    if not isinstance(fixed, int) or fixed < 1:
        return [batch]
    missing = -len(batch) % fixed
    filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
    return [filled[start : start + fixed] for start in range(0, len(filled), fixed)]


def _too_large(path: Path, size: int) -> ParityError:
    return ParityError(
        "the ONNX file is larger than any of these networks",
        file=path,
        expected=f"at most {MAX_BYTES:,} bytes",
        found=f"{size:,}",
    )
