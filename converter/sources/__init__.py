"""Where weights come from: one module per format, each with the same two verbs.

``recognises(path) -> bool`` looks at a name or the first bytes; ``open(path) -> Catalog`` reads
metadata only. Neither TensorFlow nor torch is imported. Adding a format adds a module and a line
in `FORMATS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from converter.catalog import Catalog, Naming
from converter.sources import mtcnn_npy, safetensors
from converter.sources.mapped_file import MappedFile
from converter.sources.pytorch import legacy as torch_legacy
from converter.sources.pytorch import zip_archive as torch_zip
from converter.sources.tensorflow import bundle, frozen_graph
from facenet_common.errors import FormatError, UsageError


class Format(Protocol):
    """What a format module offers."""

    FORMAT: str
    NAMING: Naming

    def recognises(self, path: Path) -> bool: ...

    def open(self, path: Path) -> Catalog: ...


FORMATS: tuple[Format, ...] = (
    bundle,
    frozen_graph,
    mtcnn_npy,
    torch_zip,
    torch_legacy,
    safetensors,
)


def open_source(path: str | Path) -> Catalog:
    """The tensors of `path`: a bundle's prefix, or a file of any known format.

    For names, folders and steps see `converter.resolve`. Raises UsageError where nothing is
    there, FormatError where it is no format this program knows or is damaged.
    """
    path = Path(path)
    try:
        for module in FORMATS:
            if module.recognises(path):
                return module.open(path)
        there = path.is_file()
    except OSError as error:
        raise UsageError("can't read the file", file=path, found=error.strerror) from error
    if not there:
        raise UsageError(
            "there is no such file",
            file=path,
            next_step="check the path; a checkpoint is named by its folder or its prefix",
        )
    raise MappedFile(path).foreign("a weight file of a known format")


__all__ = ["FORMATS", "Format", "FormatError", "open_source"]
