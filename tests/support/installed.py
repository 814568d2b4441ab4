"""Metadata of a package that is not installed."""

from __future__ import annotations

from importlib.metadata import Distribution, PathDistribution
from pathlib import Path


def distribution(folder: Path, *lines: str) -> Distribution:
    """Write metadata with `lines` to `folder`, and read it."""
    folder = folder / "facenet_parity-1.dist-info"
    folder.mkdir()
    head = ["Metadata-Version: 2.4", "Name: facenet-parity", "Version: 1"]
    (folder / "METADATA").write_text("\n".join([*head, *lines]) + "\n")
    return PathDistribution(folder)
