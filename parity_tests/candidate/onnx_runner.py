"""The candidate as an ONNX file, run by onnxruntime on the CPU.

The file is not trusted. It may name other files, but only such that lie beside it; libraries of
custom operators are never loaded; what is larger than any network of this kind is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from facenet_common.errors import ParityError, UsageError
from facenet_common.text import printable
from parity_tests.candidate.onnx_facts import facts_of
from parity_tests.probes import FROM_TORCH, TO_TORCH, images_layout

Array = npt.NDArray[Any]

MAX_BYTES = 2**30  # ten times InceptionResnetV1; of the file, and of what it refers to
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

    Entering loads it and raises `ParityError` where it can't be run, or gives something else than
    the architecture's answers. `dtypes` then names the floating point types of its weights,
    sorted. `model` is None: there is no torch module to look into.
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
        """Answers to `images`, NHWC as TensorFlow is fed, in TensorFlow's layout.

        float64 if the file computes so, else float32. A file of a fixed batch size is run as
        often as need be.

        Raises:
            ParityError: The file does not take images of this size, or failed on them.
        """
        layout = images_layout(self._architecture)
        source = self._session.get_inputs()[0]
        batch = np.ascontiguousarray(images.transpose(TO_TORCH[layout]), _INPUT_TYPES[source.type])
        self._check_size(source, batch)
        parts = [self._run(source.name, part) for part in _split(batch, source.shape[0])]
        arrays = [np.concatenate(column)[: len(batch)] for column in zip(*parts, strict=True)]
        wide = np.float64 if source.type == "tensor(double)" else np.float32
        arrays = [np.asarray(array, wide) for array in arrays]
        return tuple(a.transpose(FROM_TORCH[layout]) if a.ndim == 4 else a for a in arrays)

    def _run(self, name: str, batch: Array) -> list[Array]:
        try:
            answers: list[Array] = self._session.run(self._outputs, {name: batch})
        except Exception as error:  # onnxruntime's have no common base
            raise ParityError(
                "onnxruntime failed on the images",
                file=self._path,
                expected=f"answers to input of shape {batch.shape}",
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
        ParityError: It is no ONNX file, or of no known network.
    """
    return facts_of(path, _read(path)[0], like)


def _read(path: Path) -> tuple[Any, bytes]:
    """The file's model and its bytes; other files it names are checked, not read."""
    onnx = _module("onnx")
    if not path.is_file():
        raise UsageError("there is no such ONNX file", file=path)
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
        raise ParityError("this is no ONNX file, or damaged", file=path, found=error) from error
    if not proto.graph.node or not proto.opset_import:  # any bytes may happen to be protobuf
        raise ParityError("this is no ONNX file, or damaged", file=path, found="no graph in it")
    _check_external(path, proto)
    return proto, data


def _check_external(path: Path, proto: Any) -> None:
    """Weights may lie in files beside `path`: plain names, no links, within `MAX_BYTES`."""
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
                "the ONNX file asks for a file outside its folder, which is not opened",
                file=path,
                found=printable(name),
                next_step="export it as one file",
            )
        if not file.is_file():
            raise ParityError(
                "the ONNX file's weights are in another file, which is not there",
                file=path,
                expected=printable(file),
                next_step="put it beside the ONNX file under that name",
            )
    total = sum((path.parent / name).stat().st_size for name in names)
    if total > MAX_BYTES:
        raise _too_large(path, total)


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a protobuf message: in subgraphs, attributes, functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if isinstance(value, Sequence) or hasattr(value, "add") else (value,):
            yield from _tensors(part)


def _floating_types(proto: Any) -> tuple[str, ...]:
    types = _module("onnx").TensorProto
    names = {
        types.FLOAT: "float32",
        types.DOUBLE: "float64",
        types.FLOAT16: "float16",
        types.BFLOAT16: "bfloat16",
    }
    found = {names.get(tensor.data_type) for tensor in proto.graph.initializer}
    return tuple(sorted(name for name in found if name))


def _make_session(path: Path, data: bytes) -> Any:
    ort = _module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what it would log it also raises
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.absolute().parent)
    )
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no common base
        raise ParityError(
            "onnxruntime can't load the ONNX file", file=path, found=printable(error)
        ) from error


def _check_input(path: Path, session: Any) -> None:
    """ParityError unless there is one input, of images with three channels before the edges."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if inputs else []
    fits = len(inputs) == 1 and len(shape) == 4 and inputs[0].type in _INPUT_TYPES
    if not fits or (shape[1] != 3 and (isinstance(shape[1], int) or shape[3] == 3)):
        raise ParityError(
            "the ONNX file does not take images as the networks do",
            file=path,
            expected="one floating point input of shape (N, 3, H, W)",
            found=printable(", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs) or "none"),
        )


def _match_outputs(
    path: Path, session: Any, architecture: str, dims: Mapping[str, int]
) -> list[str]:
    """The file's names of the architecture's answers, in their order: by name, else by shape."""
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
                expected=f"one output named {name}, or of {size} numbers an image",
                found=printable(", ".join(f"{key} {shape}" for key, shape in declared.items())),
                next_step="export it without --classify" if "logits" in declared else None,
            )
        matched += fitting
    return matched


def _split(batch: Array, fixed: object) -> list[Array]:
    """`batch` in parts of `fixed` images, if that is a number; the last is filled up."""
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


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # installed but broken: its own message says more
            raise
        raise ParityError(
            f"{name} is needed to verify an ONNX file, and it is not installed",
            next_step='pip install "facenet-parity[onnx]"',
        ) from error
