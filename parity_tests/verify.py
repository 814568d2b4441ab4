"""Verify a candidate against a reference: the work of `facenet verify`.

The converter resolves and reads both sides. The reference runs in TensorFlow, or was recorded; the
candidate runs in PyTorch or onnxruntime; the gates compare their outputs.
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
from facenet_common.errors import MissingPackageError, ParityError, UsageError
from facenet_common.progress import Progress
from parity_tests.batches import Batches, is_out_of_memory
from parity_tests.candidate.precision import answer_type
from parity_tests.candidate.torch_runner import CandidateRunner, require_device
from parity_tests.feeds import Feed, describe
from parity_tests.fit_feeds import fit_feeds
from parity_tests.frameworks import torch
from parity_tests.gates import (
    errored,
    explained_by_length,
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
from parity_tests.rounding import growth, rounding_scale

Array = npt.NDArray[Any]
NOT_WEIGHTS = "the weights of an ONNX file may be folded and renamed"
NOT_FLOAT64 = "an ONNX file computes in the types with which it was exported"


@dataclass(frozen=True)
class Options:
    """Options of `verify`.

    Attributes:
        feeds: The images.
        batch: Images in a batch.
        step: The step of a checkpoint folder; None: the newest.
        probes: Layers at which the two are compared.
        device, dtype, compile: How the candidate runs, see `CandidateRunner`. The float64 gate and
            the comparison of layers always run on a CPU, uncompiled.
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
    """Compare `candidate` with `reference` by every gate.

    Args:
        reference: A checkpoint, frozen graph, MTCNN's ``.npy``, or a recorded reference.
        candidate: A ``.pt``, ``.safetensors`` or ``.onnx`` file.
        options: None: the defaults.
        progress: Callbacks for stages and images.

    Returns:
        The report. If the run is interrupted, it covers the gates until then and is marked partial.

    Raises:
        UsageError: The two sides or the options do not fit together.
        FacenetError: No verdict can be reached.

    Examples:
        >>> report = verify("20180402-114759", "vggface2.pt")
        >>> report.passed, report.headline
        (True, 'PASSED: vggface2.pt computes what 20180402-114759 does')
    """
    options = options or Options()
    one = open_reference(reference, options.feeds, options.step)
    two = open_candidate(candidate, one.architecture, one.dims)
    require_same_network(one, two)
    require_unrounded(one, two)
    if two.weights is None and (options.compile or (options.device, options.dtype) != _DEFAULTS):
        raise UsageError(
            "--device, --dtype and --compile do not apply to an ONNX file",
            file=two.path,
        )
    two, notes = fit_feeds(one, two, options.feeds)
    if options.device != Options.device:
        require_device(options.device)
    if options.probes == "all" and one.probes != "all":
        raise UsageError(
            "the recorded reference lacks the activations of every convolution",
            file=one.name,
            next_step="omit --probes all, or record them: facenet capture --probes all",
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
    run.batches.notes.extend(notes)
    for step in (run.weights, run.float64, run.float32, run.layers):
        try:
            report = step(report)
        except KeyboardInterrupt:
            report = replace(report, partial=True)
        except ParityError as error:
            if not any(gate.status == "failed" for gate in report.gates):
                raise
            # There is a verdict, for example on a tensor too many, which can't be loaded either.
            run.batches.notes.append(f"nothing more is compared: {error}")
            break
        if report.partial:
            break
    return replace(report, notes=tuple(run.batches.notes))


_DEFAULTS = (Options.device, Options.dtype)


def _command(reference: str, candidate: str, options: Options) -> str:
    """Return the command that repeats the run, with every option that is not the default."""
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
    """The steps of a comparison, in order; each returns the report with its results added."""

    reference: Reference
    candidate: Candidate
    options: Options
    batches: Batches
    oracle: Array | None = None

    def weights(self, report: ParityReport) -> ParityReport:
        self.batches.progress.note("comparing weights")
        if self.candidate.weights is None:
            return _add(report, [skipped("weights", NOT_WEIGHTS)])
        started = time.perf_counter()
        gate = self.reference.weights_gate(self.candidate.weights)
        return _add(report, [gate], started)

    def float64(self, report: ParityReport) -> ParityReport:
        """Run the reference in float64, the oracle, and compare a candidate with weights to it."""
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
        except (MissingPackageError, ParityError) as error:  # the float32 gate can still be applied
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
        scale, precision = self._scale(), self._precision()

        def judged(rows: Array) -> GateResult:
            times = growth(self.reference.architecture, expected.shape[1])
            return float32_gate(expected, rows, self.oracle, samples, precision, scale, times)

        gates = [judged(found)]
        if ARCHITECTURES[self.reference.architecture].is_embedding:
            gates = [explained_by_length(gates[0], found, judged)]
            gates.append(task_gate(expected, found, samples, precision))
        distances = cosines = np.full(len(samples), np.nan)
        if expected.shape == found.shape:
            distances, cosines = l2(expected, found), _cosines(expected, found)
        versions = {**self.reference.versions, **_library(runner)}
        report = replace(
            report,
            reference=self.reference.description,
            candidate=f"{self.candidate.path}{self._circumstances()}",
            feeds=describe(self.reference.feeds),
            environment={**report.environment, **versions},
            embeddings=tuple(
                (name, float(d), float(c))
                for name, d, c in zip(samples, distances, cosines, strict=True)
            ),
        )
        return _add(report, gates, started)

    def _scale(self) -> Array | None:
        """Return the scale of rounding: the reference's, else by the candidate's weights."""
        if self.oracle is None:
            return None
        self.batches.progress.note("estimating rounding")
        try:
            return self.reference.rounding()
        except (MissingPackageError, ParityError) as error:
            if self.candidate.weights is None:
                why = str(error).partition("\n")[0]
                self.batches.notes.append(f"the scale of rounding is not compared: {why}")
                return None
        with self.candidate.runner() as runner:
            return rounding_scale(runner.model, self.reference.architecture, self.reference.feeds)

    def layers(self, report: ParityReport) -> ParityReport:
        """Compare the layers, in float64 if only the float64 gate failed."""
        if self.options.probes == "none":
            return report
        if self.candidate.weights is None:
            self.batches.notes.append("layers are not compared: an ONNX file has no probes")
            return report
        if self.reference.probes is None:
            self.batches.notes.append("layers are not compared: no activations were recorded")
            return report
        failed = {gate.name for gate in report.gates if gate.status == "failed"}
        float64 = self.reference.has_float64 and "float64" in failed
        found: list[ProbeResult] = []
        try:
            self._localise(found, self.reference.feeds[0], float64=float64)
            if failed - {"weights"} and first_fault(found) is None:
                found = self._other_sizes(found, float64=float64)
        except KeyboardInterrupt:
            return replace(report, probes=tuple(found), partial=True)
        return replace(report, probes=tuple(found))

    def _other_sizes(self, found: list[ProbeResult], *, float64: bool) -> list[ProbeResult]:
        """Compare layers on images of another size; return `found` if none is at fault there.

        A pool that rounds the size of its output the other way differs only for sizes that are
        rounded. A record has activations for the first feed only.
        """
        first, *others = self.reference.feeds
        for feed in others if self.reference.has_float64 else ():
            if feed.images.shape[1:] == first.images.shape[1:]:
                continue
            results: list[ProbeResult] = []
            self._localise(results, feed, float64=float64)
            if first_fault(results) is not None:
                note = f"layers are compared on the feed {feed.name!r}: no other shows one at fault"
                self.batches.notes.append(note)
                return results
        return found

    def _localise(self, found: list[ProbeResult], feed: Feed, *, float64: bool) -> None:
        """Fill `found` with results, on fewer images where memory runs out."""
        assert self.options.probes != "none"
        table = probes(self.reference.architecture, self.options.probes)
        dtype, tolerances = ("float64", FLOAT64_TOLERANCES) if float64 else ("float32", TOLERANCES)
        while True:
            found.clear()
            self._stage(f"layers, {dtype}", len(table))
            images = feed.images[: self.batches.size].astype(dtype)
            with (
                self.reference.activations(float64=float64) as activations,
                self.candidate.runner(dtype) as runner,
            ):
                assert isinstance(runner, CandidateRunner)
                try:
                    for result in localised(activations, runner, images, table, tolerances):
                        found.append(result)
                        self.batches.progress.advance(1)
                    return
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
            self.batches.halve("the comparison of layers", len(images))

    def _circumstances(self) -> str:
        """Return the dtype, device and compilation of the candidate that are not the defaults."""
        options = self.options
        parts = [self._precision()] if self._precision() != "float32" else []
        parts += [f"on {options.device}"] if options.device != "cpu" else []
        parts += ["compiled"] if options.compile else []
        return f" ({', '.join(parts)})" if parts else ""

    def _precision(self) -> str:
        """Return the type that the candidate computes in."""
        given = self.candidate.weights is not None
        return self.options.dtype if given else self.candidate.precision

    def _images(self) -> int:
        """Return the number of images in all feeds."""
        return sum(len(feed.images) for feed in self.reference.feeds)

    def _stage(self, name: str, total: int) -> None:
        self.batches.progress.stage(name, total)


def _add(
    report: ParityReport, gates: Sequence[GateResult], started: float | None = None
) -> ParityReport:
    """Return the report with more gates, all but the task gate with the time since `started`."""
    seconds = 0.0 if started is None else time.perf_counter() - started
    # The task gate uses the outputs that the float32 gate has computed.
    timed = [gate if gate.name == "task" else replace(gate, seconds=seconds) for gate in gates]
    return replace(report, gates=(*report.gates, *timed))


def _library(runner: object) -> dict[str, str]:
    if isinstance(runner, CandidateRunner):
        return {"torch": torch().__version__}
    return {"onnxruntime": version("onnxruntime")}


def _cosines(expected: Array, found: Array) -> Array:
    left, right = expected.astype(np.float64), found.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: Array = (left * right).sum(axis=1) / norms
    return cosines
