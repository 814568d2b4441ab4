"""Finds the layer at which two networks part, and what about it is wrong.

Both networks get the same images and are compared at every probe (cumulative); and each module of
the candidate gets the reference's activations of the probe's parents (isolated). A layer that
fails alone is a *source*. One that fails behind a source, and passes alone, has *inherited* the
error. One that fails behind nothing, and passes alone, shows *drift*: errors that are each within
the tolerance add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from facenet_common.errors import ParityError
from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.localise.compare import Tolerances, absolute, compare_activations
from parity_tests.localise.hints import Suspect, hint
from parity_tests.localise.modules import cumulative, from_torch, isolated, to_torch
from parity_tests.model import Comparison, ProbeResult, Tolerance, Verdict
from parity_tests.probes import IMAGES, Layout, Probe, images_layout, require_complete
from parity_tests.reference.protocol import Activations

Array = npt.NDArray[Any]

TOLERANCES = Tolerances(isolated=1e-4, cumulative=2e-4)
"""Measured with right weights on InceptionResnetV1, TensorFlow 2.21 against torch on a CPU, weights
of `golden_weights.fill` and of `converter.demo`, 1 to 32 noise images, a black one: the worst
element of the worst probe is 1.2e-5 of its activation's root mean square away isolated (Mixed_6a),
1.4e-5 cumulative (block17_1). Eight and fourteen times that leave room for other processors. The
least defect looked for, epsilon 1e-5 for 1e-3, moves an output by about 5e-4 of itself."""

FLOAT64_TOLERANCES = Tolerances(isolated=1e-13, cumulative=2e-13)
"""For both networks in float64. Measured as above, all 167 probes: 1.0e-14 isolated (block8_5's
first convolution), 2.1e-14 cumulative (block17_1). One float32 ulp in one weight moves an output
by up to about 1e-9."""

BATCH = 48
"""Probes whose activations are held at once. All "blocks" fit, so that each network runs once: for
32 images of 160x160 that is about 0.35 GB of activations."""

HINTS = 8
"""Sources that are looked into. Each takes up to some hundred runs of a layer; where more than
these are wrong, the whole file is."""


@dataclass
class _Found:
    """What is known of a probe so far. `problem`: why there is no verdict on it."""

    cumulative: Comparison | None = None
    isolated: Comparison | None = None
    problem: str = ""
    hint: str = ""


@dataclass
class _Run:
    """A run on some images, and what it has learned."""

    reference: Activations
    model: Any
    images: Array
    layout: Layout
    table: Sequence[Probe]
    tolerances: Tolerances
    hints: int = HINTS
    held: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layouts: dict[str, Layout] = {probe.name: probe.layout for probe in self.table}
        self.layouts[IMAGES] = self.layout
        self.tensors = {probe.name: probe.tensor for probe in self.table}

    def hold(self, probes: Sequence[Probe]) -> None:
        """Fetch the reference's activations of `probes` and of what they need; drop all others."""
        names = [name for probe in probes for name in (*probe.isolation.needs, probe.name)]
        tensors = list(dict.fromkeys(self.tensors[name] for name in names))
        self.held = {}
        values = dict(zip(tensors, self.reference.fetch(self.images, tensors), strict=True))
        self.held = {name: values[self.tensors[name]] for name in names}
        self.held[IMAGES] = self.images

    def activation(self, name: str, count: int | None = None) -> Any:
        """The reference's activation, or the images, for torch; of the first `count` images."""
        return to_torch(self.model, self.held[name][:count], self.layouts[name])


def localise(
    reference: Activations,
    candidate: CandidateRunner,
    feeds: Array,
    probes: Sequence[Probe],
    tolerances: Tolerances = TOLERANCES,
    batch: int = BATCH,
) -> tuple[ProbeResult, ...]:
    """All of `localised`."""
    return tuple(localised(reference, candidate, feeds, probes, tolerances, batch))


def localised(
    reference: Activations,
    candidate: CandidateRunner,
    feeds: Array,
    probes: Sequence[Probe],
    tolerances: Tolerances = TOLERANCES,
    batch: int = BATCH,
) -> Iterator[ProbeResult]:
    """Compare the two networks at each of `probes`, in their order.

    Args:
        reference: Entered.
        candidate: Entered.
        feeds: Images as the original is fed, NHWC; at least one.
        probes: See `parity_tests.probes.probes`.
        tolerances: In units of each activation's root mean square.
        batch: Probes to hold in memory at once; each batch runs both networks once more.

    Raises:
        ParityError: A probe's tensor or module does not exist, there are no images, or TensorFlow
            fails on the graph.
    """
    if batch < 1:
        raise ParityError(f"a batch holds 1 probe or more, not {batch}")
    if not len(feeds):
        raise ParityError("there are no images to localise with")
    model = candidate.model
    if model is None:
        raise ParityError("the candidate has not been entered")
    modules = {path for path, _ in model.named_modules()}
    table = require_complete(probes, reference.tensors, modules)
    layout = images_layout(candidate.architecture)
    run = _Run(reference, model, feeds, layout, table, tolerances)
    tainted: set[str] = set()
    for start in range(0, len(table), batch):
        part = table[start : start + batch]
        for probe, found in zip(part, _batch(run, part), strict=True):
            behind = not tainted.isdisjoint(probe.parents)
            verdict = _verdict(found, behind)
            if verdict in ("source", "errored") or (behind and verdict != "same"):
                tainted.add(probe.name)
            text = found.hint or (found.problem if verdict == "errored" else "")
            yield ProbeResult(
                probe.name, probe.parents, verdict, found.cumulative, found.isolated, text
            )


def first_fault(results: Sequence[ProbeResult]) -> ProbeResult | None:
    """The first layer that is wrong by itself, or that could not be judged."""
    return next((result for result in results if result.verdict in ("source", "errored")), None)


def _verdict(found: _Found, behind: bool) -> Verdict:
    """What the comparisons say; `behind`: one of its parents is wrong, or follows one that is."""
    if found.problem:
        return "errored"
    if found.isolated is None or not found.isolated.passed:
        return "source"
    if found.cumulative is not None and found.cumulative.passed:
        return "same"
    return "inherited" if behind else "drift"


def _batch(run: _Run, probes: Sequence[Probe]) -> list[_Found]:
    """Compare at `probes`, whose activations fit in memory."""
    run.hold(probes)
    found = {probe.name: _Found() for probe in probes}
    for probe in probes:
        found[probe.name].problem = _unusable(run, probe)

    def see(probe: Probe, output: Any) -> None:
        expected = run.held[probe.name]
        array = from_torch(run.model, output, probe.layout, expected.dtype)
        tolerance = absolute(expected, run.tolerances.cumulative)
        found[probe.name].cumulative = compare_activations(expected, array, tolerance)

    raised = cumulative(run.model, run.activation(IMAGES), probes, see)
    for probe in probes:
        here = found[probe.name]
        if here.cumulative is None:
            here.cumulative = Comparison("missing", expected="an output", found=raised or "nothing")
        if not here.problem:
            _alone(run, probe, here)
    return [found[probe.name] for probe in probes]


def _unusable(run: _Run, probe: Probe) -> str:
    """Why the reference's own activations can't be compared with, if they can't."""
    for name in dict.fromkeys((*probe.isolation.needs, probe.name)):
        if not np.isfinite(run.held[name]).all():
            return f"the reference's own activation of {name} holds NaN or infinity"
    return ""


def _alone(run: _Run, probe: Probe, found: _Found) -> None:
    """Compare the module alone, and look into it if it fails."""
    expected = run.held[probe.name]
    tolerance = absolute(expected, run.tolerances.isolated)
    output, raised = isolated(run.model, probe, run.activation)
    array = None
    if output is not None:
        array = from_torch(run.model, output, probe.layout, expected.dtype)
    found.isolated = compare_activations(expected, array, tolerance)
    if found.isolated.passed:
        return
    if run.hints:
        run.hints -= 1
        found.hint = _look_into(run, probe, array, raised, tolerance)
    if raised and (not found.hint or raised in found.hint):
        found.problem = found.hint or raised  # no guess explains it: not a difference, an error


def _look_into(
    run: _Run, probe: Probe, array: Array | None, raised: str, tolerance: Tolerance
) -> str:
    expected = run.held[probe.name][:1]
    cached: dict[str, Any] = {}

    def activation(name: str) -> Any:
        if name not in cached:
            cached[name] = run.activation(name, 1)
        return cached[name]

    def again() -> Array | None:
        output, _ = isolated(run.model, probe, activation)
        if output is None:
            return None
        return from_torch(run.model, output, probe.layout, expected.dtype)

    first = None if array is None else array[:1]
    return hint(Suspect(run.model, probe, expected, first, raised, tolerance, again))
