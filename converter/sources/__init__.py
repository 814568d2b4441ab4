"""Readers of weight files: one module for each format, all with the same two functions.

``recognises(path) -> bool`` checks a name or the first bytes; ``open(path) -> Catalog`` reads
metadata only. Neither TensorFlow nor torch is imported. To add a format, add a module and a line in
`FORMATS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from converter.catalog import Catalog, Naming
from converter.sandberg import described
from converter.sources import archive, mtcnn_npy, safetensors
from converter.sources.keras import archive as keras_archive
from converter.sources.keras import h5 as keras_h5
from converter.sources.mapped_file import MappedFile
from converter.sources.pytorch import legacy as torch_legacy
from converter.sources.pytorch import zip_archive as torch_zip
from converter.sources.tensorflow import bundle, frozen_graph, saved_model, saver_v1
from facenet_common.errors import FormatError, UsageError


class Format(Protocol):
    """The interface of a format's module: its name, the names it uses, and two functions."""

    FORMAT: str
    NAMING: Naming

    def recognises(self, path: Path) -> bool: ...

    def open(self, path: Path) -> Catalog: ...


FORMATS: tuple[Format, ...] = (
    bundle,
    saver_v1,
    saved_model,
    frozen_graph,
    mtcnn_npy,
    keras_h5,
    keras_archive,
    torch_zip,
    torch_legacy,
    safetensors,
)


def open_source(path: str | Path) -> Catalog:
    """Open a weight file of any known format. Read its metadata only.

    Args:
        path: A file, or the prefix of a TensorFlow checkpoint. `converter.resolve` finds these for
            names, folders and steps.

    Returns:
        The tensors; each is read, and its checksum verified, when it is loaded.

    Raises:
        UsageError: There is no such file, or it can't be read.
        FormatError: The file is damaged, or its format is unknown.

    Examples:
        >>> from tempfile import mkdtemp
        >>> from converter.demo import write_demo
        >>> folder = Path(mkdtemp(), "faces")
        >>> write_demo(folder, embedding=4, classes=0)
        >>> catalog = open_source(folder / "model.ckpt")
        >>> catalog["InceptionResnetV1/Conv2d_1a_3x3/weights"].load().shape
        (3, 3, 3, 32)
    """
    path = Path(path)
    try:
        for module in FORMATS:
            if module.recognises(path):
                return described(module.open(path))
        exists = archive.is_file(path)
    except OSError as error:
        raise UsageError("can't read the file", file=path, found=error.strerror) from error
    if not exists:
        raise UsageError(
            "there is no such file",
            file=path,
            next_step="check the path; a checkpoint is named by its folder or its prefix",
        )
    raise MappedFile(path).wrong_format("a weight file of a known format")


__all__ = ["FORMATS", "Format", "FormatError", "open_source"]
