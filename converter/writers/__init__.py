"""Writers of weight files: one module for each format, all with the same function ``write``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from converter.catalog import Naming, TensorRef
from converter.writers import bundle, safetensors, torch_zip
from converter.writers.stream import OnWritten
from facenet_common.errors import UsageError


class Writer(Protocol):
    """The interface of a writer's module. `SUFFIXES` is empty for a format that is a folder."""

    FORMAT: str
    NAMING: Naming
    SUFFIXES: tuple[str, ...]

    def write(self, path: Path, tensors: Sequence[TensorRef], on_written: OnWritten) -> None: ...


WRITERS: tuple[Writer, ...] = (torch_zip, safetensors, bundle)  # type: ignore[assignment] # module constants are str, not Literal


def writer_for(out: str) -> Writer:
    """Return the writer for the output `out`, by its suffix. A folder is a TensorFlow checkpoint.

    Raises:
        UsageError: No format has this suffix.

    Examples:
        >>> writer_for("faces.safetensors").FORMAT, writer_for("faces/").FORMAT
        ('safetensors', 'tensorflow-bundle')
    """
    path = Path(out)
    for writer in WRITERS:
        if path.suffix.lower() in writer.SUFFIXES:
            return writer
    if out.endswith(("/", "\\")) or path.is_dir() or not path.suffix:
        return bundle  # type: ignore[return-value] # as above
    raise UsageError(
        "no output format has this suffix",
        file=out,
        expected=".pt, .pth or .safetensors; or a folder (FOLDER/) for a TensorFlow checkpoint",
        found=path.suffix,
    )


__all__ = ["WRITERS", "Writer", "writer_for"]
