"""Small files, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from converter.writers.atomic import atomic_file, output_error


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`, replacing what is there. Raises OutputError."""
    with atomic_file(path) as partial:
        try:
            partial.write_bytes(data)
        except OSError as error:
            raise output_error(path, error) from error
