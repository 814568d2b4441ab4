"""The PyTorch side: converted weights in their facenet_models network."""

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
from parity_tests.candidate.precision import DTYPES, answer_type
from parity_tests.frameworks import torch
from parity_tests.probes import FROM_TORCH, TO_TORCH, images_layout

Array = npt.NDArray[Any]


class CandidateRunner:
    """Runs converted weights; a context manager around the model.

    Args:
        weights: The file, whatever its name.
        weights_format: "torch" or "safetensors".
        architecture: A name of `converter.architectures.ARCHITECTURES`.
        dims: Its sizes. Without those of the classifier, or without the classifier's tensors in
            the file, the model is built without it.
        dtype: One of `candidate.precision.DTYPES`: what the model computes in. float64 answers
            come as float64, all others as float32, since NumPy has no bfloat16.
        device: "cpu", "cuda", "cuda:1", "mps". On CUDA, TF32 is off while the runner is entered:
            it would round products to 10 bits.
        compile: Run the model through ``torch.compile``. `model` stays the one that is not.

    Entering loads the weights, strictly, and raises `ParityError` where they can't be read or do
    not fit, and `UsageError` where the device isn't there. `dtypes` then names the floating point
    types of the file, sorted; all become `dtype`.
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
        self.dtypes: tuple[str, ...] = ()
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
        self.dtypes = tuple(
            sorted({str(v.dtype).removeprefix("torch.") for v in floating.values()})
        )
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
        """The network, for those who look inside; None unless entered."""
        return self._model

    def run(self, images: Array) -> tuple[Array, ...]:
        """Answers to `images`, NHWC as TensorFlow is fed, in TensorFlow's layout.

        Images of another floating point type are taken in the runner's `dtype`.
        """
        th = torch()
        layout = images_layout(self._architecture)
        dtype = getattr(th, self._dtype)
        with th.inference_mode():
            wide = np.ascontiguousarray(
                images.transpose(TO_TORCH[layout]), answer_type(self._dtype)
            )
            batch = th.from_numpy(wide)
            outputs = self._call(batch.to(self._device, dtype))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        arrays = [output.cpu().to(batch.dtype).numpy() for output in outputs]
        return tuple(a.transpose(FROM_TORCH[layout]) if a.ndim == 4 else a for a in arrays)


def require_device(device: str) -> None:
    """Raise UsageError unless torch can compute there."""
    th = torch()
    kind, _, number = device.partition(":")
    there = {
        "cpu": lambda: 1,
        "cuda": th.cuda.device_count,
        "mps": lambda: int(th.backends.mps.is_available()),
    }
    if kind not in there or not (number or "0").isdecimal():
        raise UsageError(
            "there is no such kind of device", expected="cpu, cuda, cuda:1 or mps", found=device
        )
    if int(number or 0) >= there[kind]():
        raise UsageError(
            f"torch {th.__version__} has no device {device!r} here",
            next_step="leave --device out, or install a torch that is built for it",
        )


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Products of float32 in float32 on CUDA, in matrix products and convolutions."""
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
    """The network with these weights, in evaluation mode; the tensors of `state` become its own.

    Raises:
        ParityError: They do not fit, or there is no such network.
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
    """The network without weights, for a state_dict of these names."""
    torch()  # its own message if it is missing
    from facenet_models.networks.registry import networks

    known = ARCHITECTURES.get(architecture)
    built = next((net for net in networks() if net.architecture == architecture), None)
    if known is None or built is None:
        raise ParityError(f"there is no PyTorch network for the architecture {architecture!r}")
    missing = [dim for dim in known.required_dims if dim not in dims]
    if missing:
        raise ParityError(f"sizes must be known to build {known.class_name}: {', '.join(missing)}")
    used = {d for row in known.rows if row.target in names for d in row.shape}
    return built.from_dims({d: n for d, n in dims.items() if d in {*known.required_dims, *used}})


def _load(path: Path, weights_format: str) -> dict[str, Any]:
    """The state_dict in `path`; nothing in the file is executed."""
    try:
        state = _load_torch(path) if weights_format == "torch" else _load_safetensors(path)
    except OSError as error:
        raise ParityError(f"can't read {path}: {error.strerror or error}") from error
    th = torch()
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, th.Tensor) for key, value in state.items()
    ):
        raise ParityError(f"{path} does not hold a state_dict, a mapping of names to tensors")
    return dict(state)


def _load_torch(path: Path) -> Any:
    try:
        return torch().load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ParityError(f"torch can't read {path}: {error}") from error


def _load_safetensors(path: Path) -> Any:
    torch()  # its own message if it is missing
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("safetensors"):
            raise
        raise ParityError(
            "safetensors is needed to verify a .safetensors file, and it is not installed: "
            "pip install safetensors"
        ) from error
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise ParityError(f"safetensors can't read {path}: {error}") from error
