"""Where two networks are compared on the way from image to answer.

The tables are part of each network's record in `converter.architectures`; here they are chosen and
held against a graph and a torch network. A table lists parents before what is computed from them.
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
        ParityError: There is no such table.
    """
    known = ARCHITECTURES.get(architecture)
    if known is None or which not in ("blocks", "all"):
        raise ParityError(f"there are no probes {which!r} for the architecture {architecture!r}")
    return known.blocks if which == "blocks" else known.layers


def images_layout(architecture: str) -> Layout:
    """Return the axes of the images that the original is fed."""
    return ARCHITECTURES[architecture].image_layout


def require_tensors(table: Sequence[Probe], tensors: Collection[str]) -> tuple[Probe, ...]:
    """The table, with each tensor under the name that the graph has for it.

    Args:
        table: Of any length.
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
    """The table, with each tensor under the name that the graph has for it.

    Args:
        table: Parents first.
        tensors: As `require_tensors` takes them.
        modules: Paths of the network's modules, ``""`` for itself.

    Raises:
        ParityError: A tensor, module or parent isn't there, or a name is taken twice: all problems
            in one message.
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
                problems.append(f"{probe.name}: its parent {parent!r} is no probe before it")
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
