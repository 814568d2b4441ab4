"""Plant defects in a correct candidate, one at a time, and record which gates find them.

Every gate judges every mutant independently, and the layers are compared, to see whether their
numbers name the layer with the defect.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from converter.catalog import Catalog, TensorRef
from converter.dtypes import FLOAT32
from facenet_common.errors import ParityError, UsageError
from facenet_common.progress import Progress
from parity_tests.batches import Batches
from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.gates import (
    Fingerprint,
    errored,
    float32_gate,
    float64_gate,
    task_gate,
    weights_gate_by_hash,
)
from parity_tests.localise.modules import to_torch, within
from parity_tests.model import GateResult
from parity_tests.open_sides import Candidate, require_same_network
from parity_tests.probes import images_layout
from parity_tests.reference.live import LiveReference
from parity_tests.selftest.effects import effects
from parity_tests.selftest.layers import Layers
from parity_tests.selftest.mutants import Mutant, mutants
from parity_tests.selftest.network import Network, broken

Array = npt.NDArray[Any]

FEEDS = ("noise", "odd size")  # the odd size distinguishes the roundings of pools
COUNT = 2  # images of noise; with the odd one three, as many as the task gate needs


@dataclass(frozen=True)
class Outcome:
    """The outcome of one mutant.

    Attributes:
        kind, layers, what: See `Mutant`.
        killed_by: The gates that did not pass.
        moved: The largest change of an output in float64; infinite where it is not finite, or
            where the network can't run.
        named: Path of the first module whose isolated output differs in float64; empty if none.
        nameable: Whether any bit of a layer's isolated output changes. If not, no layer can be
            named.
        why: Why the float64 gate passed; empty if it did not.
        equivalent: Whether the mutant changes nothing: no bit of any weight, output or layer.
    """

    kind: str
    layers: tuple[str, ...]
    what: str
    killed_by: tuple[str, ...]
    moved: float
    named: str
    nameable: bool
    why: str = ""
    equivalent: bool = False

    @property
    def named_rightly(self) -> bool:
        """Whether the named layer is a defective one, contains one, or lies in one."""
        if not self.named:
            return False
        named = "" if self.named == "the network" else self.named
        return any(within(named, layer) or within(layer, named) for layer in self.layers)


def selftest(
    reference: LiveReference,
    candidate: Candidate,
    limit: int | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    only: Callable[[Mutant], bool] | None = None,
) -> Iterator[Outcome]:
    """Plant each defect of `parity_tests.selftest.mutants` in `candidate`, and judge it.

    Args:
        reference: Its feeds should have been reduced by `reduce_feeds`.
        candidate: Correct weights of that reference.
        limit: Number of mutants, drawn at random with `seed`; None: all.
        progress: Advanced for each mutant.
        only: Selects the mutants to try, or to draw from; None: all.

    Raises:
        ParityError: The candidate is not correct to begin with, or can't be run.
        UsageError: It has no weights.

    Examples:
        >>> reference = open_live("det1.npy", FeedOptions())
        >>> reduce_feeds(reference)
        >>> outcomes = list(selftest(reference, open_candidate("pnet.pt"), limit=10))
    """
    require_same_network(reference, candidate)
    if candidate.weights is None:
        raise UsageError("the self-test needs weights, not an ONNX file", file=candidate.path)
    progress = progress or Progress()
    with candidate.runner("float32") as float32, candidate.runner("float64") as float64:
        assert isinstance(float32, CandidateRunner)
        assert isinstance(float64, CandidateRunner)
        judge = _Judge(reference, float32, float64)
        judge.require_correct(reference.weights_gate(candidate.weights))
        chosen = list(filter(only, mutants(float32.model, judge.effects())))
        if limit is not None and limit < len(chosen):
            chosen = random.Random(seed).sample(chosen, limit)
        progress.stage("mutants", len(chosen))
        for mutant in chosen:
            yield judge.outcome(mutant)
            progress.advance(1)


def reduce_feeds(reference: LiveReference) -> None:
    """Reduce the feeds of `reference` to a few images, since each mutant runs on all of them."""
    few = tuple(feed for feed in reference.feeds if feed.name in FEEDS)
    reference.feeds = tuple(
        replace(f, images=f.images[:COUNT], samples=f.samples[:COUNT]) for f in few
    )


class _Judge:
    """The outputs of reference and correct candidate, and the gates that compare them."""

    def __init__(
        self, reference: LiveReference, float32: CandidateRunner, float64: CandidateRunner
    ) -> None:
        batches = Batches(32)
        self._expected = reference.answers(batches)
        self._oracle = reference.oracle(batches)
        self._scale = reference.rounding()
        self._architecture = reference.architecture
        self._feeds = reference.feeds
        self._samples = [sample for feed in self._feeds for sample in feed.samples]
        self._float32, self._float64 = (Network(side, self._feeds) for side in (float32, float64))
        self._layers = Layers(reference, float64)

    def require_correct(self, gate: GateResult) -> None:
        """Raise ParityError unless the candidate passes; `gate`: the one on its weights."""
        outcome = self.outcome(Mutant("none", ("",), "nothing", lambda _: ()))
        failed = [*([gate.name] if gate.status != "passed" else []), *outcome.killed_by]
        if failed or outcome.named:
            raise ParityError(
                "the self-test needs a correct candidate, and this one does not pass",
                found=f"failed: {', '.join(failed) or f'the layer {outcome.named}'}",
                next_step="run facenet verify without --self-test",
            )

    def effects(self) -> Mapping[str, Any]:
        """Measure how much each weight changes the outputs, see `parity_tests.selftest.effects`."""
        layout, model = images_layout(self._architecture), self._float64.model
        images = [to_torch(model, feed.images.astype(np.float64), layout) for feed in self._feeds]
        return effects(model, images)

    def outcome(self, mutant: Mutant) -> Outcome:
        """Judge a mutant by every gate, and compare its layers."""
        float64 = _attempt(lambda: self._float64.answers(mutant))
        float32 = _attempt(lambda: self._float32.answers(mutant))
        gates = [*self._weights(mutant), *self._numeric(float64, float32)]
        moved = _largest_change(float64, self._float64.correct)
        named, changed = self._layers.compare(mutant)
        killed_by = tuple(gate.name for gate in gates if gate.status != "passed")
        outcome = Outcome(
            mutant.kind,
            mutant.layers,
            mutant.what,
            killed_by,
            moved,
            named,
            changed,
        )
        if "float64" in killed_by:
            return outcome
        unchanged = not (mutant.tensors or changed or moved or killed_by)
        why = _why(outcome, reached=self._layers.reaches(mutant))
        return replace(outcome, why=why, equivalent=unchanged)

    def _numeric(self, float64: Array | str, float32: Array | str) -> Iterator[GateResult]:
        if isinstance(float64, str):
            yield errored("float64", float64)
        else:
            yield float64_gate(self._oracle, float64)
        if isinstance(float32, str):
            yield errored("float32", float32)
        else:
            yield float32_gate(
                self._expected, float32, self._oracle, self._samples, scale=self._scale
            )
        if not ARCHITECTURES[self._architecture].is_embedding:
            return
        if isinstance(float32, str):
            yield errored("task", float32)
        else:
            yield task_gate(self._expected, float32, self._samples)

    def _weights(self, mutant: Mutant) -> Iterator[GateResult]:
        """Apply the gate on the weights that the mutant replaces, if any.

        All other weights are those of the correct candidate, which passed.
        """
        if mutant.tensors:
            correct = [Fingerprint.of(ref) for ref in self._catalog(mutant).values()]
            with broken(self._float32.model, mutant):
                yield weights_gate_by_hash(correct, self._catalog(mutant))

    def _catalog(self, mutant: Mutant) -> Catalog:
        """Return the present values of the tensors that the mutant replaces."""
        state = self._float32.model.state_dict()
        refs = {name: _ref(name, state[name].numpy()) for name in mutant.tensors}
        return Catalog(refs, format="memory", naming="torch", files=())


def _attempt(run: Callable[[], Any]) -> Any:
    """Call `run`; return its result, or the text of its exception.

    A defective network may raise any of these.
    """
    try:
        return run()
    except (
        ArithmeticError,
        LookupError,
        ParityError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _largest_change(found: Array | str, correct: Array) -> float:
    if isinstance(found, str) or found.shape != correct.shape:
        return float("inf")
    largest = float(np.max(np.abs(found - correct)))
    return largest if np.isfinite(largest) else float("inf")


def _ref(name: str, array: Array) -> TensorRef:
    return TensorRef(name, FLOAT32, array.shape, lambda: array)


def _why(outcome: Outcome, *, reached: bool) -> str:
    """Return why the float64 gate passed; `reached`: whether a defective module is run."""
    if not reached:
        return "no output is computed from it"
    if not outcome.nameable:
        return "the layer's output is the same in every bit"
    if outcome.moved == 0:
        return "the layer's output changes, and no output of the network does in any bit"
    return f"the outputs change by {outcome.moved:.2g} only"
