"""Make the networks faster for inference, with the same outputs up to rounding.

There are two backends. Images per second of InceptionResnetV1 at 160x160, on two cores of a Xeon
with AVX-512 (torch 2.13, onnxruntime 1.32), for batches of 1 and of 32:

=================  =====  =====
not optimized         31     64
``"torch"``           43     93   batch normalisations folded, channels last
``"onnxruntime"``     94    115   the same folded network, in onnxruntime
=================  =====  =====

torch.compile is not used. Its default gave 37 and 92 after half a minute of compiling for each
batch size. With the inductor's option ``freezing`` it was faster, but embeddings were wrong by 0.7.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from facenet_common.errors import UsageError
from facenet_models.networks.architectures import describe
from facenet_models.networks.folding import Foldable
from facenet_models.onnx.graph import INPUT, to_onnx
from facenet_models.onnx.runtime import make_session

Backend = Literal["auto", "torch", "onnxruntime"]


def optimize(
    model: nn.Module, *, backend: Backend = "auto", threads: int | None = None
) -> nn.Module:
    """Return a faster copy of `model` for inference; embeddings differ by at most 2e-6 (L2).

    The copy has no trainable parameters, and gives the same outputs in training mode. Its
    state_dict differs from the model's: keep the model itself for saving. ``classify`` can be set
    as on the model.

    Args:
        model: One of this package's networks, in eval mode. It is not changed.
        backend: "torch" returns a module of the same class, for any device and dtype; gradients
            with respect to the input are available. "onnxruntime" returns an `OnnxModule`, for
            float32 on the CPU. "auto" chooses onnxruntime if it is installed and the model is
            float32 on the CPU.
        threads: Number of onnxruntime's threads; the default is `torch.get_num_threads()`.

    Raises:
        UsageError: The model is of another class or in training mode, or the backend does not
            support its dtype or device.
        MissingPackageError: The backend is onnxruntime, and onnx or onnxruntime is not installed.

    Examples:
        >>> fast = optimize(InceptionResnetV1("vggface2").eval())  # doctest: +SKIP
        >>> fast(faces).shape  # doctest: +SKIP
        torch.Size([8, 512])
    """
    check_eval(model)
    describe(model)  # raises UsageError for other classes
    if backend not in ("auto", "torch", "onnxruntime"):
        raise UsageError(f"unknown backend {backend!r}", expected="auto, torch or onnxruntime")
    if backend == "auto":
        installed = find_spec("onnx") is not None and find_spec("onnxruntime") is not None
        backend = "onnxruntime" if installed and _is_cpu_float32(model) else "torch"
    folded = fold_batch_norms(model)
    if backend == "torch":
        return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return] # missing from its signature
    if not _is_cpu_float32(model):
        raise UsageError(
            "the backend onnxruntime needs a float32 model on the CPU",
            found=_dtypes_and_devices(model),
            next_step='model.float().cpu(), or backend="torch"',
        )
    return OnnxModule(folded, threads=threads)


def check_eval(model: nn.Module) -> None:
    """Raise UsageError if any part of `model` is in training mode."""
    if any(module.training for module in model.modules()):
        raise UsageError(
            "the model is in training mode, where its batch normalisations are not constant",
            next_step="call model.eval() first",
        )


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Return a copy of `model` whose batch normalisations are folded into the layers before them.

    The new weights are computed in float64 and rounded once. Dropout is removed, and ReLU works
    in place. Modules are folded that are `facenet_models.networks.folding.Foldable`.

    Examples:
        >>> folded = fold_batch_norms(model.eval())  # doctest: +SKIP
    """
    model = copy.deepcopy(model).requires_grad_(False)
    for module in model.modules():
        if isinstance(module, Foldable):
            module.fold_batch_norm()
    return model


class OnnxModule(nn.Module):
    """A network that runs in onnxruntime and is called like the network itself; see `optimize`.

    Inputs and outputs are float32 tensors on the CPU, without gradients. The batch size is free,
    and so is the size of images where the network allows it.
    """

    def __init__(self, model: nn.Module, *, threads: int | None = None) -> None:
        super().__init__()
        # The other value of `classify` needs the weights again. In a tuple, the model is not a
        # submodule, so `.to` and `.train` do not change it.
        self._source = (model,)
        self._threads = threads or torch.get_num_threads()
        self._sessions: dict[bool, Any] = {}
        self.classify: bool = getattr(model, "classify", False)
        self._session()
        self.eval()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the network's outputs for `x`, ``(N, 3, H, W)``.

        Raises:
            TypeError: `x` is not float32 on the CPU.
            RuntimeError: The network does not support this size, or can't ``classify``.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise TypeError(
                f"this model runs in onnxruntime and needs float32 on the CPU, not {x.dtype} on "
                f'{x.device}; use optimize(model, backend="torch") for other inputs'
            )
        session = self._session()
        try:
            arrays = session.run(None, {INPUT: x.detach().contiguous().numpy()})
        except Exception as error:  # onnxruntime's errors have no common base class
            raise RuntimeError(
                f"onnxruntime failed on input of shape {(*x.shape,)}: {error}"
            ) from (error)
        tensors = tuple(torch.from_numpy(array) for array in arrays)
        return tensors if len(tensors) > 1 else tensors[0]

    def extra_repr(self) -> str:
        """Return the network's class and the number of threads."""
        return f"{type(self._source[0]).__name__}, threads={self._threads}"

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxModule:
        duplicate = OnnxModule(self._source[0], threads=self._threads)
        duplicate.classify = self.classify
        return duplicate

    def __reduce__(self) -> Any:
        raise TypeError(
            "an optimized model can't be pickled; save the original model, and optimize it again"
        )

    def _session(self) -> Any:
        """Return the session for the present value of `classify`; create it on first use."""
        if self.classify not in self._sessions:
            model = self._source[0]
            if hasattr(model, "classify"):
                setattr(model, "classify", self.classify)  # noqa: B010 # nn.Module declares no such attribute
            try:
                described = describe(model)
            except UsageError as error:
                raise RuntimeError(f"{error.problem}: {error.next_step}") from None
            outputs, image = described.shapes()
            data = to_onnx(model, outputs, image=image)
            self._sessions[self.classify] = make_session(data, self._threads)
        return self._sessions[self.classify]


def _is_cpu_float32(model: nn.Module) -> bool:
    return _dtypes_and_devices(model) == "torch.float32 on cpu"


def _dtypes_and_devices(model: nn.Module) -> str:
    kinds = {f"{value.dtype} on {value.device.type}" for value in model.parameters()}
    return ", ".join(sorted(kinds))
