"""Small HDF5 files in Keras' layouts, written with h5py; whole ones, and ones that lie."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converter.architectures import INCEPTION_RESNET_V1
from converter.rules import Rule

Case = Callable[[Path], Path]
GIB = 1 << 30

SMALL = {
    "Conv2d_1a_3x3/kernel": np.arange(3 * 3 * 3 * 2, dtype="<f4").reshape(3, 3, 3, 2),
    "Conv2d_1a_3x3_BatchNorm/beta": np.array([1.5, -0.0], "<f4"),
    "Conv2d_1a_3x3_BatchNorm/moving_mean": np.array([np.inf, 2.0], "<f4"),
}
"""The first weights of a FaceNet, small enough to flip every byte of their file."""


def whole(embedding: int = 4) -> dict[str, np.ndarray]:
    """Every weight of Inception-ResNet-v1 by ``LAYER/VARIABLE``, in the smallest of dtypes."""
    port = INCEPTION_RESNET_V1.keras
    assert port is not None
    layers = {scope: name for name, scope in reversed(port.layers.items())}
    words = {"weights": "kernel", "biases": "bias"}
    found = {}
    for number, row in enumerate(INCEPTION_RESNET_V1.rows):
        if isinstance(row, Rule) and row.part == "features":
            scope, _, variable = row.source.rpartition("/")
            shape = tuple(embedding if isinstance(dim, str) else dim for dim in row.shape)
            found[f"{layers[scope]}/{words.get(variable, variable)}"] = np.full(
                shape, number / 64, np.float16
            )
    return found


def named(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    *,
    root: str = "",
    config: object = None,
    suffix: str = ":0",
    **how: Any,
) -> Path:
    """The layout of Keras 2: a group for each layer. `root`: ``model_weights`` in whole models."""
    import h5py

    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
        group = file.create_group(root) if root else file
        layers = list(dict.fromkeys(name.partition("/")[0] for name in arrays))
        group.attrs["layer_names"] = np.array([layer.encode() for layer in layers])
        group.attrs["keras_version"] = "2.2.4"
        for layer in layers:
            own = [name for name in arrays if name.startswith(f"{layer}/")]
            group.create_group(layer).attrs["weight_names"] = np.array(
                [f"{name}{suffix}".encode() for name in own]
            )
            for name in own:
                group[layer].create_dataset(f"{name}{suffix}", data=arrays[name], **how)
    return path


def numbered(
    file: Any,
    layers: Iterable[tuple[str, str, list[np.ndarray]]],
    *,
    container: str = "layers",
    names: bool = True,
    step: int = 1,
) -> None:
    """The layout of Keras 3, from rows of class in the path, layer's name, variables."""
    import h5py

    counts: dict[str, int] = {}
    with h5py.File(file, "w") as opened:
        for kind, name, variables in layers:
            number = counts.get(kind, 0)
            counts[kind] = number + step
            group = opened.create_group(
                f"{container}/{kind}_{number}" if number else f"{container}/{kind}"
            )
            group.create_group("vars")
            if names:
                group["vars"].attrs["name"] = name
            for place, value in enumerate(variables):
                group["vars"][str(place)] = value


def archive(path: Path, config: object, weights: bytes, compression: int = 0) -> Path:
    """A ``.keras`` archive."""
    with zipfile.ZipFile(path, "w", compression) as opened:
        opened.writestr("metadata.json", "{}")
        opened.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        opened.writestr("model.weights.h5", weights)
    return path


def small_archive(path: Path) -> Path:
    """A ``.keras`` archive of the weights in `SMALL`."""
    layers = [
        ("conv2d", "Conv2d_1a_3x3", [SMALL["Conv2d_1a_3x3/kernel"]]),
        ("batch_normalization", "Conv2d_1a_3x3_BatchNorm", [*SMALL.values()][1:]),
    ]
    buffer = io.BytesIO()
    numbered(buffer, layers)
    entries = [
        {"class_name": "Conv2D", "config": {"name": "Conv2d_1a_3x3"}},
        {
            "class_name": "BatchNormalization",
            "config": {"name": "Conv2d_1a_3x3_BatchNorm", "scale": False, "epsilon": 0.001},
        },
    ]
    config = {"class_name": "Functional", "config": {"layers": entries}}
    return archive(path, config, buffer.getvalue())


# --- files that must be refused


def _changed(change: Callable[[Any, Any, Path], object]) -> Case:
    """A good file after `change(h5py, file, folder)`."""

    def write(folder: Path) -> Path:
        import h5py

        path = named(folder / "x.h5", SMALL)
        with h5py.File(path, "r+") as file:
            change(h5py, file, folder)
        return path

    return write


def _external(_: Any, file: Any, folder: Path) -> None:
    (folder / "raw").write_bytes(bytes(64))
    file.create_dataset("l/w", (4,), "<f4", external=[(str(folder / "raw"), 0, 64)])


def _virtual(h5py: Any, file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((4,), "<f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "w", (4,))
    file.create_virtual_dataset("l/w", layout)


def _many(_: Any, file: Any, __: Path) -> None:
    data = file.create_dataset("l/w", data=np.zeros(1 << 16, "<f4"))
    for number in range(3000):
        file[f"l/w{number}"] = data


def _nested(_: Any, file: Any, __: Path) -> None:
    file["/".join("g" * 400)] = 1.0


def _wide(_: Any, file: Any, __: Path) -> None:
    group = file.create_group("l")
    for number in range(21_000):
        group[str(number)] = group


def _itself(_: Any, file: Any, __: Path) -> None:
    file["Conv2d_1a_3x3/again"] = file["/"]


def _twice(_: Any, file: Any, __: Path) -> None:
    file["Conv2d_1a_3x3/other/kernel:0"] = np.zeros((3, 3, 3, 2), "<f4")


LIES: dict[str, Case] = {
    "soft link": _changed(lambda h5py, file, _: file.__setitem__("l", h5py.SoftLink("/l"))),
    "external link": _changed(
        lambda h5py, file, folder: file.__setitem__(
            "l", h5py.ExternalLink(str(folder / "other.h5"), "/")
        )
    ),
    "external data": _changed(_external),
    "virtual data": _changed(_virtual),
    "32 GiB that were never written": _changed(
        lambda _, file, __: file.create_dataset("l/w", (8 * GIB,), "<f4")
    ),
    "2^62 bytes that were never written": _changed(
        lambda _, file, __: file.create_dataset("l/w", (1 << 31, 1 << 29), "<f4")
    ),
    "32 GiB of chunks that were never written": _changed(
        lambda _, file, __: file.create_dataset("l/w", (8 * GIB,), "<f4", chunks=(1 << 20,))
    ),
    "32 GiB, compressed": _changed(
        lambda _, file, __: file.create_dataset(
            "l/w", (8 * GIB,), "<f4", chunks=(1 << 20,), compression="gzip"
        )
    ),
    "64 MiB of zeros, compressed": _changed(
        lambda _, file, __: file.create_dataset(
            "l/w", data=np.zeros(1 << 24, "<f4"), compression="gzip"
        )
    ),
    "another compression": _changed(
        lambda _, file, __: file.create_dataset("l/w", data=np.ones(9, "<f4"), compression="lzf")
    ),
    "3,000 names of one dataset": _changed(_many),
    "400 groups deep": _changed(_nested),
    "a group that contains the root": _changed(_itself),
    "21,000 names of one group": _changed(_wide),
    "texts": _changed(lambda _, file, __: file.__setitem__("l/w", "text")),
    "a compound type": _changed(
        lambda _, file, __: file.__setitem__("l/w", np.zeros(2, [("a", "<f4"), ("b", "<i8")]))
    ),
    "no shape": _changed(lambda h5py, file, _: file.__setitem__("l/w", h5py.Empty("<f4"))),
    "a named type": _changed(lambda _, file, __: file.__setitem__("t", np.dtype("<f4"))),
    "two tensors of one name": _changed(_twice),
    "not of Keras": _changed(lambda _, file, __: file.attrs.__delitem__("layer_names")),
    "a configuration that is no JSON": _changed(
        lambda _, file, __: file.attrs.__setitem__("model_config", "{")
    ),
    "a deep configuration": _changed(
        lambda _, file, __: file.attrs.__setitem__("model_config", '{"config":' * 50_000)
    ),
    "a configuration of another kind": _changed(
        lambda _, file, __: file.attrs.__setitem__("model_config", "[1]")
    ),
    "layers without names": lambda folder: _without_names(folder),
    "archive: compressed": lambda folder: archive(folder / "x.keras", {"config": {}}, b"", 8),
    "archive: no HDF5": lambda folder: archive(folder / "x.keras", {"config": {}}, b"weights"),
    "archive: no JSON": lambda folder: archive(folder / "x.keras", b"{", b"weights"),
    "archive: not UTF-8": lambda folder: archive(folder / "x.keras", b"\xff", b"weights"),
    "archive: deep": lambda folder: archive(folder / "x.keras", b"[" * 100_000, b"weights"),
    "archive: no weights": lambda folder: _zip_of(folder, "config.json"),
    "archive: no configuration": lambda folder: _zip_of(folder, "model.weights.h5"),
    "archive: cut off": lambda folder: _cut(small_archive(folder / "x.keras")),
}


def _without_names(folder: Path) -> Path:
    path = folder / "x.weights.h5"
    numbered(path, [("conv2d", "c", [SMALL["Conv2d_1a_3x3/kernel"]])], names=False)
    return path


def _zip_of(folder: Path, name: str) -> Path:
    with zipfile.ZipFile(folder / "x.keras", "w") as opened:
        opened.writestr(name, "{}")
    return folder / "x.keras"


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path
