"""What is installed, read from metadata alone: nothing is imported to find out its version."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version

PACKAGE = "facenet-parity"

_REQUIREMENT = re.compile(r"\s*(?P<name>[\w.-]+)\s*(?P<bounds>[^;]*?)\s*(?:;(?P<marker>.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w.-]+)['\"]")
_PYTHON = re.compile(r"python_version\s*(<=|>=|==|!=|<|>)\s*['\"]([\d.]+)['\"]")
_BOUND = re.compile(r"(<=|>=|==|!=|<|>)\s*([\d.]+)")


@dataclass(frozen=True)
class Requirement:
    """One line of the package's ``Requires-Dist``; `bounds` as written, such as ``>=2.1``."""

    name: str
    bounds: str

    def __str__(self) -> str:
        return self.name + self.bounds

    @property
    def found(self) -> str | None:
        """The version that is installed, or None."""
        return version_of(self.name)

    @property
    def met(self) -> bool:
        """Whether a version within the bounds is installed."""
        found = self.found
        return found is not None and _within(found, self.bounds)


def version_of(name: str) -> str | None:
    """The version of the package `name` that is installed, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The versions of the packages `names`, in their order, without those that are absent."""
    return {name: found for name in names if (found := version_of(name)) is not None}


def metadata() -> Distribution | None:
    """What pip wrote down about this package; None where it is run without being installed."""
    try:
        return distribution(PACKAGE)
    except PackageNotFoundError:
        return None


def extras(own: Distribution) -> dict[str, tuple[Requirement, ...]]:
    """What each extra of `own` asks for, in its metadata's order; ``""`` is what all need.

    The build backend has resolved extras that name other extras. Of environment markers only
    ``python_version`` is judged; a line with any other counts as asked for.
    """
    found: dict[str, list[Requirement]] = {"": []}
    found |= {extra: [] for extra in own.metadata.get_all("Provides-Extra") or []}
    for line in own.requires or []:
        match = _REQUIREMENT.fullmatch(line)
        marker = (match and match["marker"]) or ""
        if match is None or not _asked_for(marker):
            continue
        for extra in _EXTRA.findall(marker) or [""]:
            found.setdefault(extra, []).append(Requirement(match["name"], match["bounds"].strip()))
    return {extra: tuple(requirements) for extra, requirements in found.items()}


def _asked_for(marker: str) -> bool:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return all(_within(python, op + bound) for op, bound in _PYTHON.findall(marker))


def _within(found: str, bounds: str) -> bool:
    """Whether the release number `found` lies within `bounds`, such as ``>=2.1,<3``.

    Only the numbers before any ``rc``, ``.post`` or ``+local`` are compared.
    """
    have = _release(found)
    for op, bound in _BOUND.findall(bounds):
        want = _release(bound)
        verdict = {
            ">=": have >= want,
            "<=": have <= want,
            ">": have > want,
            "<": have < want,
            "==": have == want,
            "!=": have != want,
        }[op]
        if not verdict:
            return False
    return True


def _release(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", text)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:  # 2.0 is 2
        numbers.pop()
    return tuple(numbers)
