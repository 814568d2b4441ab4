"""The check of releases is independent of their build: no import leads from one to the other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import facenet_release

PACKAGE = "facenet_release"
ROOT = Path(facenet_release.__file__).parent
# The modules of facenet_release that each folder may import, besides its own.
ALLOWED = {
    "documents": {"errors"},
    "checking": {"errors", "documents", "signing"},
    "building": {"errors", "documents", "checking"},
}


def imports(path: Path) -> Iterator[str]:
    """Yield the names that a module imports from the package, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}."))


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_each_folder_imports_only_what_it_may(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert modules
    found = {path.name: set(imports(path)) - ALLOWED[folder] - {folder} for path in modules}
    assert {name: names for name, names in found.items() if names} == {}


def test_an_import_of_the_builder_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from facenet_release.building import inputs\n")
    assert list(imports(path)) == ["building"]
