"""Versions and requirements of installed packages, from their metadata: nothing is imported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version

PACKAGE = "facenet-parity"


@dataclass(frozen=True)
class Requirement:
    """A package that this project needs, with bounds of its version such as ``>=2.1``."""

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
        from packaging.specifiers import SpecifierSet

        found = self.found
        return found is not None and SpecifierSet(self.bounds).contains(found, prereleases=True)


def version_of(name: str) -> str | None:
    """Return the installed version of a package, or None.

    Example:
        >>> version_of("no-such-package") is None
        True
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed, in the order of `names`.

    Example:
        >>> list(versions_of(["click", "no-such-package"]))
        ['click']
    """
    return {name: found for name in names if (found := version_of(name)) is not None}


def metadata() -> Distribution | None:
    """Return the installed metadata of this project, or None if pip did not install it."""
    try:
        return distribution(PACKAGE)
    except PackageNotFoundError:
        return None


def extras(own: Distribution) -> dict[str, tuple[Requirement, ...]]:
    """Return the requirements of each extra; those of ``""`` are needed without any extra.

    The build backend has replaced extras that name other extras. Requirements whose markers
    exclude this environment, such as an older Python, are left out.

    Args:
        own: The metadata of this project.
    """
    from packaging.requirements import Requirement as Parsed

    found: dict[str, list[Requirement]] = {"": []}
    found |= {extra: [] for extra in own.metadata.get_all("Provides-Extra") or []}
    for line in own.requires or []:
        parsed = Parsed(line)
        requirement = Requirement(parsed.name, str(parsed.specifier))
        marker = parsed.marker
        needed = [extra for extra in found if marker is None or marker.evaluate({"extra": extra})]
        for extra in [""] if "" in needed else needed:
            found[extra].append(requirement)
    return {extra: tuple(requirements) for extra, requirements in found.items()}
