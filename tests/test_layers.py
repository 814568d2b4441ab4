"""Imports point down, form no circle, and optional dependencies stay optional."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.absent import run_without

from facenet_common.optional import PACKAGES as OPTIONAL

ROOT = Path(__file__).parents[1]
# Each package, and those below it that it may import.
BELOW = {
    "facenet_common": set[str](),
    "converter": {"facenet_common"},
    "facenet_models": {"facenet_common"},
    "parity_tests": {"facenet_common", "converter", "facenet_models"},
    "facenet_release": {"facenet_common", "converter", "facenet_models", "parity_tests"},
}
FRAMEWORKS = {"tensorflow", "tf_slim", "torch"}


class Module:
    """A module's imports: ``at_import`` while it is imported, ``in_functions`` later."""

    def __init__(self, path: Path) -> None:
        relative = path.relative_to(ROOT).with_suffix("")
        parts = relative.parts[:-1] if path.name == "__init__.py" else relative.parts
        self.name = ".".join(parts)
        self.at_import: set[str] = set()
        self.in_functions: set[str] = set()
        self._walk(ast.parse(path.read_text(encoding="utf-8")), self.at_import)

    @property
    def imports(self) -> set[str]:
        return self.at_import | self.in_functions

    def _walk(self, node: ast.AST, found: set[str]) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                self._walk(child, found)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found = self.in_functions
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{self.name}: relative import"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names}
        for child in ast.iter_child_nodes(node):
            self._walk(child, found)


MODULES = {
    module.name: module
    for package in BELOW
    for path in sorted((ROOT / package).rglob("*.py"))
    if (module := Module(path))
}


def resolved(names: set[str], importer: str) -> Iterator[str]:
    """Yield our modules among imported names; of ``package.module.attribute`` the module.

    The ``__init__`` of the package that holds an imported module is left out: it may import its
    own modules.
    """
    for name in names:
        module = name if name in MODULES else name.rpartition(".")[0]
        if module in MODULES and module != importer:
            yield module


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle of imports; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_package_has_its_place() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(BELOW)


@pytest.mark.parametrize("package", BELOW)
def test_imports_point_down(package: str) -> None:
    allowed = BELOW[package] | {package}
    for name, module in MODULES.items():
        if name.partition(".")[0] == package:
            packages = {imported.partition(".")[0] for imported in module.imports}
            assert not (packages & set(BELOW)) - allowed, name


def test_no_circle_at_import() -> None:
    graph = {name: set(resolved(module.at_import, name)) for name, module in MODULES.items()}
    assert cycle(graph) == []


def test_no_circle_through_functions() -> None:
    graph = {name: set(resolved(module.imports, name)) for name, module in MODULES.items()}
    assert cycle(graph) == []


def test_a_circle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not cycle({"a": {"b", "c"}, "b": {"c"}})


@pytest.mark.parametrize("package", ["converter", "facenet_common"])
def test_no_framework_is_imported_anywhere(package: str) -> None:
    for name, module in MODULES.items():
        if name.partition(".")[0] == package:
            assert not {imported.partition(".")[0] for imported in module.imports} & FRAMEWORKS, (
                name
            )


@pytest.mark.parametrize("package", BELOW)
def test_packages_start_without_optional_dependencies(package: str) -> None:
    done = run_without({*OPTIONAL, "tf_slim"}, f"import {package}")
    assert done.returncode == 0, done.stderr


def test_the_converter_and_the_common_modules_need_no_optional_dependency() -> None:
    modules = [name for name in MODULES if name.startswith(("converter", "facenet_common"))]
    done = run_without({*OPTIONAL, "tf_slim"}, "\n".join(f"import {name}" for name in modules))
    assert done.returncode == 0, done.stderr


def test_help_needs_no_numpy() -> None:
    code = """
        import sys
        from click.testing import CliRunner
        from converter.cli.convert import command
        result = CliRunner().invoke(command, ["--help"])
        assert result.exit_code == 0 and "Examples" in result.output, result.output
        assert "rich" not in sys.modules
    """
    done = run_without({"numpy", *OPTIONAL}, code)
    assert done.returncode == 0, done.stderr


def test_absent_modules_can_not_be_imported() -> None:
    done = run_without(FRAMEWORKS, "import tensorflow")
    assert done.returncode != 0
    assert "None in sys.modules" in done.stderr  # blocked, not only absent here
