"""docs/tutorial.md: its code runs and prints what is shown, and the reference goes on from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.pages import run_page


@pytest.mark.tensorflow
def test_the_tutorial_and_the_reference_of_the_api(tmp_path: Path) -> None:
    """What the tutorial leaves behind is what the samples of the reference begin with."""
    names = run_page(
        "docs/tutorial.md", tmp_path, exits={"facenet verify reference.h5 broken.pt": 1}
    )
    assert tuple(names["embedding"].shape) == (1, 512)  # type: ignore[attr-defined] # a tensor
    assert (tmp_path / "report.html").is_file()
    assert run_page("docs/reference/converter.md", tmp_path)["receipt"]
    report = run_page("docs/reference/parity_tests.md", tmp_path)["report"]
    assert report.passed  # type: ignore[attr-defined] # a ParityReport
