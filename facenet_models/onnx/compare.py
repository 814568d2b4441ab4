"""Compare an ONNX model with the torch network that it was made from."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from facenet_common.errors import ExportError
from facenet_models.networks.architectures import Description, describe
from facenet_models.onnx.graph import INPUT
from facenet_models.onnx.runtime import make_session
from facenet_models.rounding import FACTOR, rounding_scale

Array = npt.NDArray[Any]

# Numbers that are compared at least: as many images as give them. With fewer, chance decides how
# far rounding moves them, and how far the disturbed network moves that they are held to.
ENOUGH = 64
DRAWS = 2  # how often each of these images is disturbed
SEED = 20180402  # date of the published model 20180402-114759


def compare(data: bytes, model: nn.Module, trials: Sequence[tuple[int, int, int]]) -> float:
    """Compare an ONNX model in onnxruntime with `model` in torch, on seeded noise.

    The distance from the outputs in float64 may be `FACTOR` times the scale of rounding, in
    quadratic mean over the images: `facenet_models.rounding` derives both. So a right model passes
    on every processor, and for images of every size.

    Args:
        data: Bytes of the ONNX file.
        model: The exported network.
        trials: Batch size, height and width of each input. A batch is repeated with other images
            until there are `ENOUGH` numbers.

    Returns:
        The largest difference, as in `facenet_models.onnx.export.Exported`.

    Raises:
        ExportError: A shape differs, a number is not finite, or the distance is larger.

    Examples:
        >>> compare(data, model, [(1, 80, 99), (3, 112, 75)])  # doctest: +SKIP
        4.1e-07
    """
    session = make_session(data, torch.get_num_threads())
    described = describe(model)
    names = list(described.outputs)
    single = copy.deepcopy(model).cpu()
    exact = copy.deepcopy(single).double()
    worst = 0.0
    for seed, (batch, height, width) in enumerate(trials, SEED):
        rng = np.random.default_rng(seed)
        needed = math.ceil(ENOUGH / _numbers(described, height, width))
        batches = [
            rng.standard_normal((batch, 3, height, width), np.float32)
            for _ in range(0, needed, batch)
        ]
        images = [torch.from_numpy(image) for part in batches for image in part]
        found = _joined(names, [session.run(names, {INPUT: part}) for part in batches])
        with torch.inference_mode():  # one at a time: in float64, large ones take gigabytes
            rows = [_arrays(exact(image[None].double())) for image in images]
        expected = _joined(names, rows)
        _require_comparable(found, expected)
        scale = rounding_scale(single, images, at_most=needed, draws=DRAWS)
        worst = max(worst, _difference(found, expected, scale))
    return worst


def _numbers(described: Description, height: int, width: int) -> int:
    """Return how many numbers the outputs have for one image of that size."""
    edge = described.network.map_edge
    return sum(
        shape[0] * (edge(height) * edge(width) if len(shape) > 1 else 1)
        for shape in described.outputs.values()
    )


def _arrays(outputs: Any) -> list[Array]:
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [output.numpy() for output in outputs]


def _joined(names: Sequence[str], parts: Sequence[Sequence[Array]]) -> dict[str, Array]:
    """Return each output for all images, by name, from the outputs for parts of them."""
    columns = zip(*parts, strict=True)
    return {n: np.concatenate(column) for n, column in zip(names, columns, strict=True)}


def _require_comparable(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    for name, exact in expected.items():
        if found[name].shape != exact.shape:
            raise ExportError(
                f"the exported model's {name} have another shape; nothing was written",
                expected=exact.shape,
                found=found[name].shape,
            )
        for whose, side in (("model's own", exact), ("exported model's", found[name])):
            if not np.isfinite(side).all():
                raise ExportError(
                    f"the {whose} {name} are not finite; nothing was written",
                    expected="finite numbers for images of noise",
                    found=side[~np.isfinite(side)][0],
                    next_step="check the weights: facenet inspect FILE",
                )


def _difference(found: Mapping[str, Array], expected: Mapping[str, Array], scale: Array) -> float:
    """Return the largest difference of two outputs, or raise ExportError.

    `scale` is that of rounding, for each image.
    """
    squares, differences = np.zeros(len(scale)), {}
    for name, exact in expected.items():
        errors = (found[name] - exact).reshape(len(exact), -1)  # float64, as `exact`
        distances = np.linalg.norm(errors, axis=1)
        squares += distances**2
        difference = np.abs(errors).max() / max(1.0, np.abs(exact).max())
        differences[name] = float(distances.max() if name == "embeddings" else difference)
    # The images are all of one kind, so that they can share one scale, which is better known.
    distance, rounding = (float(np.sqrt(np.mean(side))) for side in (squares, scale**2))
    if not distance <= FACTOR * rounding:
        name = max(differences, key=differences.__getitem__)
        raise ExportError(
            f"the exported model's {name} differ from torch's; nothing was written",
            expected=f"at most {FACTOR:g} times the distance that rounding explains, "
            f"{rounding:.2g} (L2)",
            found=f"{distance:.3g}; the largest difference is {differences[name]:.3g}",
            next_step="please report this as a bug",
        )
    return max(differences.values())
