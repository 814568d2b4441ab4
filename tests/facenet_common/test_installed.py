"""Requirements of extras, and versions within their bounds, read from metadata."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.installed import distribution

from facenet_common.installed import Requirement, extras, metadata


def test_markers(tmp_path: Path) -> None:
    own = distribution(
        tmp_path,
        "Provides-Extra: a",
        "Requires-Dist: old<2; (python_version < '3.0') and extra == 'a'",
        "Requires-Dist: new>=2; (python_version >= '3.10') and extra == 'a'",
        "Requires-Dist: other; sys_platform == 'no such system' and extra == 'a'",
        "Requires-Dist: all; sys_platform != 'no such system'",
    )
    assert extras(own) == {"": (Requirement("all", ""),), "a": (Requirement("new", ">=2"),)}


def test_the_extras_are_those_of_pyproject() -> None:
    own = metadata()
    assert own is not None, "the tests need facenet-parity installed"
    found = extras(own)
    assert {"numpy", "click"} <= {requirement.name for requirement in found[""]}
    assert {"torch", "filelock"} <= {requirement.name for requirement in found["torch"]}
    assert {"tensorflow", "torch"} <= {requirement.name for requirement in found["parity"]}
    names = {requirement.name for wanted in found.values() for requirement in wanted}
    assert "facenet-parity" not in names  # the build backend resolves extras of extras


@pytest.mark.parametrize(
    ("found", "bounds", "met"),
    [
        ("2.13.0+cpu", ">=2.1", True),
        ("2.9", ">=2.13", False),
        ("2.0.1", ">=2.1", False),
        ("2", ">=2.0", True),
        ("3.0", ">=2.1,<3", False),
        ("2.9.post0", ">=2.4", True),
        ("1.2.3", "==1.2.3", True),
        ("1.2.3", "!=1.2.3", False),
        ("1.3", "<=1.2", False),
        ("1.2", ">1.2", False),
        ("1.0", "", True),
        ("2.1.0rc1", ">=2.1", False),
        ("3.0.dev1", ">=2.1", True),
        ("a version from before PEP 440", ">=1", False),
    ],
)
def test_bounds(found: str, bounds: str, met: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facenet_common.installed.version_of", lambda _: found)
    assert Requirement("package", bounds).met is met
