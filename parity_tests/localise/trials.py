"""Guesses at what is wrong with a layer, each tried by changing the layer for one run.

A trial is a sentence and a change: attributes of modules to set. If the layer then agrees with the
reference, the sentence is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice, permutations
from typing import Any

from parity_tests.frameworks import torch

Mends = tuple[tuple[Any, Mapping[str, Any]], ...]
Modules = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A possible defect, and the attributes whose change would correct it."""

    sentence: str
    mends: Mends


Guess = Callable[[Modules, Modules], Iterator[Trial]]
"""Yields trials for the modules that ran, given those and all of the network's, by path."""

EPSILONS = (1e-3, 1e-5, 1e-4, 1e-6, 0.0)  # the original's, torch's default, others in use
PARTNERS = 12  # modules that are tried as partners of an exchange, nearest first
_STATISTICS = {
    "running_mean": "mean",
    "running_var": "variance",
    "bias": "bias",
    "weight": "scale",
}


def kernels(ran: Modules, every: Modules) -> Iterator[Trial]:
    """Try kernels with their axes exchanged or reversed."""
    del every
    for path, module in ran.items():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim not in (2, 4):
            continue
        out, into, *kernel = weight.shape
        # TensorFlow's bytes under torch's shape: what .view does where .permute is needed.
        axes = (3, 2, 0, 1) if kernel else (1, 0)
        permuted = weight.reshape(*kernel, into, out).permute(axes)
        yield _kernel(path, module, permuted, "been reshaped instead of transposed")
        square = len(kernel) == 2 and kernel[0] == kernel[1] > 1
        if square:
            yield _kernel(path, module, weight.transpose(2, 3), "height and width exchanged")
            yield _kernel(path, module, weight.flip((2, 3)), "been turned by 180 degrees")
        if out == into:
            exchanged = weight.transpose(0, 1)
            yield _kernel(path, module, exchanged, "input and output channels exchanged")
            if square:
                both = exchanged.transpose(2, 3)
                yield _kernel(path, module, both, "all its axes in reverse order")
        yield _kernel(path, module, weight.flip(1), "its input channels in reverse order")


def batch_norms(ran: Modules, every: Modules) -> Iterator[Trial]:
    """Try other epsilons, and statistics and bias exchanged."""
    del every
    for path, module in ran.items():
        if not hasattr(module, "running_var"):
            continue
        for epsilon in EPSILONS:
            if epsilon != module.eps:
                sentence = (
                    f"the batch norm {path} has epsilon {module.eps:g}, the reference's "
                    f"is {epsilon:g}"
                )
                yield Trial(sentence, ((module, {"eps": epsilon}),))
        for names in (*combinations(_STATISTICS, 2), *permutations(list(_STATISTICS)[:3])):
            yield from _rotated(path, module, names)


def layers(ran: Modules, every: Modules) -> Iterator[Trial]:
    """Try other strides, paddings and roundings of pools, a missing ReLU, reordered branches."""
    del every
    for path, module in ran.items():
        for name, value in _settings(module):
            before = getattr(module, name)
            sentence = f"{path} has {name} {before}, the reference's is {value}"
            yield Trial(sentence, ((module, {name: value}),))
        if hasattr(module, "relu") and type(module.relu).__name__ != "ReLU":
            relu = torch().nn.ReLU()
            yield Trial(f"{path} lacks the ReLU at its end", ((module, {"relu": relu}),))
        names = getattr(module, "_names", ())
        for order in permutations(names):
            if order != names:
                sentence = f"the branches of {path} are joined in another order: {', '.join(names)}"
                yield Trial(
                    f"{sentence} where the reference has {', '.join(order)}",
                    ((module, {"_names": order}),),
                )


def exchanges(ran: Modules, every: Modules) -> Iterator[Trial]:
    """Try exchanging the weights of two modules with the same shapes."""
    forms: dict[Any, list[str]] = {}
    for path, module in every.items():
        forms.setdefault(_form(module), []).append(path)
    tried: set[frozenset[str]] = set()
    for path in sorted(ran, key=lambda path: path.count("."), reverse=True):
        form = _form(ran[path])
        others = (p for p in forms.get(form, ()) if p != path) if form else iter(())
        for other in islice(sorted(others, key=lambda p: _distance(path, p)), PARTNERS):
            pair = frozenset((path, other))
            if pair not in tried:
                tried.add(pair)
                sentence = f"{path} and {other} have each other's weights: they are swapped"
                yield Trial(sentence, _exchanged(every[path], every[other]))


def flattening(ran: Modules, every: Modules) -> Iterator[Trial]:
    """Try matrices whose input, a flattened feature map, has its axes in another order."""
    del every
    for path, module in ran.items():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim != 2:
            continue
        out, into = weight.shape
        for side in range(2, 8):  # P-, R- and O-Net flatten maps of 3x3
            channels, rest = divmod(into, side * side)
            if rest or channels < 2:
                continue
            forms = {"WHC": (side, side, channels), "CHW": (channels, side, side)}
            for order, axes in (
                ("WHC", (0, 2, 1, 3)),
                ("WHC", (0, 3, 1, 2)),
                ("CHW", (0, 2, 3, 1)),
            ):
                value = weight.reshape(out, *forms[order]).permute(axes).reshape(out, into)
                yield _kernel(path, module, value, "its inputs flattened in another order")


GUESSES: tuple[Guess, ...] = (kernels, batch_norms, layers, flattening, exchanges)


def _kernel(path: str, module: Any, value: Any, what: str) -> Trial:
    has = "has" if "been" in what or "exchanged" in what else "takes"
    if what.startswith("all"):
        has = "has"
    return Trial(f"the kernel of {path} {has} {what}", ((module, {"weight": _parameter(value)}),))


def _parameter(value: Any) -> Any:
    return torch().nn.Parameter(value.contiguous(), requires_grad=False)


def _rotated(path: str, module: Any, names: tuple[str, ...]) -> Iterator[Trial]:
    """Try giving each of `names` the values of the next."""
    values = [value for name in names if (value := getattr(module, name, None)) is not None]
    if len(values) < len(names):
        return
    mended = {
        name: _parameter(value) if name in ("weight", "bias") else value.detach()
        for name, value in zip(names, (*values[1:], values[0]), strict=True)
    }
    words = [_STATISTICS[name] for name in names]
    what = f"{', '.join(words[:-1])} and {words[-1]}"
    yield Trial(f"the batch norm {path} has its {what} exchanged", ((module, mended),))


def _settings(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield other values of stride, padding and rounding that are plausible for the layer."""
    if hasattr(module, "ceil_mode"):
        yield "ceil_mode", not module.ceil_mode
        yield from (("padding", n) for n in (0, 1) if n != module.padding)
    elif type(module).__name__ == "Conv2d":
        same = tuple(size // 2 for size in module.kernel_size)
        yield from (("padding", p) for p in dict.fromkeys(((0, 0), same)) if p != module.padding)
        yield from (("stride", s) for s in ((1, 1), (2, 2)) if s != module.stride)


def _form(module: Any) -> tuple[Any, ...]:
    """Return the names and shapes of a module's tensors: equal if weights can be exchanged."""
    return tuple((name, tuple(value.shape)) for name, value in module.state_dict().items())


def _distance(path: str, other: str) -> tuple[int, str]:
    """Return a sort key that is small for paths with a long common prefix."""
    one, two = path.split("."), other.split(".")
    common = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), len(one))
    same_place = one[2:] != two[2:]
    return -2 * common + same_place, other


def _exchanged(one: Any, two: Any) -> Mends:
    mends: list[tuple[Any, Mapping[str, Any]]] = []
    for a, b in zip(_holders(one), _holders(two), strict=True):
        mends.append((a, {"_parameters": b._parameters, "_buffers": b._buffers}))
        mends.append((b, {"_parameters": a._parameters, "_buffers": a._buffers}))
    return tuple(mends)


def _holders(module: Any) -> list[Any]:
    """Return the submodules that have weights themselves, in an order that pairs equal forms."""
    return [part for part in module.modules() if part._parameters or part._buffers]
