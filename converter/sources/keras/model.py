"""The tensors of a Keras model under TensorFlow's names and what there is to say of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

from converter.architectures import ARCHITECTURES
from converter.architectures.record import KerasPort
from converter.catalog import Catalog, TensorRef
from converter.findings import Finding
from converter.sources.keras.config import Config, parse
from converter.sources.keras.hdf5 import Hdf5
from converter.sources.keras.layouts import Model, Weight, is_keras, read
from facenet_common.errors import FormatError, MappingError
from facenet_common.text import count, printable, summarise

# Keras' names of variables, those of Keras 1 too (its running_std holds a variance), and TF-slim's.
_VARIABLES = {
    "kernel": "weights",
    "bias": "biases",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_variance": "moving_variance",
    "W": "weights",
    "b": "biases",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
NAMES = "tensors of Keras are listed by TensorFlow's names: layer/kernel is scope/weights"
NOT_NORMALISED = (
    "the Keras model ends with the layer {last}: its output is not L2-normalised, that of the "
    "converted network is"
)
GOES_ON = (
    "the Keras model continues after {last}: {more}; these layers hold no weights of the network "
    "and are not converted, and the converted network's output is L2-normalised"
)
UNKNOWN_END = (
    "the file does not say whether the Keras model normalises its output; the converted network's "
    "output is L2-normalised"
)
BYTECODE = (
    "the file holds Python bytecode in {layers}: it was not run, and what these layers compute is "
    "taken from the network's definition"
)


def catalog(
    data: memoryview,
    path: Path,
    *,
    format: str,
    config: str | None = None,
    release: Callable[[int], object] = lambda _: None,
) -> Catalog:
    """Return the tensors of the HDF5 file in `data`.

    Args:
        data: The bytes of the HDF5 file.
        path: The file, for messages.
        format: The name of the format.
        config: The model's configuration, if it is not in the HDF5 file.
        release: As for `Catalog`.

    Raises:
        FormatError: The file is damaged, or not of Keras.
        MappingError: The model has other settings than the network of its layers' names.
        MissingPackageError: h5py is not installed.
    """
    file = Hdf5(data, path)
    if not is_keras(file):
        recorded = "schema" in file.groups[""]
        raise FormatError(
            "this HDF5 file does not hold weights of Keras",
            file=path,
            found="a recorded reference of `facenet capture`" if recorded else None,
            expected="a file of model.save() or model.save_weights()",
            next_step="give it to `facenet verify`"
            if recorded
            else "save the model with Keras: model.save('model.keras')",
        )
    try:
        settings = parse(config or file.groups[""].get("model_config") or '{"config": {}}')
    except ValueError as error:
        raise file.damaged(f"a configuration that can't be read: {error}") from error
    model = read(file, settings)
    port = _port(model)
    if port is None:
        _require_names(file, model)
        tensors = {weight.ref.name: weight.ref for weight in model.weights}
        notes: tuple[str, ...] = ()
    else:
        _require_settings(port, settings, path)
        tensors = _translated(file, model, port)
        notes = (NAMES, *_notes(port, settings, model))
    return Catalog(
        tensors, format=format, naming="tensorflow", files=(path,), notes=notes, release=release
    )


def _port(model: Model) -> KerasPort | None:
    """Return the port of which the model has the greatest share of layers; None if it has none."""
    names = {name for weight in model.weights for name in weight.layers}

    def share(port: KerasPort) -> float:
        scopes = {port.layers[name] for name in names if name in port.layers}
        return len(scopes) / len(set(port.layers.values()))

    ports = [known.keras for known in ARCHITECTURES.values() if known.keras is not None]
    best = max(ports, key=share, default=None)
    return best if best is not None and share(best) > 0 else None


def _require_names(file: Hdf5, model: Model) -> None:
    """Raise FormatError for a file that numbers its layers and names none."""
    if model.order or any(weight.layers for weight in model.weights):
        return
    raise FormatError(
        "the file numbers the layers of the Keras model and does not name them",
        file=file.path,
        found=summarise(file.datasets, 3),
        expected="names such as Conv2d_1a_3x3, which the converter maps by",
        next_step="load the weights into the model in Keras, then model.save('model.keras'), and "
        "convert that file",
    )


def _translated(file: Hdf5, model: Model, port: KerasPort) -> dict[str, TensorRef]:
    tensors: dict[str, TensorRef] = {}
    for weight in model.weights:
        name = _name(weight, port)
        if name in tensors:
            raise file.damaged(f"two tensors for {name}", weight.ref.name)
        tensors[name] = replace(weight.ref, name=name)
    return tensors


def _name(weight: Weight, port: KerasPort) -> str:
    """Return TensorFlow's name of a weight, or its path in the file if it has none."""
    scope = next((port.layers[name] for name in weight.layers if name in port.layers), None)
    variable = _VARIABLES.get(weight.variable)
    return weight.ref.name if scope is None or variable is None else f"{scope}/{variable}"


def _notes(port: KerasPort, config: Config, model: Model) -> Sequence[str]:
    notes = [
        f"left out: {count(number, 'tensor')} {kind}" for kind, number in model.left_out.items()
    ]
    known = [place for place, name in enumerate(model.order) if name in port.layers]
    if not known:
        notes.append(UNKNOWN_END)
    else:
        last, more = model.order[known[-1]], model.order[known[-1] + 1 :]
        text = GOES_ON if more else NOT_NORMALISED
        notes.append(text.format(last=printable(last, 80), more=summarise(more, 3)))
    unsafe = [layer.name for layer in config.walk() if layer.has_bytecode]
    if unsafe:
        notes.append(
            BYTECODE.format(layers=f"{count(len(unsafe), 'layer')} ({summarise(unsafe, 2)})")
        )
    return notes


# --- settings


def _require_settings(port: KerasPort, config: Config, path: Path) -> None:
    """Raise MappingError if a setting in the configuration is not the network's.

    The weights alone would fit, and the converted network would compute something else.
    """
    findings = []
    for layer in config.walk():
        if layer.name in port.layers and layer.kind == "batch_normalization":
            findings += _differing(layer.name, "epsilon", layer.settings, port.epsilon)
        arguments = layer.settings.get("arguments", layer.settings)
        for feed in layer.feeds:
            if feed in port.scales and layer.kind != "conv2d" and isinstance(arguments, Mapping):
                findings += _differing(layer.name, "scale", arguments, port.scales[feed])
    if findings:
        raise MappingError(
            "the Keras model has other settings than the network of its layers' names: "
            f"{len(findings)} problem{'s' * (len(findings) != 1)}",
            tuple(findings),
            file=str(path),
            next_step="the weights belong to a changed network, which the converter does not know",
        )


def _differing(
    layer: str, name: str, settings: Mapping[str, object], expected: float
) -> list[Finding]:
    found = settings.get(name, expected)
    # Keras 2 may have stored the float32 that is next to it.
    if isinstance(found, int | float) and isclose(found, expected, rel_tol=1e-6):
        return []
    return [Finding("setting", layer, f"{name} {expected:g}", printable(found, 80))]
