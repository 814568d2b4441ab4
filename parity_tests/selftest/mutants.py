"""The defects that `facenet verify --self-test` plants, one at a time.

A mutant is data: its kind, the layers that it changes, and which attributes to set on which module.
Mutants are derived from the modules of a network; no network is named here.
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
"""Returns, for a network of any floating-point dtype, the attributes to set on each object."""

STATISTICS = ("running_mean", "running_var", "bias")
WRONG_EPSILON = 1e-5  # torch's default
# The scale of another kind of block in the original: the mistake that happens in practice.
OTHER_SCALES = {0.17: 0.1, 0.1: 0.2, 0.2: 0.17, 1.0: 0.2}
PERTURBED = 1.001


@dataclass(frozen=True)
class Mutant:
    """One defect.

    Attributes:
        kind: Of the defect; a key of `KINDS`.
        layers: Paths of the modules that it changes; ``""`` is the network itself.
        what: A description of the defect.
        change: Returns the attributes to set, for a network.
        tensors: The tensors of the state_dict that it replaces.
    """

    kind: str
    layers: tuple[str, ...]
    what: str
    change: Change
    tensors: tuple[str, ...] = ()


Make = Callable[[Any, Mapping[str, Tensor]], Iterator[Mutant]]
"""Yields all mutants of one kind, for a network and the effects of its weights (see `ulps`)."""


def mutants(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Yield all mutants of `model`, kind after kind.

    Args:
        model: A network of facenet_models in evaluation mode, in float32.
        effects: For each tensor of its state_dict, how much each element changes the outputs.
    """
    for make in KINDS.values():
        yield from make(model, effects)


# --- weights


def transposed(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Exchange height and width of each kernel, and reshape each instead of permuting it.

    The second is what ``.view`` does where ``.permute`` is needed, as in facenet-pytorch's
    ``models/utils/tensorflow2pytorch.py``.
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
    """Swap each pair of tensors of one shape in a block, unless equal or of one batch norm."""
    del effects
    state = _floating(model)
    for block in blocks(model):
        names = [name for name in state if name.startswith(f"{block}.") or not block]
        for first, second in combinations(names, 2):
            left, right = state[first], state[second]
            if left.shape != right.shape or torch().equal(left, right):
                continue
            leaves = {_leaf(first), _leaf(second)}
            if _layer(first) == _layer(second) and leaves <= {*STATISTICS}:
                continue  # `batch_norms` yields these
            moves = {first: (second, _same), second: (first, _same)}
            yield _on_tensors("tensors swapped", f"{first} and {second} swapped", moves)


def batch_norms(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Exchange each pair of mean, variance and bias, and make each a thousandth too large."""
    del effects
    for path, module in model.named_modules():
        if not hasattr(module, "running_var"):
            continue
        for first, second in combinations(STATISTICS, 2):
            names = f"{path}.{first}", f"{path}.{second}"
            if not torch().equal(getattr(module, first), getattr(module, second)):
                moves = {names[0]: (names[1], _same), names[1]: (names[0], _same)}
                yield _on_tensors(
                    "batch norm exchanged", f"{first} and {second} of {path} exchanged", moves
                )
        for leaf in STATISTICS:
            name = f"{path}.{leaf}"
            if getattr(module, leaf).any():  # zeros would not change
                moves = {name: (name, _perturbed)}
                yield _on_tensors("batch norm perturbed", f"{name} times {PERTURBED}", moves)


def ulps(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Change one weight of every tensor by one float32 step.

    By `effects` it is the weight that changes the outputs most, since other weights may not affect
    them at all. Where none does, it is the largest weight.
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


# --- settings that weight files don't contain


def epsilons(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Give each batch norm torch's default epsilon."""
    del effects
    for path, module in model.named_modules():
        if hasattr(module, "running_var"):
            what = f"epsilon of {path} {WRONG_EPSILON:g} for {module.eps:g}"
            yield _on_module("epsilon", path, what, eps=WRONG_EPSILON)


def scales(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Give each residual the scale of another kind of block."""
    del effects
    for path, module in model.named_modules():
        if isinstance(getattr(module, "scale", None), float):
            other = OTHER_SCALES.get(module.scale, 1.0)
            what = f"scale of {path} {other:g} for {module.scale:g}"
            yield _on_module("residual scale", path, what, scale=other)


def strides(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Set the stride of each convolution and pool to 2 instead of 1, or 1 instead of 2."""
    del effects
    for path, module in _windows(model):
        other = 2 if module.stride in (1, (1, 1)) else 1
        value = (other, other) if isinstance(module.stride, tuple) else other
        yield _on_module("stride", path, f"stride of {path} {other}", stride=value)


def paddings(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Remove the padding of each convolution and pool that has one, and add one to the others."""
    del effects
    for path, module in _windows(model):
        if isinstance(module.padding, tuple):
            none = not any(module.padding)
            sides = tuple(max(1, size // 2) for size in module.kernel_size) if none else (0, 0)
            # Conv2d precomputes another attribute for padding, but doesn't use it for zeros.
            yield _on_module("padding", path, f"padding of {path} {sides}", padding=sides)
        else:
            yield _on_module("padding", path, f"padding of {path} 1", padding=1)


def roundings(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Let each pool round the size of its output the other way."""
    del effects
    for path, module in model.named_modules():
        if hasattr(module, "ceil_mode"):
            what = f"{path} rounds {'down' if module.ceil_mode else 'up'}"
            yield _on_module("pool rounding", path, what, ceil_mode=not module.ceil_mode)


def activations(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Leave out each ReLU and PReLU, and add a ReLU where a block has none."""
    del effects
    nn = torch().nn
    for path, module in model.named_modules():
        if isinstance(module, nn.ReLU | nn.PReLU):
            layer = path.rpartition(".")[0] if path.endswith(".relu") else path
            yield Mutant("activation", (layer,), f"{path} left out", _setter(path, forward=_same))
        elif getattr(module, "relu", module) is None:
            yield _on_module("activation", path, f"a ReLU after {path}", relu=nn.ReLU())


def branch_orders(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Join the first two branches of each block in the other order."""
    del effects
    for path, module in model.named_modules():
        names: tuple[str, ...] = getattr(module, "_names", ())
        if len(names) > 1:
            other = (names[1], names[0], *names[2:])
            yield _on_module("branch order", path, f"{path} joins {', '.join(other)}", _names=other)


def endings(model: Any, effects: Mapping[str, Tensor]) -> Iterator[Mutant]:
    """Change what the network does between modules: normalising embeddings, flattening maps."""
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
            change = _constant(namespace, {"flatten_columns": form})
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


# --- helpers


def blocks(model: Any) -> list[str]:
    """Return the paths of the blocks in the network's order; ``[""]`` where it has none.

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
    """Return a mutant that replaces tensors: each by a function of another one or of itself.

    The functions get and return float32.
    """

    def change(model: Any) -> Sequence[tuple[Any, Mapping[str, Any]]]:
        set_on: list[tuple[Any, Mapping[str, Any]]] = []
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, (source, make) in moves.items():
            dtype = state[name].dtype
            # The weights were float32 before they became float64, so the conversion is exact.
            value = make(state[source].detach().float()).to(dtype)
            if name in dict(model.named_parameters()):
                value = torch().nn.Parameter(value, requires_grad=False)
            set_on.append((model.get_submodule(_layer(name)), {_leaf(name): value}))
        return set_on

    return Mutant(kind, tuple(dict.fromkeys(map(_layer, moves))), what, change, tuple(moves))
