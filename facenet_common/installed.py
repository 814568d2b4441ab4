"""Installed packages and their versions, from metadata alone: no package is imported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version

from packaging.requirements import Requirement as Line
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

PACKAGE = "facenet-parity"


@dataclass(frozen=True)
class Requirement:
    """A package that this one requires.

    Args:
        name: The package's name.
        bounds: The versions it may have, such as ``>=2.1``; empty for any.

    Examples:
        >>> requirement = Requirement("numpy", ">=1.24")
        >>> str(requirement), requirement.met
        ('numpy>=1.24', True)
    """

    name: str
    bounds: str

    def __str__(self) -> str:
        return self.name + self.bounds

    @property
    def found(self) -> str | None:
        """Return the installed version, or None."""
        return version_of(self.name)

    @property
    def met(self) -> bool:
        """Return whether a version within the bounds is installed."""
        found = self.found
        if found is None:
            return False
        try:
            return SpecifierSet(self.bounds).contains(found, prereleases=True)
        except InvalidVersion:  # a version from before PEP 440
            return False


def version_of(name: str) -> str | None:
    """Return the installed version of the package `name`, or None.

    Examples:
        >>> version_of("no-such-package")
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of the packages `names`, in their order, without absent ones.

    Examples:
        >>> list(versions_of(["numpy", "no-such-package"]))
        ['numpy']
    """
    return {name: found for name in names if (found := version_of(name)) is not None}


def metadata() -> Distribution | None:
    """Return this package's metadata, or None if it is run without being installed."""
    try:
        return distribution(PACKAGE)
    except PackageNotFoundError:
        return None


def extras(own: Distribution) -> dict[str, tuple[Requirement, ...]]:
    """Return the requirements of each extra of `own`, in the metadata's order.

    Those of the key ``""`` are required without an extra. Requirements whose environment marker
    excludes this Python or this system are left out. The build backend has already resolved extras
    that name other extras.
    """
    lines = [Line(line) for line in own.requires or []]
    names = own.metadata.get_all("Provides-Extra") or []
    return {
        extra: tuple(
            Requirement(line.name, str(line.specifier))
            for line in lines
            if _is_required(line, extra)
        )
        for extra in ["", *names]
    }


def _is_required(line: Line, extra: str) -> bool:
    """Return whether `extra` requires `line`; what is required anyway is not the extra's."""
    if line.marker is None:
        return not extra
    anyway = line.marker.evaluate({"extra": ""})
    return anyway if not extra else line.marker.evaluate({"extra": extra}) and not anyway
