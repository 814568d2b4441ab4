"""Inception-ResNet-v1 as the Keras ports define it, built with Keras 3, for tests.

The names are those of nyoki-mtl/keras-facenet, faustomorales/keras-facenet and serengil/deepface;
the layers' sizes are written down here a second time, apart from the converter's tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# Each block's convolutions: branch, name, filters, kernel, stride. Stride 2 goes without padding.
_BLOCKS: dict[str, Sequence[tuple[int, str, int, tuple[int, int], int]]] = {
    "Block35": (
        (0, "Conv2d_1x1", 32, (1, 1), 1),
        (1, "Conv2d_0a_1x1", 32, (1, 1), 1),
        (1, "Conv2d_0b_3x3", 32, (3, 3), 1),
        (2, "Conv2d_0a_1x1", 32, (1, 1), 1),
        (2, "Conv2d_0b_3x3", 32, (3, 3), 1),
        (2, "Conv2d_0c_3x3", 32, (3, 3), 1),
    ),
    "Block17": (
        (0, "Conv2d_1x1", 128, (1, 1), 1),
        (1, "Conv2d_0a_1x1", 128, (1, 1), 1),
        (1, "Conv2d_0b_1x7", 128, (1, 7), 1),
        (1, "Conv2d_0c_7x1", 128, (7, 1), 1),
    ),
    "Block8": (
        (0, "Conv2d_1x1", 192, (1, 1), 1),
        (1, "Conv2d_0a_1x1", 192, (1, 1), 1),
        (1, "Conv2d_0b_1x3", 192, (1, 3), 1),
        (1, "Conv2d_0c_3x1", 192, (3, 1), 1),
    ),
    "Mixed_6a": (
        (0, "Conv2d_1a_3x3", 384, (3, 3), 2),
        (1, "Conv2d_0a_1x1", 192, (1, 1), 1),
        (1, "Conv2d_0b_3x3", 192, (3, 3), 1),
        (1, "Conv2d_1a_3x3", 256, (3, 3), 2),
    ),
    "Mixed_7a": (
        (0, "Conv2d_0a_1x1", 256, (1, 1), 1),
        (0, "Conv2d_1a_3x3", 384, (3, 3), 2),
        (1, "Conv2d_0a_1x1", 256, (1, 1), 1),
        (1, "Conv2d_1a_3x3", 256, (3, 3), 2),
        (2, "Conv2d_0a_1x1", 256, (1, 1), 1),
        (2, "Conv2d_0b_3x3", 256, (3, 3), 1),
        (2, "Conv2d_1a_3x3", 256, (3, 3), 2),
    ),
}


class _Builder:
    """Adds layers to a functional model; `epsilon` and `scales` can be set wrong on purpose."""

    def __init__(self, keras: Any, *, deepface: bool, epsilon: float) -> None:
        self.keras = keras
        self.deepface = deepface
        self.epsilon = epsilon

    def norm(self, x: Any, name: str) -> Any:
        layers = self.keras.layers
        return layers.BatchNormalization(
            momentum=0.995, epsilon=self.epsilon, scale=False, name=f"{name}_BatchNorm"
        )(x)

    def conv(
        self, x: Any, name: str, filters: int, kernel: Any, stride: int = 1, *, padded: bool = True
    ) -> Any:
        layers = self.keras.layers
        padding = "same" if padded and stride == 1 else "valid"
        x = layers.Conv2D(
            filters, kernel, strides=stride, padding=padding, use_bias=False, name=name
        )(x)
        return layers.Activation("relu", name=f"{name}_Activation")(self.norm(x, name))

    def branches(self, x: Any, kind: str, prefix: str, renamed: int = 1) -> list[Any]:
        """The outputs of a block's branches; DeepFace calls branch 1 by the block's number."""
        ends: dict[int, Any] = {}
        for branch, name, filters, kernel, stride in _BLOCKS[kind]:
            shown = renamed if branch == 1 else branch
            before = ends.get(branch, x)
            ends[branch] = self.conv(
                before, f"{prefix}_Branch_{shown}_{name}", filters, kernel, stride
            )
        return list(ends.values())

    def residual(self, x: Any, kind: str, number: int, scale: float, *, relu: bool = True) -> Any:
        layers, prefix = self.keras.layers, f"{kind}_{number}"
        renames = self.deepface and kind != "Block35" and relu
        mixed = self.branches(x, kind, prefix, number if renames else 1)
        mixed = layers.Concatenate(name=f"{prefix}_Concatenate")(mixed)
        up = layers.Conv2D(x.shape[-1], 1, name=f"{prefix}_Conv2d_1x1")(mixed)
        up = layers.Lambda(
            lambda x, scale: x * scale, output_shape=up.shape[1:], arguments={"scale": scale}
        )(up)
        x = layers.add([x, up])
        return layers.Activation("relu", name=f"{prefix}_Activation")(x) if relu else x

    def reduction(self, x: Any, name: str, pool: int) -> Any:
        layers = self.keras.layers
        ends = self.branches(x, name, name)
        ends.append(layers.MaxPooling2D(3, 2, name=f"{name}_Branch_{pool}_MaxPool_1a_3x3")(x))
        return layers.Concatenate(name=name)(ends)


def facenet(
    keras: Any,
    embedding: int = 128,
    *,
    size: int | None = 160,
    deepface: bool = False,
    normalised: bool = False,
    epsilon: float = 0.001,
    scales: Sequence[float] = (0.17, 0.1, 0.2, 1.0),
) -> Any:
    """Inception-ResNet-v1 with an embedding of that size, as a Keras model.

    Args:
        keras: The package.
        embedding: The length of an embedding.
        size: Height and width of the images.
        deepface: Name branches as DeepFace does.
        normalised: End with L2 normalisation, as faustomorales/keras-facenet does.
        epsilon, scales: Settings, which a test may set wrong.
    """
    layers = keras.layers
    build = _Builder(keras, deepface=deepface, epsilon=epsilon)
    images = layers.Input((size, size, 3))
    x = build.conv(images, "Conv2d_1a_3x3", 32, 3, 2)
    x = build.conv(x, "Conv2d_2a_3x3", 32, 3, padded=False)
    x = build.conv(x, "Conv2d_2b_3x3", 64, 3)
    x = layers.MaxPooling2D(3, 2, name="MaxPool_3a_3x3")(x)
    x = build.conv(x, "Conv2d_3b_1x1", 80, 1, padded=False)
    x = build.conv(x, "Conv2d_4a_3x3", 192, 3, padded=False)
    x = build.conv(x, "Conv2d_4b_3x3", 256, 3, 2)
    for number in range(1, 6):
        x = build.residual(x, "Block35", number, scales[0])
    x = build.reduction(x, "Mixed_6a", 2)
    for number in range(1, 11):
        x = build.residual(x, "Block17", number, scales[1])
    x = build.reduction(x, "Mixed_7a", 3)
    for number in range(1, 6):
        x = build.residual(x, "Block8", number, scales[2])
    x = build.residual(x, "Block8", 6, scales[3], relu=False)
    x = layers.GlobalAveragePooling2D(name="AvgPool")(x)
    x = layers.Dropout(0.2, name="Dropout")(x)
    x = build.norm(layers.Dense(embedding, use_bias=False, name="Bottleneck")(x), "Bottleneck")
    if normalised:
        x = layers.UnitNormalization(name="normalize")(x)
    return keras.Model(images, x, name="inception_resnet_v1")


def fill(model: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """Set every weight to random values; return them by ``LAYER/VARIABLE``."""
    rng = np.random.default_rng(seed)
    values: dict[str, np.ndarray] = {}
    for layer in model.layers:
        made = []
        for weight in layer.weights:
            variable = weight.name.partition(":")[0]
            shape = tuple(weight.shape)
            if variable == "kernel":
                fan_in = int(np.prod(shape[:-1]))
                value = rng.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
            elif variable == "moving_variance":
                value = rng.random(shape, np.float32) + np.float32(0.5)
            else:
                value = rng.standard_normal(shape, np.float32) * np.float32(0.1)
            values[f"{layer.name}/{variable}"] = value
            made.append(value)
        if made:
            layer.set_weights(made)
    return values
