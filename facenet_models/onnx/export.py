"""The networks as ONNX files, run and compared before they get their name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from facenet_common.atomic import check_target, write_file
from facenet_common.errors import ExportError, UsageError
from facenet_models.networks import PREPROCESSING
from facenet_models.networks.architectures import Description, describe
from facenet_models.onnx.graph import DEFAULT_OPSET, INPUT, check_opset, to_onnx
from facenet_models.onnx.runtime import make_session
from facenet_models.optimize import check_eval

# Rounding alone: 6e-7 was the most that embeddings (L2) and detections (max abs) were apart, over
# seeds, sizes and batches. Logits have no fixed scale, so theirs is relative to the largest.
TOLERANCE = 2e-6
SEED = 20180402


class Exported(NamedTuple):
    """What was written, and how far onnxruntime's answers were from torch's.

    `difference` is the largest L2 distance of two embeddings, else the largest difference of two
    numbers, relative to the largest number where that is above 1; it is at most `TOLERANCE`.
    """

    path: Path
    architecture: Description
    opset: int
    image: tuple[int | str, ...]
    size: int
    sha256: str
    difference: float

    def to_json(self) -> dict[str, object]:
        return {
            "path": str(self.path),
            "architecture": self.architecture.name,
            "dimensions": dict(self.architecture.dims),
            "outputs": list(self.architecture.outputs),
            "opset": self.opset,
            "input": list(self.image),
            "bytes": self.size,
            "sha256": self.sha256,
            "difference": self.difference,
        }


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    opset: int = DEFAULT_OPSET,
    batch: int | None = None,
    size: int | tuple[int, int] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write `model` to `path` as ONNX, once onnxruntime gives the same answers as torch.

    Args:
        model: One of this package's networks; float32, in eval mode. With ``classify`` the
            file gives ``logits``, else ``embeddings``; MTCNN's networks give ``regression``,
            ``landmarks`` (O-Net) and ``probability``.
        path: Not there yet, unless `overwrite`.
        opset: 16 to the newest that the installed onnx package knows.
        batch: Images that the file takes at a time; None leaves it free.
        size: Their height and width (one number: square); None leaves both free. R-Net and O-Net
            take one size only.

    The input is named ``images``: RGB, ``(pixel - 127.5) / 128``, NCHW, float32. Initializers
    have the names and the bits of the state_dict; a PReLU's has two more dimensions of length 1
    where it follows a convolution. The file's ``metadata_props`` hold what `metadata` returns.
    Equal models give equal bytes.

    Raises:
        UsageError: The model, a size, the opset, or the path can't be used.
        ExportError: The exported model answers differently. Nothing is written.
        OutputError: The file could not be written.
        FacenetError: onnx or onnxruntime is not installed.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    check_opset(opset)
    check_eval(model)
    described = describe(model)
    kinds = {value.dtype for value in model.parameters()}
    if kinds != {torch.float32}:
        raise UsageError(
            "only float32 models are exported",
            found=", ".join(sorted(map(str, kinds))),
            next_step="call model.float() first",
        )
    fixed = _checked_size(described, size)
    if batch is not None and batch < 1:
        raise UsageError("the batch must hold at least one image", found=batch)
    outputs, image = described.shapes(batch, fixed)
    data = to_onnx(model, outputs, image=image, opset=opset, metadata=metadata(described))
    difference = verify(data, model, _trials(described, batch, fixed))
    write_file(path, data)
    digest = hashlib.sha256(data).hexdigest()
    return Exported(path, described, opset, tuple(image), len(data), digest, difference)


def metadata(described: Description) -> dict[str, str]:
    """What the file says about itself: architecture, sizes, outputs, preprocessing."""
    sizes = {f"facenet.{name}": str(size) for name, size in described.dims.items()}
    return sizes | {
        "facenet.architecture": described.name,
        "facenet.outputs": ",".join(described.outputs),
        "facenet.preprocessing": PREPROCESSING,
    }


def verify(data: bytes, model: nn.Module, trials: list[tuple[int, int, int]]) -> float:
    """Run `data` in onnxruntime beside `model` on seeded noise; the largest difference.

    Args:
        data: An ONNX file's bytes.
        model: What it was made from.
        trials: Batch size, height and width of each input.

    Raises:
        ExportError: A shape differs, a number is not finite or farther off than `TOLERANCE`.
    """
    session = make_session(data, torch.get_num_threads())
    described = describe(model)
    device = next(model.parameters()).device
    worst = 0.0
    for seed, (count, height, width) in enumerate(trials, SEED):
        rng = np.random.default_rng(seed)
        images = rng.standard_normal((count, 3, height, width), np.float32)
        found = session.run(list(described.outputs), {INPUT: images})
        with torch.inference_mode():
            answer = model(torch.from_numpy(images).to(device))
        expected = [part.cpu().numpy() for part in _as_tuple(answer)]
        pairs = dict(zip(described.outputs, zip(found, expected, strict=True), strict=True))
        worst = max(worst, _difference(pairs))
    return worst


def _difference(pairs: Mapping[str, tuple[Any, Any]]) -> float:
    """The largest difference between found and expected of each output, or ExportError."""
    worst = 0.0
    for name, (found, expected) in pairs.items():
        if found.shape != expected.shape:
            raise ExportError(
                f"the exported model's {name} have another shape; nothing was written",
                expected=expected.shape,
                found=found.shape,
            )
        apart = found.astype(np.float64) - expected
        if name == "embeddings":
            difference = float(np.linalg.norm(apart, axis=1).max())
        else:
            difference = float(np.abs(apart).max() / max(1.0, np.abs(expected).max()))
        if not difference <= TOLERANCE:  # so that NaN fails too
            raise ExportError(
                f"the exported model's {name} differ from torch's; nothing was written",
                expected=f"at most {TOLERANCE:g} apart",
                found=f"{difference:.3g}",
                next_step="if the model's own answers are finite, please report this as a bug",
            )
        worst = max(worst, difference)
    return worst


def _checked_size(
    described: Description, size: int | tuple[int, int] | None
) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    allowed = f"at least {described.smallest} by {described.smallest}"
    if described.image:
        allowed = f"{described.image[0]} by {described.image[1]}"
    if min(height, width) < described.smallest or described.image not in (None, (height, width)):
        raise UsageError(
            f"{described.name} does not take images of this size",
            expected=allowed,
            found=f"{height} by {width}",
        )
    return height, width


def _trials(
    described: Description, batch: int | None, size: tuple[int, int] | None
) -> list[tuple[int, int, int]]:
    """Two inputs that differ in all that is free."""
    least = described.smallest
    first = size or described.image or (least + 5, least + 24)
    second = size or described.image or (least + 37, least)
    return [(batch or 1, *first), (batch or 3, *second)]


def _as_tuple(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)
