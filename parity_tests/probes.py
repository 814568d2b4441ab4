"""The probes: the layers at which two networks are compared.

Their tables are part of each network's record in `converter.architectures`. The functions here
choose a table and check it against a graph and a torch network. Tables list parents first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from converter.architectures import ARCHITECTURES
from converter.architectures.record import IMAGES, PASS, Axes, Isolation, Probe
from facenet_common.errors import ParityError

__all__ = [
    "FROM_TORCH",
    "IMAGES",
    "PASS",
    "TO_TORCH",
    "Isolation",
    "Layout",
    "Probe",
    "Which",
    "images_layout",
    "probes",
    "require_complete",
    "require_tensors",
]

Layout = Axes
Which = Literal["blocks", "all"]

# Permutations of the four axes of images and feature maps; torch's are NCHW. MTCNN's kernels are
# transposed on conversion, so that the torch network takes upright images where the original takes
# them with height and width exchanged.
TO_TORCH: Mapping[Layout, tuple[int, ...]] = {"NHWC": (0, 3, 1, 2), "NWHC": (0, 3, 2, 1)}
FROM_TORCH: Mapping[Layout, tuple[int, ...]] = {"NHWC": (0, 2, 3, 1), "NWHC": (0, 3, 2, 1)}


def probes(architecture: str, which: Which = "blocks") -> tuple[Probe, ...]:
    """Return the table of `architecture`: "blocks", or "all" with every layer of the blocks too.

    A network without blocks, such as P-, R- and O-Net, has one table for both.

    Raises:
        ParityError: The architecture or the table is unknown.

    Examples:
        >>> [probe.name for probe in probes("pnet")][:3]
        ['conv1', 'PReLU1', 'pool1']
    """
    known = ARCHITECTURES.get(architecture)
    if known is None or which not in ("blocks", "all"):
        raise ParityError(f"there are no probes {which!r} for the architecture {architecture!r}")
    return known.blocks if which == "blocks" else known.layers


def images_layout(architecture: str) -> Layout:
    """Return the axes of the images that the original takes."""
    return ARCHITECTURES[architecture].image_layout


def require_tensors(table: Sequence[Probe], tensors: Collection[str]) -> tuple[Probe, ...]:
    """Return the table with the graph's own name of each tensor.

    Args:
        table: Probes.
        tensors: Names of the graph's operations or tensors; ``NAME`` and ``NAME:0`` are the same.

    Raises:
        ParityError: The graph lacks a tensor; all of them are in the message.
    """
    found = [(probe, _tensor_of(probe, tensors)) for probe in table]
    problems = [_lacks(probe) for probe, tensor in found if tensor is None]
    _refuse(problems)
    return tuple(replace(probe, tensor=tensor or "") for probe, tensor in found)


def require_complete(
    table: Sequence[Probe], tensors: Collection[str], modules: Collection[str]
) -> tuple[Probe, ...]:
    """Return the table as `require_tensors` does, after checking its modules and parents too.

    Args:
        table: Probes, parents first.
        tensors: As for `require_tensors`.
        modules: Paths of the network's modules, ``""`` for the network itself.

    Raises:
        ParityError: A tensor, module or parent is missing, or a name occurs twice; the message has
            all problems.
    """
    problems: list[str] = []
    found: list[Probe] = []
    seen: set[str] = set()
    for probe in table:
        tensor = _tensor_of(probe, tensors)
        if tensor is None:
            problems.append(_lacks(probe))
        stubs = (path for path, _ in probe.isolation.stubs)
        for path in dict.fromkeys((probe.module, *probe.isolation.entry, *stubs)):
            if path not in modules:
                problems.append(f"{probe.name}: the network has no module {path!r}")
        for parent in dict.fromkeys((*probe.parents, *probe.isolation.needs)):
            if parent not in seen:
                problems.append(f"{probe.name}: no probe before it is its parent {parent!r}")
        if probe.name in seen:
            problems.append(f"{probe.name}: there are two probes of that name")
        seen.add(probe.name)
        found.append(replace(probe, tensor=tensor or probe.tensor))
    if not table:
        problems.append("there are no probes")
    _refuse(problems)
    return tuple(found)


def _tensor_of(probe: Probe, tensors: Collection[str]) -> str | None:
    for name in (probe.tensor, *probe.also):
        if name in tensors or name.partition(":")[0] in tensors:
            return name
    return None


def _lacks(probe: Probe) -> str:
    return f"{probe.name}: the graph has no tensor {probe.tensor!r}"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ParityError(f"the probes do not fit, nothing was compared: {'; '.join(problems)}")
