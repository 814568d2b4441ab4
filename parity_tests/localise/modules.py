"""Run the candidate's network, or one module of it, and collect outputs of its modules.

Changes to the network last no longer than a call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from parity_tests.batches import is_out_of_memory
from parity_tests.frameworks import torch
from parity_tests.probes import FROM_TORCH, PASS, TO_TORCH, Isolation, Layout, Probe

Array = npt.NDArray[Any]
Record = Callable[[Probe, Any], None]


class _Reached(BaseException):
    """Ends a run after the last module needed. Not an Exception, so that no network catches it."""


def to_torch(model: Any, array: Array, layout: Layout) -> Any:
    """Convert `array` to a tensor of the model's dtype and device, in torch's layout."""
    axes = TO_TORCH.get(layout)
    array = array if axes is None else array.transpose(axes)
    tensor = torch().from_numpy(np.ascontiguousarray(array))
    first = next(model.parameters())
    return tensor.to(device=first.device, dtype=first.dtype)


def from_torch(model: Any, tensor: Any, layout: Layout, dtype: Any) -> Array:
    """Convert a module's output to an array in the reference's layout.

    The model's own floating-point dtype becomes `dtype`, the reference's. Any other dtype is kept,
    so that the comparison reports it.
    """
    if layout == "NC":
        tensor = tensor.flatten(2).squeeze(2) if _is_vector(tensor) else tensor
    elif tensor.ndim == 4:
        tensor = tensor.permute(FROM_TORCH[layout])
    own = tensor.dtype == next(model.parameters()).dtype
    if own and tensor.dtype == torch().bfloat16:
        tensor = tensor.float()  # NumPy has no bfloat16
    array: Array = tensor.detach().cpu().numpy()
    return array.astype(dtype, copy=False) if own else array


def _is_vector(tensor: Any) -> bool:
    """Return whether it is a feature map of one pixel, as global pooling gives."""
    return tensor.ndim == 4 and tuple(tensor.shape[2:]) == (1, 1)


def cumulative(model: Any, images: Any, probes: Collection[Probe], record: Record) -> str:
    """Run the network on `images`, a tensor, and call `record` with each probe's output.

    The run ends with the last of them. Outputs are not kept.

    Returns:
        The text of the exception that the network raised, or an empty string. Probes before the
        failing module have been recorded.
    """
    pending = len({probe.module for probe in probes})
    with ExitStack() as hooks, torch().inference_mode():
        for path in dict.fromkeys(probe.module for probe in probes):
            of_path = [probe for probe in probes if probe.module == path]

            def hook(module: Any, args: Any, output: Any, of_path: list[Probe] = of_path) -> None:
                nonlocal pending
                del module, args
                for probe in of_path:
                    record(probe, output)
                pending -= 1
                if not pending:
                    raise _Reached

            handle = model.get_submodule(path).register_forward_hook(hook)
            hooks.callback(handle.remove)
        return _guarded(lambda: model(images))


def isolated(
    model: Any, probe: Probe, activation: Callable[[str], Any], isolation: Isolation | None = None
) -> tuple[Any, str]:
    """Run only `probe`'s modules.

    Args:
        model: The network.
        probe: The probe whose module's output is returned.
        activation: Returns the reference's activation of a probe, or the images, as a tensor.
        isolation: Replaces the probe's own.

    Returns:
        The output and an empty string, or None and the text of the exception.
    """
    isolation = isolation or probe.isolation
    if not isolation.entry:
        return activation(isolation.feed), ""
    kept: list[Any] = []

    def hook(module: Any, args: Any, output: Any) -> None:
        del module, args
        kept.append(output)
        raise _Reached

    def run() -> None:
        value = activation(isolation.feed)
        for path in isolation.entry:
            value = model.get_submodule(path)(value)

    with ExitStack() as stack, torch().inference_mode():
        for path, answer in isolation.stubs:
            stub = _passing if answer == PASS else _answering(activation(answer))
            stack.enter_context(patched(model.get_submodule(path), forward=stub))
        handle = model.get_submodule(probe.module).register_forward_hook(hook)
        stack.callback(handle.remove)
        problem = _guarded(run)
    if kept:
        return kept[0], ""
    return None, problem or f"{probe.module or 'the network'} was never called"


def modules_of(model: Any, probe: Probe) -> dict[str, Any]:
    """Return the modules that `isolated` runs for the probe, by path, without stubs."""
    isolation = probe.isolation
    entry = (probe.module,) if "" in isolation.entry else isolation.entry
    stubs = tuple(path for path, _ in isolation.stubs)
    return {
        path: module
        for path, module in model.named_modules()
        if any(within(path, top) for top in entry) and not any(within(path, stub) for stub in stubs)
    }


def within(path: str, top: str) -> bool:
    """Return whether `path` is `top` or a submodule of it; the root ``""`` contains only itself."""
    return path == top or (bool(top) and path.startswith(f"{top}."))


@contextmanager
def patched(thing: Any, **values: Any) -> Iterator[None]:
    """Set attributes of a module inside the context, and restore them afterwards."""
    own = vars(thing)
    before = {name: getattr(thing, name) for name in values}
    added = {name for name in values if name == "forward" and name not in own}
    try:
        for name, value in values.items():
            setattr(thing, name, value)
        yield
    finally:
        for name, value in before.items():
            if name in added:
                delattr(thing, name)
            else:
                setattr(thing, name, value)


def _guarded(run: Callable[[], object]) -> str:
    """Call `run` and return the text of its exception; empty if it ends as intended."""
    try:
        run()
    except _Reached:
        return ""
    except Exception as error:  # a damaged network may raise anything; it is a finding here
        if is_out_of_memory(error):
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _passing(value: Any) -> Any:
    return value


def _answering(answer: Any) -> Callable[[Any], Any]:
    def forward(value: Any) -> Any:
        del value
        return answer

    return forward
