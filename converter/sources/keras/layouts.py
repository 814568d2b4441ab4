"""Where Keras puts a model's weights in an HDF5 file: three layouts.

1. Keras 1 and 2, and ``.h5`` files of Keras 3: a group for each layer, below ``model_weights`` in
   the file of a whole model; in it ``LAYER/VARIABLE:0``. A model within the model is one layer.
   Keras finds them by the attributes ``layer_names`` and ``weight_names``; here every dataset is
   taken, and must be used.
2. ``.weights.h5`` and ``.keras`` files: ``layers/CLASS_N/vars/N``. The layers of a class are
   numbered in the order of the model's configuration; since Keras 3.8 the attribute ``name`` of
   ``vars`` has the layer's own name.
3. The same below ``_layer_checkpoint_dependencies``, of Keras 2.12 and 2.13. The first counted a
   layer with weights twice, so that numbers are left out.

Sources: keras/src/legacy/saving/legacy_h5_format.py and keras/src/saving/saving_lib.py of Keras
3.15; tf_keras/src/saving/saving_lib.py of tf_keras 2.15.1, which mends the counting.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from converter.catalog import TensorRef
from converter.sources.keras.config import Config, Layer
from converter.sources.keras.hdf5 import Hdf5

_WEIGHTS = "model_weights"
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_NUMBERED = re.compile(r"(.*?)(?:_(\d+))?")
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# The variables of a layer in the order of their numbers, by the class's name in paths.
_VARIABLES = {
    "batch_normalization": _BATCH_NORM,
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
}


@dataclass(frozen=True)
class Weight:
    """One weight of a Keras model.

    Args:
        layers: The names that its layer may be known by, the most reliable first.
        variable: The name of the variable in its layer, such as ``kernel``.
        ref: The dataset.
    """

    layers: tuple[str, ...]
    variable: str
    ref: TensorRef


@dataclass(frozen=True)
class Model:
    """The weights of a Keras model.

    Args:
        weights: The weights.
        order: The names of all layers in the model's order, as far as the file has them.
        left_out: Datasets that are no weights (optimiser, random state), by kind.
    """

    weights: tuple[Weight, ...]
    order: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)


def is_keras(file: Hdf5) -> bool:
    """Return whether the file has one of Keras' layouts."""
    marks = {"layer_names", "layer_names0"} & file.groups[""].keys()
    return bool(marks) or any(name in file.groups for name in (_WEIGHTS, *_CONTAINERS))


def read(file: Hdf5, config: Config) -> Model:
    """Return the model's weights. Raises FormatError where names contradict each other."""
    if any(name in file.groups for name in _CONTAINERS):
        return _read_numbered(file, config)
    return _read_named(file, config)


def _order(config: Config) -> tuple[str, ...]:
    return tuple(layer.name for layer in config.walk())


# --- by name


def _read_named(file: Hdf5, config: Config) -> Model:
    inside = f"{_WEIGHTS}/" if _WEIGHTS in file.groups else ""
    weights = []
    left = 0
    for path, ref in file.datasets.items():
        if not path.startswith(inside):
            left += 1
            continue
        layer, *scopes, variable = path[len(inside) :].split("/")
        variable = variable.removesuffix(":0").removeprefix(f"{layer}_")  # Keras 1: LAYER_W:0
        weights.append(Weight((layer, *reversed(scopes)), variable, ref))
    return Model(tuple(weights), _order(config), {"of the optimiser": left} if left else {})


# --- by number


def _read_numbered(file: Hdf5, config: Config) -> Model:
    weights: list[Weight] = []
    left_out: dict[str, int] = defaultdict(int)
    layers = _numbered_layers(file, config)
    variables: dict[str, list[TensorRef]] = defaultdict(list)
    for path, ref in file.datasets.items():
        holder = path.rpartition("/vars/")[0]
        if holder in layers:
            variables[holder].append(ref)
        elif path.startswith(("optimizer/", "_optimizer/")):
            left_out["of the optimiser"] += 1
        elif "/seed_generator/" in path:
            left_out["of random states"] += 1
        else:
            weights.append(Weight((), path, ref))
    for holder, refs in variables.items():
        weights += _variables(layers[holder], refs)
    return Model(tuple(weights), _order(config), dict(left_out))


def _variables(layer: Layer, refs: Sequence[TensorRef]) -> Iterator[Weight]:
    """Yield the variables of one layer, which are numbered in the order of `_VARIABLES`."""
    names = list(_VARIABLES.get(layer.kind, ()))
    if names == list(_BATCH_NORM):
        # A file of weights alone does not have the settings. Of three variables gamma is the
        # missing one, as in every FaceNet.
        present = {"gamma": len(refs) == len(names), "beta": True}
        settings = {"gamma": "scale", "beta": "center"}
        names = [n for n in names if layer.settings.get(settings.get(n, ""), present.get(n, True))]
    for ref in refs:
        number = ref.name.rpartition("/")[2]
        known = number.isdecimal() and int(number) < len(names)
        yield Weight((layer.name,), names[int(number)] if known else number, ref)


def _numbered_layers(file: Hdf5, config: Config) -> dict[str, Layer]:
    """Return the layer of each group that holds variables, ``layers/conv2d_3``."""
    holders = [path.removesuffix("/vars") for path in file.groups if path.endswith("/vars")]
    found: dict[str, Layer] = {}
    for container in _CONTAINERS:
        if container in file.groups:
            found |= _in_container(holders, container, config.layers)
    for path in holders:
        name = file.groups[f"{path}/vars"].get("name")
        kind = _kind_and_number(path.rpartition("/")[2])[0]
        if path not in found and name is not None:
            found[path] = Layer(name, kind)
        elif name is not None and name != found[path].name:
            raise file.damaged(
                f"the layer {name!r}, which is {found[path].name!r} in the configuration", path
            )
    return found


def _in_container(
    holders: Sequence[str], container: str, layers: Sequence[Layer]
) -> dict[str, Layer]:
    """Return the groups below `container` that the configuration names.

    Groups and layers of a class correspond in their order, if there are as many of both.
    """
    below = {path[len(container) + 1 :].partition("/")[0] for path in holders
             if path.startswith(f"{container}/")}  # fmt: skip
    groups: dict[str, list[str]] = defaultdict(list)
    for key in sorted(below, key=lambda key: _kind_and_number(key)[1]):
        groups[_kind_and_number(key)[0]].append(key)
    found: dict[str, Layer] = {}
    for kind, keys in groups.items():
        same = [layer for layer in layers if layer.kind == kind]
        if len(same) != len(keys):
            continue
        for key, layer in zip(keys, same, strict=True):
            path = f"{container}/{key}"
            found[path] = layer
            for inner in _CONTAINERS:
                found |= _in_container(holders, f"{path}/{inner}", layer.inner)
    return found


def _kind_and_number(key: str) -> tuple[str, int]:
    """Return the class and the number in a group's name; the first group of a class has none."""
    match = _NUMBERED.fullmatch(key)
    assert match is not None, "the pattern matches every name"
    return match[1], int(match[2] or 0)
