"""Export the networks as ONNX files, and compare them with torch before they are written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from facenet_common.atomic import check_target, write_file
from facenet_common.errors import UsageError
from facenet_models.networks import PREPROCESSING
from facenet_models.networks.architectures import Description, describe
from facenet_models.onnx.compare import compare
from facenet_models.onnx.graph import DEFAULT_OPSET, check_opset, to_onnx
from facenet_models.optimize import check_eval


class Exported(NamedTuple):
    """A written ONNX file.

    Attributes:
        path: Of the file.
        architecture: Of the network.
        opset: ONNX operator set.
        image: Shape of the input; a string is a free dimension.
        size: Of the file, in bytes.
        sha256: Of the file.
        difference: Between onnxruntime's outputs and those of torch in float64: the largest L2
            distance of two embeddings, else the largest difference of two numbers, relative to the
            largest number if that is above 1.
    """

    path: Path
    architecture: Description
    opset: int
    image: tuple[int | str, ...]
    size: int
    sha256: str
    difference: float

    def to_json(self) -> dict[str, object]:
        """Return the attributes as plain values."""
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
    """Export `model` to an ONNX file, after checking that onnxruntime gives torch's outputs.

    The input is named ``images``: RGB, ``(pixel - 127.5) / 128``, NCHW, float32. The outputs are
    ``logits`` with ``classify``, else ``embeddings``; those of MTCNN's networks ``regression``,
    ``landmarks`` (O-Net) and ``probability``. Initializers have the names and the exact values of
    the state_dict; the slopes of a PReLU after a convolution have two more dimensions of length 1.
    The file's ``metadata_props`` are those of `metadata`. Equal models give equal bytes.

    Args:
        model: One of this package's networks; float32, in eval mode.
        path: Of the file. It must not exist, unless `overwrite` is set.
        opset: ONNX operator set: 16 to the newest of the installed onnx package.
        batch: Fixed number of images in a batch; None leaves it free.
        size: Fixed height and width of the images (one number for a square); None leaves both
            free. R-Net and O-Net have one size only.
        overwrite: Replace an existing file.

    Raises:
        UsageError: The model, a size, the opset or the path is not supported.
        ExportError: The outputs of the exported model differ. Nothing is written.
        OutputError: The file could not be written.
        MissingPackageError: onnx or onnxruntime is not installed.

    Examples:
        >>> export_onnx(resnet, "vggface2.onnx").difference  # doctest: +SKIP
        4.5e-07
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    check_opset(opset)
    check_eval(model)
    described = describe(model)
    kinds = {value.dtype for value in model.parameters()}
    if kinds != {torch.float32}:
        raise UsageError(
            "only float32 models can be exported",
            found=", ".join(sorted(map(str, kinds))),
            next_step="call model.float() first",
        )
    fixed = _checked_size(described, size)
    if batch is not None and batch < 1:
        raise UsageError("batch must be at least 1 (images)", found=batch)
    outputs, image = described.shapes(batch, fixed)
    data = to_onnx(model, outputs, image=image, opset=opset, metadata=metadata(described))
    difference = compare(data, model, _trials(described, batch, fixed))
    write_file(path, data)
    digest = hashlib.sha256(data).hexdigest()
    return Exported(path, described, opset, tuple(image), len(data), digest, difference)


def metadata(described: Description) -> dict[str, str]:
    """Return the file's metadata: architecture, sizes, outputs and preprocessing."""
    sizes = {f"facenet.{name}": str(size) for name, size in described.dims.items()}
    return sizes | {
        "facenet.architecture": described.name,
        "facenet.outputs": ",".join(described.outputs),
        "facenet.preprocessing": PREPROCESSING,
    }


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
            f"{described.name} does not support images of this size",
            expected=allowed,
            found=f"{height} by {width}",
        )
    return height, width


def _trials(
    described: Description, batch: int | None, size: tuple[int, int] | None
) -> list[tuple[int, int, int]]:
    """Return two inputs that differ in every free dimension."""
    smallest = described.smallest
    first = size or described.image or (smallest + 5, smallest + 24)
    second = size or described.image or (smallest + 37, smallest)
    return [(batch or 1, *first), (batch or 3, *second)]
