"""Defects to break a right candidate with, one at a time: what `facenet verify --self-test` tries.

A mutant is data: its kind, the layers that it breaks, and what to set on which module. Nothing here
knows the networks by name; mutants are read off the modules that are there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from parity_tests.frameworks import torch

Tensor = Any
Change = Callable[[Any], Sequence[tuple[Any, Mapping[str, Any]]]]
"""From a network, in any floating point type, what to set on which object."""

STATISTICS = ("running_mean", "running_var", "bias")
WRONG_EPSILON = 1e-5  # torch's default
# A scale of another block of the original's, which is the mistake that is made.
OTHER_SCALES = {0.17: 0.1, 0.1: 0.2, 0.2: 0.17, 1.0: 0.2}
PERTURBED = 1.001


@dataclass(frozen=True)
class Mutant:
    """One defect.

    Attributes:
        kind: Of the defect; a key of `KINDS`.
        layers: Paths of the modules that it breaks; ``""`` is the network itself.
        what: The defect in words.
        change: What to set, on a network.
        tensors: The tensors of the state_dict that it replaces.
    """

    kind: str
    layers: tuple[str, ...]
    what: str
    change: Change
    tensors: tuple[str, ...] = ()


Make = Callable[[Any, Mapping[str, Tensor]], Iterator[Mutant]]
"""From a network and the effect of its weights (see `ulps`), all mutants of a kind."""


def mutants(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """All mutants of `model`, kind after kind.

    Args:
        model: A network of facenet_models in evaluation mode, in float32.
        effects: For each tensor of its state_dict, how much each element moves the answers.
    """
    for make in KINDS.values():
        yield from make(model, effects)


# --- weights


def transposed(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Each kernel with height and width exchanged, and each as if its bytes had been taken for
    PyTorch's layout without moving them: what ``.view`` does where ``.permute`` is needed.
    """
    del effects
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim not in (2, 4):
            continue
        forms = {"reshaped instead of transposed": _reshaped}
        if weight.ndim == 4 and weight.shape[2] == weight.shape[3] > 1:
            forms["with height and width exchanged"] = _exchanged_sides
        for words, form in forms.items():
            if not torch().equal(form(weight), weight):
                name = f"{path}.weight"
                yield _on_tensors("kernel transposed", f"{name} {words}", {name: (name, form)})


def _reshaped(weight: Tensor) -> Tensor:
    axes = (2, 3, 1, 0) if weight.ndim == 4 else (1, 0)
    return weight.permute(axes).reshape(weight.shape)


def _exchanged_sides(weight: Tensor) -> Tensor:
    return weight.transpose(2, 3).contiguous()


def swapped(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Every pair of tensors of one shape in a block, unless equal or of one batch norm."""
    del effects
    state = _floating(model)
    for block in blocks(model):
        names = [name for name in state if name.startswith(f"{block}.") or not block]
        for one, two in combinations(names, 2):
            if state[one].shape != state[two].shape or torch().equal(state[one], state[two]):
                continue
            if _layer(one) == _layer(two) and {_leaf(one), _leaf(two)} <= {*STATISTICS}:
                continue  # `batch_norms` has these
            moves = {one: (two, _same), two: (one, _same)}
            yield _on_tensors("tensors swapped", f"{one} and {two} swapped", moves)


def batch_norms(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Mean, variance and bias of each: each pair exchanged, each a thousandth too large."""
    del effects
    for path, module in model.named_modules():
        if not hasattr(module, "running_var"):
            continue
        for one, two in combinations(STATISTICS, 2):
            names = f"{path}.{one}", f"{path}.{two}"
            if not torch().equal(getattr(module, one), getattr(module, two)):
                moves = {names[0]: (names[1], _same), names[1]: (names[0], _same)}
                yield _on_tensors(
                    "batch norm exchanged", f"{one} and {two} of {path} exchanged", moves
                )
        for leaf in STATISTICS:
            name = f"{path}.{leaf}"
            if getattr(module, leaf).any():  # a thousandth of nothing is nothing
                moves = {name: (name, _perturbed)}
                yield _on_tensors("batch norm perturbed", f"{name} times {PERTURBED}", moves)


def ulps(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """One float32 step in one weight of every tensor: the weight that moves the answers most.

    Which one that is, `effects` tells, so that the defect is not hidden behind a unit that no image
    reaches. Where none moves them, the largest weight is taken.
    """
    for name, tensor in _floating(model).items():
        weight = tensor.detach().reshape(-1)
        step = torch().nextafter(weight, weight + weight.abs() + 1) - weight
        effect = effects[name].reshape(-1).abs() * step.double().abs()
        at = int(effect.argmax() if effect.any() else weight.abs().argmax())

        def nudge(value: Tensor, at: int = at) -> Tensor:
            flat = value.clone().reshape(-1)
            flat[at] = torch().nextafter(flat[at], flat[at] + flat[at].abs() + 1)
            return flat.reshape(value.shape)

        yield _on_tensors("one ulp", f"one ulp in element {at} of {name}", {name: (name, nudge)})


# --- numbers that no file of weights holds


def epsilons(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Each batch norm with torch's own epsilon."""
    del effects
    for path, module in model.named_modules():
        if hasattr(module, "running_var"):
            what = f"epsilon of {path} {WRONG_EPSILON:g} for {module.eps:g}"
            yield _on_module("epsilon", path, what, eps=WRONG_EPSILON)


def scales(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Each residual's scale, taken from another kind of block."""
    del effects
    for path, module in model.named_modules():
        if isinstance(getattr(module, "scale", None), float):
            other = OTHER_SCALES.get(module.scale, 1.0)
            what = f"scale of {path} {other:g} for {module.scale:g}"
            yield _on_module("residual scale", path, what, scale=other)


def strides(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """1 for 2 and 2 for 1, in each convolution and pool."""
    del effects
    for path, module in _windows(model):
        one = module.stride in (1, (1, 1))
        other = 2 if one else 1
        value = (other, other) if isinstance(module.stride, tuple) else other
        yield _on_module("stride", path, f"stride of {path} {other}", stride=value)


def paddings(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """None for some and some for none, in each convolution and pool."""
    del effects
    for path, module in _windows(model):
        if isinstance(module.padding, tuple):
            none = not any(module.padding)
            sides = tuple(max(1, size // 2) for size in module.kernel_size) if none else (0, 0)
            # What torch pads with is worked out when a convolution is made, but not used for zeros.
            yield _on_module("padding", path, f"padding of {path} {sides}", padding=sides)
        else:
            yield _on_module("padding", path, f"padding of {path} 1", padding=1)


def roundings(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Each pool rounding the other way."""
    del effects
    for path, module in model.named_modules():
        if hasattr(module, "ceil_mode"):
            what = f"{path} rounds {'down' if module.ceil_mode else 'up'}"
            yield _on_module("pool rounding", path, what, ceil_mode=not module.ceil_mode)


def activations(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Each ReLU and PReLU left out, and one added where a block has none."""
    del effects
    nn = torch().nn
    for path, module in model.named_modules():
        if isinstance(module, nn.ReLU | nn.PReLU):
            layer = path.rpartition(".")[0] if path.endswith(".relu") else path
            yield Mutant("activation", (layer,), f"{path} left out", _setter(path, forward=_same))
        elif getattr(module, "relu", module) is None:
            yield _on_module("activation", path, f"a ReLU after {path}", relu=nn.ReLU())


def branch_orders(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """The first two branches of each block joined in the other order."""
    del effects
    for path, module in model.named_modules():
        names: tuple[str, ...] = getattr(module, "_names", ())
        if len(names) > 1:
            other = (names[1], names[0], *names[2:])
            yield _on_module("branch order", path, f"{path} joins {', '.join(other)}", _names=other)


def endings(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """What the network does between its modules: normalising embeddings, flattening maps."""
    del effects
    namespace: Any = inspect.getmodule(type(model))
    dense = [p for p, module in model.named_modules() if isinstance(module, torch().nn.Linear)]
    if hasattr(namespace, "NORMALIZE_EPS"):
        functional = namespace.F
        for what, form in _NORMALISATIONS.items():
            yield Mutant("ending", ("",), what, _constant(functional, {"normalize": form}))
        change = _constant(namespace, {"NORMALIZE_EPS": 1e-12})
        yield Mutant("ending", ("",), "L2 epsilon 1e-12 for 1e-5", change)
    elif dense:
        for what, form in _FLATTENINGS.items():
            change = _constant(namespace, {"_flatten_columns": form})
            yield Mutant("ending", (dense[0],), what, change)


_NORMALISATIONS: Mapping[str, Callable[..., Tensor]] = {
    "embeddings not normalised": lambda x, **_: x,
    "embeddings divided by their sum": lambda x, **_: x / x.sum(1, keepdim=True),
    "embeddings normalised over the batch": lambda x, **_: x / x.norm(dim=0, keepdim=True),
}
_FLATTENINGS: Mapping[str, Callable[..., Tensor]] = {
    "maps flattened as torch has them": lambda x: x.flatten(1),
    "maps flattened row by row": lambda x: x.permute(0, 2, 3, 1).flatten(1),
}

KINDS: Mapping[str, Make] = {
    "kernel transposed": transposed,
    "tensors swapped": swapped,
    "batch norm exchanged": batch_norms,  # and "batch norm perturbed"
    "one ulp": ulps,
    "epsilon": epsilons,
    "residual scale": scales,
    "stride": strides,
    "padding": paddings,
    "pool rounding": roundings,
    "activation": activations,
    "branch order": branch_orders,
    "ending": endings,
}


# --- what they share


def blocks(model: Any) -> list[str]:
    """Paths of the blocks, in the order of the network; ``""`` where it has none of its own.

    A block is a child of the network, and each element of a child that is a sequence.
    """
    paths: list[str] = []
    for name, child in model.named_children():
        if isinstance(child, torch().nn.Sequential):
            paths += [f"{name}.{number}" for number, _ in child.named_children()]
        else:
            paths.append(name)
    nested = any(list(model.get_submodule(path).children()) for path in paths)
    return paths if nested else [""]


def _floating(model: Any) -> dict[str, Tensor]:
    return {n: t for n, t in model.state_dict().items() if t.is_floating_point()}


def _windows(model: Any) -> Iterator[tuple[str, Any]]:
    nn = torch().nn
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            yield path, module


def _same(value: Tensor) -> Tensor:
    return value


def _perturbed(value: Tensor) -> Tensor:
    return value * PERTURBED


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _on_module(kind: str, path: str, what: str, **values: Any) -> Mutant:
    return Mutant(kind, (path,), what, _setter(path, **values))


def _setter(path: str, **values: Any) -> Change:
    return lambda model: [(model.get_submodule(path), values)]


def _constant(place: Any, values: Mapping[str, Any]) -> Change:
    def change(model: Any) -> Sequence[tuple[Any, Mapping[str, Any]]]:
        del model
        return [(place, values)]

    return change


def _on_tensors(
    kind: str, what: str, moves: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]]
) -> Mutant:
    """Each tensor named gets what a function makes of another (or of itself), in float32."""

    def change(model: Any) -> Sequence[tuple[Any, Mapping[str, Any]]]:
        set_on: list[tuple[Any, Mapping[str, Any]]] = []
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, (source, make) in moves.items():
            dtype = state[name].dtype
            # The weights were float32 before they were widened, so nothing is lost here.
            value = make(state[source].detach().float()).to(dtype)
            if name in dict(model.named_parameters()):
                value = torch().nn.Parameter(value, requires_grad=False)
            set_on.append((model.get_submodule(_layer(name)), {_leaf(name): value}))
        return set_on

    return Mutant(kind, tuple(dict.fromkeys(map(_layer, moves))), what, change, tuple(moves))
