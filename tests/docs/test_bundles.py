"""docs/explanation/bundles.md: its code reads a checkpoint by hand."""

from __future__ import annotations

from pathlib import Path

from support.pages import run_page


def test_the_bundle_read_by_hand(tmp_path: Path) -> None:
    names = run_page("docs/explanation/bundles.md", tmp_path)
    assert names["kernel"].shape == (3, 3, 3, 32)  # type: ignore[attr-defined] # an array
