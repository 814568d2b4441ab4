"""Does the judge notice? A right candidate is broken, one defect at a time.

Every gate judges every mutant, each gate taken alone; and the layers are compared, to see whether
the one that was broken is named by its numbers.
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

FEEDS = ("noise", "odd size")  # what the mutants are fed; the odd size tells roundings apart
COUNT = 2  # images of noise; with the odd one three, as many as the task gate needs


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        kind, layers, what: See `Mutant`.
        killed_by: The gates that did not pass, of those that there are.
        moved: The largest change of an answer in float64; infinite where it is no number, or where
            the network can't run.
        named: The first layer whose own output differs in float64, by its module; empty if none.
        nameable: Whether a layer gives anything else than before, in any bit, for what the
            reference's layers before it give. If not, there is nothing to be named.
        why: For those that the float64 gate lets live: why.
        equivalent: Whether there is nothing to notice: no bit differs of any weight, of any answer
            or of what any layer gives.
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
        """Whether the layer that is named is, holds, or is held by one that was broken."""
        if not self.named:
            return False
        named = "" if self.named == "the network" else self.named
        return any(within(named, one) or within(one, named) for one in self.layers)


def selftest(
    reference: LiveReference,
    candidate: Candidate,
    limit: int | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    only: Callable[[Mutant], bool] | None = None,
) -> Iterator[Outcome]:
    """Break `candidate` in every way of `parity_tests.selftest.mutants`, and judge each time.

    Args:
        reference: Whose feeds should be `reference_feeds`.
        candidate: Right weights of that reference.
        limit: So many mutants, drawn at random from `seed`; None: all.
        progress: Hears of each mutant.
        only: Which mutants to try, or to draw from; None: all.

    Raises:
        ParityError: The candidate isn't right to begin with, or can't be run.
        UsageError: It has no weights.
    """
    require_same_network(reference, candidate)
    if candidate.weights is None:
        raise UsageError("the self-test needs weights, not an ONNX file", file=candidate.path)
    progress = progress or Progress()
    with candidate.runner("float32") as narrow, candidate.runner("float64") as wide:
        assert isinstance(narrow, CandidateRunner)
        assert isinstance(wide, CandidateRunner)
        judge = _Judge(reference, narrow, wide)
        judge.require_right(reference.weights_gate(candidate.weights))
        chosen = list(filter(only, mutants(narrow.model, judge.effects())))
        if limit is not None and limit < len(chosen):
            chosen = random.Random(seed).sample(chosen, limit)
        progress.stage("mutants", len(chosen))
        for mutant in chosen:
            yield judge.outcome(mutant)
            progress.advance(1)


def reference_feeds(reference: LiveReference) -> None:
    """Leave `reference` with the feeds of a self-test: few, since each mutant gets them all."""
    few = tuple(feed for feed in reference.feeds if feed.name in FEEDS)
    reference.feeds = tuple(
        replace(f, images=f.images[:COUNT], samples=f.samples[:COUNT]) for f in few
    )


class _Judge:
    """The right answers of both sides, and the gates."""

    def __init__(
        self, reference: LiveReference, narrow: CandidateRunner, wide: CandidateRunner
    ) -> None:
        batches = Batches(32)
        self._expected = reference.answers(batches)
        self._oracle = reference.oracle(batches)
        self._scale = reference.rounding()
        self._architecture = reference.architecture
        self._feeds = reference.feeds
        self._samples = [sample for feed in self._feeds for sample in feed.samples]
        self._narrow, self._wide = Network(narrow, self._feeds), Network(wide, self._feeds)
        self._layers = Layers(reference, wide)

    def require_right(self, gate: GateResult) -> None:
        """Raise ParityError unless the candidate passes as it is; `gate`: that on its weights."""
        outcome = self.outcome(Mutant("none", ("",), "nothing", lambda _: ()))
        failed = [*([gate.name] if gate.status != "passed" else []), *outcome.killed_by]
        if failed or outcome.named:
            raise ParityError(
                "the self-test breaks a right candidate, and this one is not right",
                found=f"not passed: {', '.join(failed) or f'the layer {outcome.named}'}",
                next_step="run facenet verify without --self-test",
            )

    def effects(self) -> Mapping[str, Any]:
        """How much each weight moves the answers, see `parity_tests.selftest.effects`."""
        layout, model = images_layout(self._architecture), self._wide.model
        images = [to_torch(model, feed.images.astype(np.float64), layout) for feed in self._feeds]
        return effects(model, images)

    def outcome(self, mutant: Mutant) -> Outcome:
        """What every gate says of the mutant, and which layer its numbers name."""
        wide = _attempt(lambda: self._wide.answers(mutant))
        narrow = _attempt(lambda: self._narrow.answers(mutant))
        gates = [*self._weights(mutant), *self._numeric(wide, narrow)]
        moved = _largest(wide, self._wide.right)
        named, changed = self._layers.look(mutant)
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
        why = _why(outcome, reached=self._layers.reach(mutant))
        return replace(outcome, why=why, equivalent=unchanged)

    def _numeric(self, wide: Array | str, narrow: Array | str) -> Iterator[GateResult]:
        if isinstance(wide, str):
            yield errored("float64", wide)
        else:
            yield float64_gate(self._oracle, wide)
        if isinstance(narrow, str):
            yield errored("float32", narrow)
        else:
            yield float32_gate(
                self._expected, narrow, self._oracle, self._samples, scale=self._scale
            )
        if not ARCHITECTURES[self._architecture].is_embedding:
            return
        if isinstance(narrow, str):
            yield errored("task", narrow)
        else:
            yield task_gate(self._expected, narrow, self._samples)

    def _weights(self, mutant: Mutant) -> Iterator[GateResult]:
        """The gate on the weights that the mutant replaces, if any.

        All others are as in the right candidate, which passed.
        """
        if mutant.tensors:
            right = [Fingerprint.of(ref) for ref in self._catalog(mutant).values()]
            with broken(self._narrow.model, mutant):
                yield weights_gate_by_hash(right, self._catalog(mutant))

    def _catalog(self, mutant: Mutant) -> Catalog:
        """The tensors that the mutant replaces, as they are now."""
        state = self._narrow.model.state_dict()
        refs = {name: _ref(name, state[name].numpy()) for name in mutant.tensors}
        return Catalog(refs, format="memory", naming="torch", files=())


def _attempt(run: Callable[[], Any]) -> Any:
    """What it gives, or in words what it raises: a broken network may raise anything."""
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


def _largest(found: Array | str, right: Array) -> float:
    if isinstance(found, str) or found.shape != right.shape:
        return float("inf")
    largest = float(np.max(np.abs(found - right)))
    return largest if np.isfinite(largest) else float("inf")


def _ref(name: str, array: Array) -> TensorRef:
    return TensorRef(name, FLOAT32, array.shape, lambda: array)


def _why(outcome: Outcome, *, reached: bool) -> str:
    """Why the float64 gate lets it live; `reached`: what is broken runs for an answer."""
    if not reached:
        return "no answer is computed from it"
    if not outcome.nameable:
        return "what the layer gives is the same in every bit"
    if outcome.moved == 0:
        return "the layer gives something else, and no answer changes in any bit"
    return f"the answers move by {outcome.moved:.2g} only"
