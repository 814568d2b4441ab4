"""A reference and a candidate in, a verdict out: `facenet verify`.

Sources are resolved and read by the converter. The reference runs in TensorFlow, or was recorded;
the candidate runs in PyTorch or onnxruntime; the gates judge what they answer.
"""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from converter import __version__
from converter.architectures import ARCHITECTURES
from facenet_common.errors import ParityError, UsageError
from facenet_common.progress import Progress
from parity_tests.batches import Batches, is_out_of_memory
from parity_tests.candidate.precision import answer_type
from parity_tests.candidate.torch_runner import CandidateRunner, require_device
from parity_tests.feeds import Feed, describe
from parity_tests.frameworks import torch
from parity_tests.gates import (
    errored,
    float32_gate,
    float64_gate,
    l2,
    skipped,
    task_gate,
)
from parity_tests.localise.layers import FLOAT64_TOLERANCES, TOLERANCES, first_fault, localised
from parity_tests.model import GateResult, ParityReport, ProbeResult
from parity_tests.open_sides import (
    Candidate,
    FeedOptions,
    open_candidate,
    open_reference,
    require_same_network,
    require_unrounded,
)
from parity_tests.probes import probes
from parity_tests.reference.protocol import Reference
from parity_tests.rounding import rounding_scale

Array = npt.NDArray[Any]
NOT_WEIGHTS = "an ONNX file may hold its weights folded and renamed"
NOT_FLOAT64 = "an ONNX file computes in the types that it was exported with"


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        feeds: What to feed.
        batch: Images that a network gets at a time.
        step: Of a checkpoint folder.
        probes: Where the two are compared on the way.
        device, dtype, compile: How the candidate runs, see `CandidateRunner`. The float64 gate and
            the layers run on a CPU, uncompiled, whatever these say.
    """

    feeds: FeedOptions = field(default_factory=FeedOptions)
    batch: int = 32
    step: int | None = None
    probes: Literal["none", "blocks", "all"] = "blocks"
    device: str = "cpu"
    dtype: str = "float32"
    compile: bool = False


def verify(
    reference: str,
    candidate: str,
    options: Options | None = None,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare `candidate` with `reference` through every gate.

    Raises FacenetError where no verdict can be reached. Interrupted, it returns what was found
    until then, marked partial.
    """
    options = options or Options()
    one = open_reference(reference, options.feeds, options.step)
    two = open_candidate(candidate, one.architecture)
    require_same_network(one, two)
    require_unrounded(one, two)
    if two.weights is None and (options.compile or (options.device, options.dtype) != _DEFAULTS):
        raise UsageError(
            "an ONNX file runs as it is: --device, --dtype and --compile are for weights",
            file=two.path,
        )
    if options.device != Options.device:
        require_device(options.device)
    if options.probes == "all" and one.probes != "all":
        raise UsageError(
            "the recorded reference lacks the activations of every convolution",
            file=one.name,
            next_step="leave --probes out, or record them: facenet capture --probes all",
        )
    report = ParityReport(
        reference=one.name,
        candidate=str(two.path),
        architecture=two.architecture,
        dims=two.dims,
        gates=(),
        environment={
            "facenet-parity": __version__,
            "Python": platform.python_version(),
            "NumPy": np.__version__,
        },
        command=_command(reference, candidate, options),
    )
    run = _Run(one, two, options, Batches(options.batch, progress or Progress()))
    for step in (run.weights, run.float64, run.float32, run.layers):
        try:
            report = step(report)
        except KeyboardInterrupt:
            report = replace(report, partial=True)
        report = replace(report, notes=tuple(run.batches.notes))
        if report.partial:
            break
    return report


_DEFAULTS = (Options.device, Options.dtype)


def _command(reference: str, candidate: str, options: Options) -> str:
    """How to run it again: all that is not as it would be anyway."""
    feeds, default = options.feeds, Options()
    rows: tuple[tuple[str, object, object], ...] = (
        ("count", feeds.count, None),
        ("seed", feeds.seed, None),
        ("images", feeds.images, None),
        ("batch", options.batch, default.batch),
        ("step", options.step, None),
        ("probes", options.probes, default.probes),
        ("device", options.device, default.device),
        ("dtype", options.dtype, default.dtype),
    )
    given = [part for name, value, usual in rows if value != usual for part in (f"--{name}", value)]
    flags = ["--compile"] if options.compile else []
    return shlex.join(["facenet", "verify", reference, candidate, *map(str, given), *flags])


@dataclass
class _Run:
    """The steps of a comparison, in order; each adds to the report."""

    reference: Reference
    candidate: Candidate
    options: Options
    batches: Batches
    oracle: Array | None = None

    def weights(self, report: ParityReport) -> ParityReport:
        self._say("comparing weights")
        if self.candidate.weights is None:
            return _add(report, [skipped("weights", NOT_WEIGHTS)])
        started = time.perf_counter()
        gate = self.reference.weights_gate(self.candidate.weights)
        return _add(report, [gate], started)

    def float64(self, report: ParityReport) -> ParityReport:
        """The reference in float64 is the oracle; a candidate with weights is held to it."""
        started = time.perf_counter()
        try:
            self._stage("TensorFlow, float64", self._images())
            self.oracle = self.reference.oracle(self.batches)
            if self.candidate.weights is None:
                return _add(report, [skipped("float64", NOT_FLOAT64)])
            self._stage("torch, float64", self._images())
            with self.candidate.runner("float64") as runner:
                assert isinstance(runner, CandidateRunner)
                found = self.batches.all(runner, self.reference.feeds, "float64")
            gate = float64_gate(self.oracle, found)
        except ParityError as error:  # the float32 gate can still be applied
            gate = errored("float64", str(error))
        return _add(report, [gate], started)

    def float32(self, report: ParityReport) -> ParityReport:
        started = time.perf_counter()
        self._stage("TensorFlow, float32", self._images())
        expected = self.reference.answers(self.batches)
        self._stage(f"candidate, {self.options.dtype}", self._images())
        options = self.options
        with self.candidate.runner(options.dtype, options.device, options.compile) as runner:
            dtype = answer_type(options.dtype)
            found = self.batches.all(runner, self.reference.feeds, dtype)
        samples = [sample for feed in self.reference.feeds for sample in feed.samples]
        scale = self._scale()
        gates = [float32_gate(expected, found, self.oracle, samples, options.dtype, scale)]
        if ARCHITECTURES[self.reference.architecture].is_embedding:
            gates.append(task_gate(expected, found, samples, options.dtype))
        distances = cosines = np.full(len(samples), np.nan)
        if expected.shape == found.shape:
            distances, cosines = l2(expected, found), _cosines(expected, found)
        versions = {**self.reference.versions, **_library(runner)}
        report = replace(
            report,
            reference=self.reference.description,
            candidate=f"{self.candidate.path}{self._how()}",
            feeds=describe(self.reference.feeds),
            environment={**report.environment, **versions},
            embeddings=tuple(
                (name, float(d), float(c))
                for name, d, c in zip(samples, distances, cosines, strict=True)
            ),
        )
        return _add(report, gates, started)

    def _scale(self) -> Array | None:
        """The scale of rounding: from the reference, else with the candidate's weights."""
        if self.oracle is None:
            return None
        self._say("estimating rounding")
        try:
            return self.reference.rounding()
        except ParityError as error:
            if self.candidate.weights is None:
                why = str(error).partition("\n")[0]
                self.batches.notes.append(f"answers are not held to the scale of rounding: {why}")
                return None
        with self.candidate.runner() as runner:
            return rounding_scale(runner.model, self.reference.architecture, self.reference.feeds)

    def layers(self, report: ParityReport) -> ParityReport:
        """Layer by layer, in float64 if only that shows that something is wrong."""
        if self.options.probes == "none":
            return report
        if self.candidate.weights is None:
            self.batches.notes.append("layers are not compared: an ONNX file shows none of them")
            return report
        if self.reference.probes is None:
            self.batches.notes.append("layers are not compared: no activations were recorded")
            return report
        failed = {gate.name for gate in report.gates if gate.status == "failed"}
        wide = self.reference.sharp and "float64" in failed
        found: list[ProbeResult] = []
        try:
            self._localise(found, self.reference.feeds[0], wide=wide)
            if failed - {"weights"} and first_fault(found) is None:
                found = self._other_sizes(found, wide=wide)
        except KeyboardInterrupt:
            return replace(report, probes=tuple(found), partial=True)
        return replace(report, probes=tuple(found))

    def _other_sizes(self, found: list[ProbeResult], *, wide: bool) -> list[ProbeResult]:
        """The layers on images of another size, if one is at fault there; else `found`.

        A pool that rounds its output's size the other way shows only where there is something to
        round. Activations are recorded for the first feed only.
        """
        first, *others = self.reference.feeds
        for feed in others if self.reference.sharp else ():
            if feed.images.shape[1:] == first.images.shape[1:]:
                continue
            here: list[ProbeResult] = []
            self._localise(here, feed, wide=wide)
            if first_fault(here) is not None:
                note = f"layers are compared on the feed {feed.name!r}: no other shows one at fault"
                self.batches.notes.append(note)
                return here
        return found

    def _localise(self, found: list[ProbeResult], feed: Feed, *, wide: bool) -> None:
        """Fill `found`, with fewer images where memory runs out."""
        assert self.options.probes != "none"
        table = probes(self.reference.architecture, self.options.probes)
        dtype, tolerances = ("float64", FLOAT64_TOLERANCES) if wide else ("float32", TOLERANCES)
        while True:
            found.clear()
            self._stage(f"layers, {dtype}", len(table))
            images = feed.images[: self.batches.size].astype(dtype)
            with self.reference.activations(wide=wide) as one, self.candidate.runner(dtype) as two:
                assert isinstance(two, CandidateRunner)
                try:
                    for result in localised(one, two, images, table, tolerances):
                        found.append(result)
                        self.batches.progress.advance(1)
                    return
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
            self.batches.halve("the comparison of layers", len(images))

    def _how(self) -> str:
        """How the candidate ran, where that is not as usual."""
        options = self.options
        parts = [options.dtype] if options.dtype != "float32" else []
        parts += [f"on {options.device}"] if options.device != "cpu" else []
        parts += ["compiled"] if options.compile else []
        return f" ({', '.join(parts)})" if parts else ""

    def _images(self) -> int:
        """How many are fed."""
        return sum(len(feed.images) for feed in self.reference.feeds)

    def _say(self, text: str) -> None:
        self.batches.progress.note(text)

    def _stage(self, name: str, total: int) -> None:
        self.batches.progress.stage(name, total)


def _add(
    report: ParityReport, gates: Sequence[GateResult], started: float | None = None
) -> ParityReport:
    """The report with more gates; what it took since `started` is put down to the numeric one."""
    seconds = 0.0 if started is None else time.perf_counter() - started
    # The task gate uses what the float32 gate has run.
    timed = [gate if gate.name == "task" else replace(gate, seconds=seconds) for gate in gates]
    return replace(report, gates=(*report.gates, *timed))


def _library(runner: object) -> dict[str, str]:
    if isinstance(runner, CandidateRunner):
        return {"torch": torch().__version__}
    return {"onnxruntime": version("onnxruntime")}


def _cosines(one: Array, other: Array) -> Array:
    wide = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(wide[0], axis=1) * np.linalg.norm(wide[1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: Array = (wide[0] * wide[1]).sum(axis=1) / norms
    return cosines
