"""Run the examples in docstrings; demand a docstring of every public function and property."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("facenet_common", "converter", "facenet_models")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
]
# Openings of a docstring that name a thing where a verb belongs.
NOUN_OPENINGS = ("What ", "Whether ", "The ", "How ", "Where ", "Why ", "Every ", "All ", "Names ")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=options).failed == 0


def functions(name: str) -> list[tuple[str, str | None, bool]]:
    """Return the public functions of a module: name, docstring, and whether it is a property."""
    tree = ast.parse(inspect.getsource(importlib.import_module(name)))
    found = []
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = node.name if isinstance(node, ast.ClassDef) else ""
        if owner.startswith("_") or (owner and "Protocol" in ast.unparse(node).partition("\n")[0]):
            continue
        found += [
            (f"{owner}.{member.name}".strip("."), ast.get_docstring(member), _is_property(member))
            for member in members
            if isinstance(member, ast.FunctionDef)
            and not member.name.startswith("_")
            and not _is_setter(member)  # the property has the docstring
        ]
    return found


def _is_setter(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(item).endswith(".setter") for item in function.decorator_list)


def _is_property(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(item).endswith("property") for item in function.decorator_list)


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_say_what_they_do(name: str) -> None:
    for function, docstring, is_property in functions(name):
        assert docstring, f"{name}.{function} has no docstring"
        is_noun = docstring.startswith(NOUN_OPENINGS)
        assert is_property or not is_noun, f"{name}.{function}: {docstring[:60]}"
