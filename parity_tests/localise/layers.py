"""Find the layer at which two networks begin to differ.

Both networks run on the same images and are compared at every probe (cumulative). In addition each
module of the candidate runs on the reference's activations of the probe's parents (isolated). A
layer that fails isolated is a *source*. A layer that fails cumulatively only has *inherited* the
error if a source is among its ancestors; otherwise it shows *drift*: errors that are each within
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
1.4e-5 cumulative (block17_1). The tolerances are eight and fourteen times that, for other
processors. The smallest defect to be found, epsilon 1e-5 instead of 1e-3, changes an output by
about 5e-4 of itself."""

FLOAT64_TOLERANCES = Tolerances(isolated=1e-13, cumulative=2e-13)
"""For both networks in float64. Measured as above, all 167 probes: 1.0e-14 isolated (block8_5's
first convolution), 2.1e-14 cumulative (block17_1). One float32 ulp in one weight moves an output
by up to about 1e-9."""

BATCH = 48
"""Probes whose activations are in memory at once. All "blocks" fit, so that each network runs once:
32 images of 160x160 take about 0.35 GB."""

HINTS = 8
"""Sources for which a hint is sought: each takes up to some hundred runs of a layer. Where more
layers are wrong, the whole file is."""


@dataclass
class _Found:
    """The comparisons of one probe so far. `problem`: why there is no verdict."""

    cumulative: Comparison | None = None
    isolated: Comparison | None = None
    problem: str = ""
    hint: str = ""


@dataclass
class _Run:
    """A comparison on some images, with the reference's activations in memory."""

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
        """Fetch the reference's activations that `probes` need; release all others."""
        names = [name for probe in probes for name in (*probe.isolation.needs, probe.name)]
        tensors = list(dict.fromkeys(self.tensors[name] for name in names))
        self.held = {}
        values = dict(zip(tensors, self.reference.fetch(self.images, tensors), strict=True))
        self.held = {name: values[self.tensors[name]] for name in names}
        self.held[IMAGES] = self.images

    def activation(self, name: str, count: int | None = None) -> Any:
        """Return a reference activation, or the images, as a tensor of the first `count` images."""
        return to_torch(self.model, self.held[name][:count], self.layouts[name])


def localise(
    reference: Activations,
    candidate: CandidateRunner,
    feeds: Array,
    probes: Sequence[Probe],
    tolerances: Tolerances = TOLERANCES,
    batch: int = BATCH,
) -> tuple[ProbeResult, ...]:
    """Compare the two networks at each of `probes`: all results of `localised` in one tuple.

    Examples:
        >>> with reference.activations() as graph, candidate.runner() as runner:
        ...     results = localise(graph, runner, images, probes("inception_resnet_v1", "blocks"))
        >>> first_fault(results) is None
        True
    """
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
        feeds: Images in the original's layout, NHWC; at least one.
        probes: See `parity_tests.probes.probes`.
        tolerances: In units of each activation's root mean square.
        batch: Probes to compare at once; both networks run once for each batch.

    Raises:
        ParityError: A probe's tensor or module does not exist, there are no images, or TensorFlow
            fails on the graph.
    """
    if batch < 1:
        raise ParityError(f"batch must be at least 1, found {batch}")
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
    """Return the first layer that is a source of error, or that could not be judged."""
    return next((result for result in results if result.verdict in ("source", "errored")), None)


def _verdict(found: _Found, behind: bool) -> Verdict:
    """Return the verdict; `behind`: one of the probe's ancestors is wrong."""
    if found.problem:
        return "errored"
    if found.isolated is None or not found.isolated.passed:
        return "source"
    if found.cumulative is not None and found.cumulative.passed:
        return "same"
    return "inherited" if behind else "drift"


def _batch(run: _Run, probes: Sequence[Probe]) -> list[_Found]:
    """Compare at `probes`, all of whose activations fit in memory."""
    run.hold(probes)
    found = {probe.name: _Found() for probe in probes}
    for probe in probes:
        found[probe.name].problem = _unusable(run, probe)

    def record(probe: Probe, output: Any) -> None:
        expected = run.held[probe.name]
        array = from_torch(run.model, output, probe.layout, expected.dtype)
        tolerance = absolute(expected, run.tolerances.cumulative)
        found[probe.name].cumulative = compare_activations(expected, array, tolerance)

    raised = cumulative(run.model, run.activation(IMAGES), probes, record)
    for probe in probes:
        result = found[probe.name]
        if result.cumulative is None:
            absent = Comparison("missing", expected="an output", found=raised or "nothing")
            result.cumulative = absent
        if not result.problem:
            _compare_isolated(run, probe, result)
    return [found[probe.name] for probe in probes]


def _unusable(run: _Run, probe: Probe) -> str:
    """Return why the reference's activations can't be used for the probe; empty if they can."""
    for name in dict.fromkeys((*probe.isolation.needs, probe.name)):
        if not np.isfinite(run.held[name]).all():
            return f"the reference's own activation of {name} holds NaN or infinity"
    return ""


def _compare_isolated(run: _Run, probe: Probe, found: _Found) -> None:
    """Compare the module on the reference's input, and seek a hint if it differs."""
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
        found.hint = _explain(run, probe, array, raised, tolerance)
    if raised and (not found.hint or raised in found.hint):
        found.problem = found.hint or raised  # unexplained, so an error rather than a difference


def _explain(
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
