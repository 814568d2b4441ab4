"""Run a candidate that is a PyTorch weight file, in its network of facenet_models."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pickle import UnpicklingError
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from facenet_common.errors import ParityError, UsageError
from facenet_common.optional import require
from parity_tests.candidate.precision import DTYPES, answer_type
from parity_tests.frameworks import torch
from parity_tests.probes import FROM_TORCH, TO_TORCH, images_layout

Array = npt.NDArray[Any]


class CandidateRunner:
    """Runs converted weights; a context manager around the model.

    Args:
        weights: The file; its name need not have the usual suffix.
        weights_format: "torch" or "safetensors".
        architecture: A name of `converter.architectures.ARCHITECTURES`.
        dims: Its sizes. Without those of the classifier, or without the classifier's tensors in
            the file, the model is built without it.
        dtype: One of `candidate.precision.DTYPES`: what the model computes in. Outputs are float64
            for float64, else float32, since NumPy has no bfloat16.
        device: "cpu", "cuda", "cuda:1", "mps". On CUDA, TF32 is off while the runner is entered:
            it would round products to 10 bits.
        compile: Run the model through ``torch.compile``. `model` remains the uncompiled one.

    Entering loads the weights strictly. It raises `ParityError` if they can't be read or do not
    fit, and `UsageError` if torch has no such device. All tensors are converted to `dtype`.

    Examples:
        >>> with CandidateRunner(Path("pnet.pt"), "torch", "pnet", {}) as runner:
        ...     regression, probability = runner.run(np.zeros((1, 24, 24, 3), np.float32))
    """

    def __init__(
        self,
        weights: Path,
        weights_format: str,
        architecture: str,
        dims: Mapping[str, int],
        dtype: str = "float32",
        device: str = "cpu",
        compile: bool = False,
    ) -> None:
        if dtype not in DTYPES:
            raise ParityError(f"a candidate runs in {', '.join(DTYPES)}, not in {dtype!r}")
        self.name = weights.name
        self._weights = weights
        self._format = weights_format
        self._architecture = architecture
        self._dims = dims
        self._dtype = dtype
        self._device = device
        self._compile = compile
        self._model: Any = None
        self._call: Any = None
        self._exit = ExitStack()

    def __enter__(self) -> "CandidateRunner":
        require_device(self._device)
        state = _load(self._weights, self._format)
        floating = {key: value for key, value in state.items() if value.is_floating_point()}
        dtype = getattr(torch(), self._dtype)
        state |= {key: value.to(dtype) for key, value in floating.items()}
        self._model = network(self._architecture, self._dims, state).to(self._device)
        self._call = torch().compile(self._model) if self._compile else self._model
        if self._device.startswith("cuda"):
            self._exit.enter_context(_without_tf32())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()
        self._model = self._call = None

    @property
    def architecture(self) -> str:
        return self._architecture

    @property
    def model(self) -> Any:
        """The torch module; None unless entered."""
        return self._model

    def run(self, images: Array) -> tuple[Array, ...]:
        """Return the outputs for `images`, both in TensorFlow's layout (NHWC).

        Images are converted to the runner's `dtype`.
        """
        th = torch()
        layout = images_layout(self._architecture)
        dtype = getattr(th, self._dtype)
        with th.inference_mode():
            array = np.ascontiguousarray(
                images.transpose(TO_TORCH[layout]), answer_type(self._dtype)
            )
            batch = th.from_numpy(array)
            outputs = self._call(batch.to(self._device, dtype))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        arrays = [output.cpu().to(batch.dtype).numpy() for output in outputs]
        return tuple(a.transpose(FROM_TORCH[layout]) if a.ndim == 4 else a for a in arrays)


def require_device(device: str) -> None:
    """Raise UsageError unless torch can compute on `device`."""
    th = torch()
    kind, _, number = device.partition(":")
    counts = {
        "cpu": lambda: 1,
        "cuda": th.cuda.device_count,
        "mps": lambda: int(th.backends.mps.is_available()),
    }
    if kind not in counts or not (number or "0").isdecimal():
        raise UsageError(
            "the kind of device is unknown", expected="cpu, cuda, cuda:1 or mps", found=device
        )
    if int(number or 0) >= counts[kind]():
        raise UsageError(
            f"torch {th.__version__} has no device {device!r} here",
            next_step="omit --device, or install a torch that is built for it",
        )


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Compute float32 products in full float32 on CUDA, in matrix products and convolutions.

    https://docs.pytorch.org/docs/stable/notes/cuda.html (TensorFloat-32 on Ampere devices)
    """
    backends = (torch().backends.cuda.matmul, torch().backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def network(architecture: str, dims: Mapping[str, int], state: Mapping[str, Any]) -> Any:
    """Build a network with the weights `state`, whose tensors it shares, in evaluation mode.

    Raises:
        ParityError: The weights do not fit, or the architecture is unknown.
    """
    model = _build(architecture, dims, state.keys())
    try:
        model.load_state_dict(dict(state), strict=True, assign=True)
    except RuntimeError as error:
        raise ParityError(
            f"the weights do not fit {type(model).__name__}: {' '.join(str(error).split())}"
        ) from error
    return model.eval()


def _build(architecture: str, dims: Mapping[str, int], names: Collection[str]) -> Any:
    """Build the network without weights, for a state_dict of these names."""
    torch()  # raises MissingPackageError
    from facenet_models.networks.registry import networks

    known = ARCHITECTURES.get(architecture)
    built = next((net for net in networks() if net.architecture == architecture), None)
    if known is None or built is None:
        raise ParityError(
            f"there is no PyTorch network for the architecture {architecture!r}",
            expected=", ".join(ARCHITECTURES),
        )
    missing = [dim for dim in known.required_dims if dim not in dims]
    if missing:
        raise ParityError(f"sizes must be known to build {known.class_name}: {', '.join(missing)}")
    used = {d for row in known.rows if row.target in names for d in row.shape}
    return built.from_dims({d: n for d, n in dims.items() if d in {*known.required_dims, *used}})


def _load(path: Path, weights_format: str) -> dict[str, Any]:
    """Load the state_dict in `path`; nothing in the file is executed."""
    try:
        state = _load_torch(path) if weights_format == "torch" else _load_safetensors(path)
    except OSError as error:
        raise ParityError(
            "can't read the weights", file=path, found=error.strerror or error
        ) from error
    th = torch()
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, th.Tensor) for key, value in state.items()
    ):
        raise ParityError(
            "the file does not hold a state_dict",
            file=path,
            expected="a mapping of names to tensors",
        )
    return dict(state)


def _load_torch(path: Path) -> Any:
    try:
        return torch().load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ParityError("torch can't read the weights", file=path, found=error) from error


def _load_safetensors(path: Path) -> Any:
    torch()  # safetensors.torch imports it: raise MissingPackageError first
    load_file = require("safetensors.torch", "verifying a .safetensors file").load_file
    failure = require("safetensors", "verifying a .safetensors file").SafetensorError
    try:
        return load_file(path, device="cpu")
    except failure as error:
        raise ParityError("safetensors can't read the weights", file=path, found=error) from error
