"""docs/offline.md: its commands run without network, and the others name the right extras."""

from __future__ import annotations

import json
from pathlib import Path

from support.pages import blocks, shell


def test_offline(stand_in_weights: Path, reference_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to(stand_in_weights)
    (tmp_path / "multiface.jpg").symlink_to(reference_dir / "images" / "multiface.jpg")
    weights, *install = [block for block in blocks("docs/offline.md") if block.language == "sh"]
    shell(weights.text, tmp_path)
    assert json.loads((tmp_path / "faces.json").read_text())
    for block in install:  # they install from a registry, or from what they have fetched
        assert block.text.startswith("pip ")
        assert '[parity]"' in block.text
