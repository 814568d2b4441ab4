"""Runs the candidate's network for what its modules answer, all of it or one module alone.

Nothing here changes the network for longer than a call.
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
See = Callable[[Probe, Any], None]


class _Reached(BaseException):
    """The last module that is wanted has answered; no Exception, so that no network stops it."""


def to_torch(model: Any, array: Array, layout: Layout) -> Any:
    """`array` as a tensor of the model's type and device, in torch's layout."""
    axes = TO_TORCH.get(layout)
    array = array if axes is None else array.transpose(axes)
    tensor = torch().from_numpy(np.ascontiguousarray(array))
    first = next(model.parameters())
    return tensor.to(device=first.device, dtype=first.dtype)


def from_torch(model: Any, tensor: Any, layout: Layout, dtype: Any) -> Array:
    """What a module gave, in the reference's layout.

    The model's own floating point type becomes `dtype`, the reference's; any other type is kept,
    for the comparison to see.
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
    """Whether it is a feature map of one pixel, as pooling over all of it leaves."""
    return tensor.ndim == 4 and tuple(tensor.shape[2:]) == (1, 1)


def cumulative(model: Any, images: Any, probes: Collection[Probe], see: See) -> str:
    """Run the network on `images`, a tensor, and show `see` what each probe's module gives.

    The run ends with the last of them. What is shown is not kept.

    Returns:
        Nothing, or what the network raised; the modules before it have been seen.
    """
    pending = len({probe.module for probe in probes})
    with ExitStack() as hooks, torch().inference_mode():
        for path in dict.fromkeys(probe.module for probe in probes):
            here = [probe for probe in probes if probe.module == path]

            def hook(module: Any, args: Any, output: Any, here: list[Probe] = here) -> None:
                nonlocal pending
                del module, args
                for probe in here:
                    see(probe, output)
                pending -= 1
                if not pending:
                    raise _Reached

            handle = model.get_submodule(path).register_forward_hook(hook)
            hooks.callback(handle.remove)
        return _guarded(lambda: model(images))


def isolated(
    model: Any, probe: Probe, activation: Callable[[str], Any], isolation: Isolation | None = None
) -> tuple[Any, str]:
    """Run `probe`'s modules alone.

    Args:
        model: The network.
        probe: Whose module's output is wanted.
        activation: Gives the reference's activation of a probe, or the images, as a tensor.
        isolation: Instead of the probe's own.

    Returns:
        The output and nothing, or None and what was raised.
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
    """The modules that `isolated` runs for the probe, by path; the stubs are not among them."""
    isolation = probe.isolation
    entry = (probe.module,) if "" in isolation.entry else isolation.entry
    stubs = tuple(path for path, _ in isolation.stubs)
    return {
        path: module
        for path, module in model.named_modules()
        if any(within(path, top) for top in entry) and not any(within(path, stub) for stub in stubs)
    }


def within(path: str, top: str) -> bool:
    """Whether one module is the other or inside of it; nothing but itself is in the network."""
    return path == top or (bool(top) and path.startswith(f"{top}."))


@contextmanager
def patched(thing: Any, **values: Any) -> Iterator[None]:
    """Set attributes of a module, and set them back."""
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
    """Run it; what it raises in words, if it is anything but the end that was wanted."""
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
