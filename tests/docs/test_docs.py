"""Every page of docs/ with code has a test, and its outputs are compared."""

from __future__ import annotations

import pytest
from support.pages import ROOT, blocks, outputs_follow_code

# Pages whose code a test runs, and where; a new page with code belongs here.
TESTED = {
    "docs/ci.md": "tests/parity_tests/test_plugin.py",
    "docs/convert.md": "tests/docs/test_convert.py",
    "docs/docker.md": "tests/test_dockerfile.py",
    "docs/explanation/bundles.md": "tests/docs/test_bundles.py",
    "docs/index.md": "tests/test_readme.py",  # the first commands of the README
    "docs/migrate.md": "tests/docs/test_migrate.py",
    "docs/models.md": "tests/docs/test_models.py",
    "docs/offline.md": "tests/docs/test_offline.py",
    "docs/parity-report.md": "tests/parity_tests/test_report.py",
    "docs/reference/converter.md": "tests/docs/test_tutorial.py",
    "docs/reference/parity_tests.md": "tests/docs/test_tutorial.py",
    "docs/release.md": "tests/docs/test_release.py",
    "docs/shell.md": "tests/docs/test_shell.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
}
# Pages whose tests run every block in order, and compare every output.
RUN_WHOLE = [
    "docs/explanation/bundles.md",
    "docs/offline.md",
    "docs/reference/converter.md",
    "docs/reference/parity_tests.md",
    "docs/shell.md",
    "docs/tutorial.md",
]


def test_every_page_with_code_is_tested() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {name for name in names if blocks(name)} == set(TESTED)


@pytest.mark.parametrize("test", sorted(set(TESTED.values())))
def test_the_tests_are_there(test: str) -> None:
    assert (ROOT / test).is_file()


@pytest.mark.parametrize("name", RUN_WHOLE)
def test_every_output_is_compared(name: str) -> None:
    assert outputs_follow_code(name)
