"""Optional imports: the message for one that is missing, and errors of a broken one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from facenet_common.errors import MissingPackageError
from facenet_common.optional import PACKAGES, install, missing, require


def test_an_installed_module_is_returned() -> None:
    assert require("json.decoder", "this test") is sys.modules["json.decoder"]


@pytest.mark.parametrize("module", ["torch", "PIL.Image", "no_such_module"])
def test_the_message_for_a_missing_module_says_how_to_install_it(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    monkeypatch.delitem(sys.modules, module, raising=False) if "." in module else None
    with pytest.raises(MissingPackageError) as caught:
        require(module, "this test")
    assert str(caught.value).startswith("this test needs ")
    assert caught.value.next_step == install(module.partition(".")[0])
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    "error", ["ImportError('libcudart.so.12')", "ModuleNotFoundError('x', name='x')"]
)
def test_a_broken_module_raises_its_own_error(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text(f"raise {error}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as caught:
        require("broken_module", "this test")
    assert not isinstance(caught.value, MissingPackageError)


def test_missing_modules_are_listed_without_importing() -> None:
    assert missing(["json", "no_such_module"]) == ["no_such_module"]


def packages_of(extra: str) -> set[str]:
    """Return the packages of an extra of pyproject.toml, and of the extras that it names."""
    tomllib = pytest.importorskip("tomllib", reason="new in Python 3.11")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    for line in map(Requirement, project["optional-dependencies"][extra]):
        if line.name == project["name"]:
            found |= set().union(*map(packages_of, line.extras))
        else:
            found.add(canonicalize_name(line.name))
    return found


@pytest.mark.parametrize("module", PACKAGES)
def test_the_named_extra_has_the_package(module: str) -> None:
    package, extra = PACKAGES[module]
    assert canonicalize_name(Requirement(package).name) in packages_of(extra)
