"""A reference and a candidate in, a verdict out: `facenet verify`.

Sources are resolved and read by the converter. The reference runs in TensorFlow, the candidate in
PyTorch, each in float32 and in float64; the gates judge what they answer.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from converter.catalog import Catalog
from converter.errors import MappingError, UsageError
from converter.plan import make_plan
from converter.resolve import Source, resolve
from parity_tests.candidate import CandidateRunner
from parity_tests.feeds import SEED, Feed, describe, face_feed, standard_feeds
from parity_tests.float64 import in_float64
from parity_tests.frameworks import tensorflow, torch
from parity_tests.gates import float32_gate, float64_gate, l2, task_gate, weights_gate
from parity_tests.localise import localise
from parity_tests.model import GateResult, ParityReport
from parity_tests.original import GraphValues, original
from parity_tests.probes import probes
from parity_tests.reference import ReferenceRunner, Weights, weights_in_graph
from parity_tests.serving_graph import ServingGraph

Array = npt.NDArray[Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to compare. `count` images of each kind of noise, from `seed`; `images`: a folder of
    faces to add; `batch`: images that a network gets at a time; `step`: of a checkpoint folder;
    `probes`: where the two are compared on the way ("none", "blocks" or "all").
    """

    count: int = 5
    seed: int = SEED
    images: Path | None = None
    batch: int = 32
    step: int | None = None
    probes: Literal["none", "blocks", "all"] = "blocks"


@dataclass(frozen=True)
class Pair:
    """Both sides, opened and found to be of one network."""

    reference: Source
    candidate: Source
    source: Catalog
    weights: Catalog
    architecture: str
    dims: Mapping[str, int]


def open_pair(reference: str, candidate: str, step: int | None = None) -> Pair:
    """Open both sides. UsageError where they can't be compared, FacenetError where unreadable."""
    one, two = resolve(reference, step), resolve(candidate)
    source, weights = one.open(), two.open()
    if source.naming != "tensorflow":
        raise UsageError(
            "the reference must be TensorFlow's",
            file=one.path,
            expected="a checkpoint, a frozen graph, or det1.npy, det2.npy, det3.npy",
            found=source.format,
            next_step="give the TensorFlow side first: facenet verify CHECKPOINT WEIGHTS",
        )
    if weights.naming != "torch":
        raise UsageError(
            "the candidate must be PyTorch's",
            file=two.path,
            expected="a .pt or .safetensors file",
            found=weights.format,
            next_step="convert it first: convert --checkpoint … --out weights.pt",
        )
    plan = make_plan(source, to="torch", strict=False)
    other = make_plan(weights, to="tensorflow", strict=False)
    sizes = [(p.architecture.description, p.dims.get("embedding", 0)) for p in (plan, other)]
    if sizes[0] != sizes[1]:
        raise MappingError(
            "the two sides are different networks",
            file=str(two.path),
            expected=f"{sizes[0][0]}, embedding {sizes[0][1]}",
            found=f"{sizes[1][0]}, embedding {sizes[1][1]}",
            next_step="check that both files belong to one model",
        )
    return Pair(one, two, source, weights, plan.architecture.name, {**other.dims})


def verify(
    reference: str, candidate: str, options: Options | None = None, say: Say = lambda _: None
) -> ParityReport:
    """Compare `candidate` with `reference` through every gate.

    Raises FacenetError where no verdict can be reached. Interrupted, it returns what was found
    until then, marked partial.
    """
    options = options or Options()
    pair = open_pair(reference, candidate, options.step)
    feeds = standard_feeds(pair.architecture, options.count, options.seed)
    if options.images is not None:
        if pair.architecture != "inception_resnet_v1":
            raise UsageError("--images are faces: they are for InceptionResnetV1 only")
        feeds = (*feeds, face_feed(options.images))
    report = ParityReport(
        reference=str(pair.reference.path),
        candidate=str(pair.candidate.path),
        architecture=pair.architecture,
        dims=pair.dims,
        gates=(),
        feeds=describe(feeds),
        environment={"Python": platform.python_version(), "NumPy": np.__version__},
        command=f"facenet verify {reference} {candidate} --seed {options.seed}",
    )
    for step in _steps(pair, feeds, options, say):
        try:
            report = step(report)
        except KeyboardInterrupt:
            return replace(report, partial=True)
    return report


Step = Callable[[ParityReport], ParityReport]


def _steps(pair: Pair, feeds: Sequence[Feed], options: Options, say: Say) -> Iterator[Step]:
    """What is done, in order; each adds to the report."""
    answers: dict[str, Array] = {}
    values = GraphValues(pair.source, pair.architecture)

    @cache
    def reference() -> tuple[ServingGraph, Weights]:
        path, graph = pair.reference.path, pair.reference.graph
        return original(pair.architecture, pair.dims, pair.source.format, path, graph, values)

    samples = [sample for feed in feeds for sample in feed.samples]

    def weights(report: ParityReport) -> ParityReport:
        say("comparing weights")
        return _add(report, lambda: weights_gate(pair.source, pair.weights))

    def run(report: ParityReport) -> ParityReport:
        graph, variables = reference()
        say(f"running {graph.description} in TensorFlow")
        answers["reference"] = _answers(ReferenceRunner(graph, variables), feeds, options.batch)
        say("running the candidate in torch")
        answers["candidate"] = _answers(_candidate(pair, "float32"), feeds, options.batch)
        found = l2(answers["reference"], answers["candidate"])
        cosines = _cosines(answers["reference"], answers["candidate"])
        versions = {"TensorFlow": tensorflow().__version__, "torch": torch().__version__}
        return replace(
            report,
            reference=f"{pair.reference.path} ({graph.description})",
            environment={**report.environment, **versions},
            embeddings=tuple(
                (name, float(d), float(c))
                for name, d, c in zip(samples, found, cosines, strict=True)
            ),
        )

    def float64(report: ParityReport) -> ParityReport:
        wide = in_float64(reference()[0], values)
        say("running the graph in float64")
        runner = ReferenceRunner(wide, weights_in_graph)
        answers["oracle"] = _answers(runner, feeds, options.batch, np.float64)
        say("running the candidate in float64")
        found = _answers(_candidate(pair, "float64"), feeds, options.batch, np.float64)
        return _add(report, lambda: float64_gate(answers["oracle"], found))

    def float32(report: ParityReport) -> ParityReport:
        sides = answers["reference"], answers["candidate"]
        report = _add(report, lambda: float32_gate(*sides, answers.get("oracle"), samples))
        if pair.architecture == "inception_resnet_v1":
            report = _add(report, lambda: task_gate(*sides, samples))
        return report

    def layers(report: ParityReport) -> ParityReport:
        if options.probes == "none":
            return report
        say("comparing layer by layer")
        table = probes(pair.architecture, options.probes)
        with ReferenceRunner(*reference()) as one, _candidate(pair, "float32") as two:
            images = feeds[0].images[: options.batch]
            return replace(report, probes=localise(one, two, images, table))

    yield from (weights, run, float64, float32, layers)


def _add(report: ParityReport, gate: Callable[[], GateResult]) -> ParityReport:
    started = time.perf_counter()
    result = gate()
    result = replace(result, seconds=time.perf_counter() - started)
    return replace(report, gates=(*report.gates, result))


def _candidate(pair: Pair, dtype: str) -> CandidateRunner:
    kind = "safetensors" if pair.weights.format == "safetensors" else "torch"
    return CandidateRunner(pair.candidate.path, kind, pair.architecture, pair.dims, dtype=dtype)


def _answers(
    runner: ReferenceRunner | CandidateRunner,
    feeds: Sequence[Feed],
    batch: int,
    dtype: type[np.floating[Any]] = np.float32,
) -> Array:
    """All outputs for every image of every feed: one row a sample, outputs joined."""
    rows = []
    with runner:
        for feed in feeds:
            for start in range(0, len(feed.images), batch):
                outputs = runner.run(feed.images[start : start + batch].astype(dtype))
                flat = [output.reshape(len(output), -1) for output in outputs]
                rows.append(np.concatenate(flat, axis=1))
    return np.concatenate(rows)


def _cosines(one: Array, other: Array) -> Array:
    wide = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(wide[0], axis=1) * np.linalg.norm(wide[1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: Array = (wide[0] * wide[1]).sum(axis=1) / norms
    return cosines
