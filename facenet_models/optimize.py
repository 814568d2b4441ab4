"""Faster inference with the same answers.

Two ways, chosen with `backend`; images/s of InceptionResnetV1 at 160x160 on two cores of a Xeon
with AVX-512 (torch 2.13, onnxruntime 1.32), one image at a time and 32:

=================  =====  =====
as it is              31     64
``"torch"``           43     93   batch normalisations folded, channels last
``"onnxruntime"``     94    115   the same folded network, in onnxruntime
=================  =====  =====

torch.compile is not among them. By default it gave 37 and 92 after half a minute of compiling per
batch size; with the inductor's freezing it was faster and wrong (embeddings 0.7 apart).
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
    """A copy of `model` for inference: faster, and the same to within 2e-6 (L2 of an embedding).

    Args:
        model: One of this package's networks, in eval mode; it is left as it is.
        backend: "torch" gives a module of the same class, on any device and of any dtype, through
            which gradients reach the input. "onnxruntime" gives an `OnnxModule`, for float32 on
            the CPU. "auto" takes the latter if it is installed and the model is of that kind.
        threads: Of onnxruntime; None takes `torch.get_num_threads()`.

    The copy has no trainable parameters, acts the same in training mode, and its state_dict is
    its own: keep the model itself for saving. ``classify`` can be switched as on the model.

    Raises:
        UsageError: Another model, one in training mode, or one that the backend does not take.
        FacenetError: onnx or onnxruntime is asked for and not installed.
    """
    check_eval(model)
    describe(model)  # refuses what is not ours
    if backend not in ("auto", "torch", "onnxruntime"):
        raise UsageError(f"there is no backend {backend!r}", expected="auto, torch or onnxruntime")
    if backend == "auto":
        installed = find_spec("onnx") is not None and find_spec("onnxruntime") is not None
        backend = "onnxruntime" if installed and _is_cpu_float32(model) else "torch"
    folded = fold_batch_norms(model)
    if backend == "torch":
        return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return] # missing from its signature
    if not _is_cpu_float32(model):
        raise UsageError(
            "onnxruntime takes float32 models on the CPU here",
            found=_kinds(model),
            next_step='model.float().cpu(), or backend="torch"',
        )
    return OnnxModule(folded, threads=threads)


def check_eval(model: nn.Module) -> None:
    """Raises UsageError if any part of `model` is in training mode."""
    if any(module.training for module in model.modules()):
        raise UsageError(
            "the model is in training mode, in which its batch normalisations can't be fixed",
            next_step="call model.eval() first",
        )


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy of `model` whose batch normalisations are part of the layers before them.

    Folded in float64 and rounded once. Dropout is left out and ReLU works in place. A module is
    folded if it is `facenet_models.networks.folding.Foldable`.
    """
    model = copy.deepcopy(model).requires_grad_(False)
    for module in model.modules():
        if isinstance(module, Foldable):
            module.fold_batch_norm()
    return model


class OnnxModule(nn.Module):
    """A network run by onnxruntime, called like the network itself; made by `optimize`.

    Takes and gives float32 tensors on the CPU. No gradient passes through. Images of any batch
    size, and of every size that the network takes.
    """

    def __init__(self, model: nn.Module, *, threads: int | None = None) -> None:
        super().__init__()
        # Kept for its weights, which the other setting of `classify` needs. Not as a submodule:
        # `.to` and `.train` must not reach it.
        self._source = (model,)
        self._threads = threads or torch.get_num_threads()
        self._sessions: dict[bool, Any] = {}
        self.classify: bool = getattr(model, "classify", False)
        self._session()
        self.eval()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the network answers to `x`, ``(N, 3, H, W)``.

        Raises:
            TypeError: `x` is not float32 on the CPU.
            RuntimeError: The network does not take this size, or can't ``classify``.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise TypeError(
                f"this model runs in onnxruntime and takes float32 on the CPU, not {x.dtype} on "
                f'{x.device}: optimize(model, backend="torch") takes others'
            )
        session = self._session()
        try:
            arrays = session.run(None, {INPUT: x.detach().contiguous().numpy()})
        except Exception as error:  # onnxruntime's have no common base
            raise RuntimeError(f"onnxruntime refuses input of shape {(*x.shape,)}: {error}") from (
                error
            )
        tensors = tuple(torch.from_numpy(array) for array in arrays)
        return tensors if len(tensors) > 1 else tensors[0]

    def extra_repr(self) -> str:
        return f"{type(self._source[0]).__name__}, threads={self._threads}"

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxModule:
        twin = OnnxModule(self._source[0], threads=self._threads)
        twin.classify = self.classify
        return twin

    def __reduce__(self) -> Any:
        raise TypeError("an optimized model can't be pickled: save the model, and optimize it anew")

    def _session(self) -> Any:
        """The session for this setting of `classify`, made on first use."""
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
    return _kinds(model) == "torch.float32 on cpu"


def _kinds(model: nn.Module) -> str:
    kinds = {f"{value.dtype} on {value.device.type}" for value in model.parameters()}
    return ", ".join(sorted(kinds))
