"""The gates: the demands on a candidate, each with its formula and the measured value.

A gate compares arrays and catalogs; it runs no network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from converter.catalog import Catalog, TensorRef
from converter.compare import Kind, TensorDiff, diff, tensors_by_name
from converter.digest import tensor_sha256
from parity_tests.candidate.precision import COARSENESS, answer_type
from parity_tests.model import Finding, GateResult

Array = npt.NDArray[Any]

FLOAT64_TOLERANCE = 1e-12  # the contract; measured: 1e-15
FLOAT32_TOLERANCE = 1e-5  # the project's contract; measured: 7e-7
ROUNDING_FACTOR = 4.0  # derived in facenet_models.rounding; measured: 0.2 to 1.5


@dataclass(frozen=True)
class Fingerprint:
    """A tensor without its values: PyTorch's name, dtype, shape and the SHA-256 of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, ref: TensorRef) -> Fingerprint:
        """Load a tensor and return its fingerprint."""
        return cls(ref.name, ref.dtype.name, ref.shape, tensor_sha256(ref.load()))


def weights_gate(source: Catalog, candidate: Catalog, unused: Collection[str] = ()) -> GateResult:
    """Demand that every tensor equals the source's bit for bit, after inverting the layout.

    A tensor that no rule explains fails the gate, unless it is one of `unused`, which a graph shows
    to change no output. A classifier that only one side has is not compared (freezing a graph
    removes it). The summary says what was not compared.
    """
    return _weights(list(diff(source, candidate)), unused)


def weights_gate_by_hash(source: Sequence[Fingerprint], candidate: Catalog) -> GateResult:
    """Demand the same as `weights_gate`, given only the hashes of the source's tensors."""
    tensors = tensors_by_name(candidate, "torch")
    hashes = {name: tensor_sha256(ref.load()) for name, ref in tensors.items()}
    expected = {row.name: row for row in source}
    diffs = [_diff_by_hash(row, tensors, hashes) for row in source]
    diffs += [TensorDiff(name, "only in B") for name in tensors if name not in expected]
    return _weights(diffs)


def _diff_by_hash(
    row: Fingerprint, tensors: Mapping[str, TensorRef], hashes: Mapping[str, str]
) -> TensorDiff:
    ref = tensors.get(row.name)
    if ref is None:
        return TensorDiff(row.name, "only in A")
    for kind, expected, found in (
        ("shape", list(row.shape), list(ref.shape)),
        ("type", row.dtype, ref.dtype.name),
    ):
        if expected != found:
            return TensorDiff(row.name, cast(Kind, kind), f"{expected} against {found}")
    if row.sha256 == hashes[row.name]:
        return TensorDiff(row.name, "identical")
    twin = next((name for name, sha256 in hashes.items() if sha256 == row.sha256), None)
    return TensorDiff(row.name, "differs", f"A's {row.name} is B's {twin}" if twin else "")


def _weights(diffs: Sequence[TensorDiff], unused: Collection[str] = ()) -> GateResult:
    classifier, side = _one_sided_classifier(diffs)
    compared, left_out = [], Counter[str]()
    for item in diffs:
        if item.kind == "left out":
            left_out[item.detail] += 1
        elif item.kind == "unexplained" and item.name in unused:
            left_out["unexplained, but no output of the graph depends on it"] += 1
        elif item.name not in classifier:
            compared.append(item)
    wrong = [item for item in compared if not item.agrees]
    parts = [f"{len(compared) - len(wrong)} of {len(compared)} tensors identical"]
    parts += [f"the classifier is only in the {side}"] if side else []
    parts += [f"{count} not compared: {reason}" for reason, count in left_out.items()]
    return GateResult(
        name="weights",
        status="passed" if compared and not wrong else "failed",
        formula="tensors that differ in any bit, or that no rule explains = 0",
        tolerance=0.0,
        measured=float(len(wrong)),
        summary="; ".join(parts),
        findings=tuple(_finding(item) for item in wrong),
    )


def _one_sided_classifier(diffs: Sequence[TensorDiff]) -> tuple[frozenset[str], str]:
    """Return the tensors of a whole classifier that one side lacks, and the side that has it."""
    for kind, side in (("only in A", "reference"), ("only in B", "candidate")):
        names = {item.name for item in diffs if item.kind == kind}
        for known in ARCHITECTURES.values():
            classifier = frozenset(row.target for row in known.rows if row.part == "logits")
            if classifier and classifier <= names:
                return classifier, side
    return frozenset(), ""


def _finding(item: TensorDiff) -> Finding:
    if item.kind == "differs":
        what = "the values differ"
        if item.total:
            what = f"{item.different:,} of {item.total:,} values differ"
        if item.max_abs is not None:
            what += f", by up to {item.max_abs:.3g}"
        return Finding(item.name, f"{what}{'; ' + item.detail if item.detail else ''}")
    words = {
        "only in A": "is missing",
        "only in B": "has no counterpart in the reference",
        "unexplained": f"no rule explains it, so the outputs may depend on it: {item.detail}",
    }
    return Finding(item.name, words.get(item.kind, f"another {item.kind}: {item.detail}"))


def skipped(name: str, why: str) -> GateResult:
    """Return the result of a gate that does not apply to this candidate."""
    return GateResult(name, "skipped", "not applied", 0.0, float("nan"), why)


def errored(name: str, why: str) -> GateResult:
    """Return the result of a gate that could not be applied."""
    return GateResult(name, "errored", "not measured", 0.0, float("nan"), why)


def float64_gate(reference: Array, candidate: Array) -> GateResult:
    """Demand that outputs in float64 differ by at most 1e-12; one row for each sample."""
    problem = _incomparable(reference, candidate, "float64", "float64")
    measured = float("nan") if problem else float(np.max(np.abs(reference - candidate)))
    return GateResult(
        name="float64",
        status="passed" if measured <= FLOAT64_TOLERANCE else "failed",
        formula="max |TensorFlow - torch|, both in float64 <= 1e-12",
        tolerance=FLOAT64_TOLERANCE,
        measured=measured,
        summary=problem or f"the largest difference is {measured:.2g}",
    )


def float32_gate(
    reference: Array,
    candidate: Array,
    oracle: Array | None,
    samples: Sequence[str],
    precision: str = "float32",
    scale: Array | None = None,
    growth: float = 1.0,
) -> GateResult:
    """Demand an L2 distance below 1e-5, and no more error than rounding explains.

    Args:
        reference, candidate: Their outputs, one row for each sample.
        oracle: The reference's outputs in float64; None: only the first demand is made.
        samples: Names of the rows.
        precision: What the candidate computed in; both limits are multiplied by its `COARSENESS`.
        scale: The scale of rounding for each sample (see `parity_tests.rounding`). The root mean
            square of the distances from the oracle, each divided by its scale, may be at most
            `ROUNDING_FACTOR`.
        growth: Distances are divided by it; see `parity_tests.rounding.growth`.
    """
    limits = FLOAT32_TOLERANCE * COARSENESS[precision], ROUNDING_FACTOR * COARSENESS[precision]
    gate = GateResult(
        name="float32" if COARSENESS[precision] == 1 else precision,
        status="failed",
        formula=f"L2(TensorFlow, torch) < {limits[0]:.3g} for each answer; "
        f"L2(torch, float64) <= {limits[1]:g} times the scale of rounding in quadratic mean",
        tolerance=limits[0],
        measured=float("nan"),
        summary="",
    )
    problem = _incomparable(reference, candidate, "float32", answer_type(precision))
    if problem:
        return replace(gate, summary=problem)
    distances = l2(reference, candidate) / growth
    worst = int(np.argmax(distances))
    findings = tuple(
        Finding(sample, "another answer", f"L2 < {limits[0]:.3g}", f"{distance:.3g}")
        for sample, distance in zip(samples, distances, strict=True)
        if not distance < limits[0]
    )
    summary = f"{len(samples) - len(findings)} of {len(samples)} closer; the farthest: "
    summary += f"{samples[worst]}, {distances[worst]:.3g}"
    details: dict[str, float | int | str] = {"mean_l2": float(distances.mean())}
    if oracle is not None:
        noise, error = (float(l2(oracle, side).mean()) for side in (reference, candidate))
        details |= {"reference_to_oracle": noise, "candidate_to_oracle": error}
        summary += f"; from float64 {error:.2g}, TensorFlow {noise:.2g}"
    if oracle is not None and scale is not None:
        times = _root_mean_square(l2(oracle, candidate), scale)
        details |= {"rounding": float(scale.mean()), "times_rounding": times}
        summary += f", rounding {scale.mean():.2g}"
        if not times <= limits[1]:
            what = "farther from float64 than rounding explains"
            limit = f"at most {limits[1]:g} times the scale of rounding"
            findings = (*findings, Finding("answers", what, limit, f"{times:.3g} times"))
    return replace(
        gate,
        status="failed" if findings else "passed",
        measured=float(distances[worst]),
        summary=summary,
        findings=findings,
        details=details,
    )


def explained_by_length(
    gate: GateResult, candidate: Array, again: Callable[[Array], GateResult]
) -> GateResult:
    """Return `gate`, or, if it fails only because embeddings do not have length 1, one saying so.

    Args:
        gate: The result for `candidate`.
        candidate: The embeddings.
        again: Applies the gate to other embeddings.
    """
    lengths = np.linalg.norm(candidate.astype(np.float64), axis=1, keepdims=True)
    if gate.status != "failed" or not np.isfinite(lengths).all() or not lengths.all():
        return gate
    normalised = again((candidate / lengths).astype(candidate.dtype))
    if normalised.status != "passed":
        return gate
    what = "the embeddings are not normalised; otherwise they agree to "
    what += f"{normalised.measured:.2g}"
    found = f"{lengths.min():.6g} to {lengths.max():.6g}"
    return replace(gate, summary=what, findings=(Finding("", what, "length 1", found),))


def task_gate(
    reference: Array, candidate: Array, samples: Sequence[str], precision: str = "float32"
) -> GateResult:
    """Demand that pairwise distances and nearest neighbours of embeddings are unchanged.

    Distances may change by twice the limit of `float32_gate` (triangle inequality). A nearest
    neighbour may only change to one that is as near within that. `precision` as for `float32_gate`.
    """
    limit = 2 * FLOAT32_TOLERANCE * COARSENESS[precision]
    gate = GateResult(
        name="task",
        status="failed",
        formula=f"|distance(TensorFlow) - distance(torch)| < {limit:.3g} for each pair; "
        "nearest neighbours unchanged",
        tolerance=limit,
        measured=float("nan"),
        summary="",
    )
    problem = _incomparable(reference, candidate, "float32", answer_type(precision))
    if problem:
        return replace(gate, summary=problem)
    if len(samples) < 3:
        return replace(gate, status="skipped", summary="fewer than three samples")
    expected, found = (_pairwise(side) for side in (reference, candidate))
    moved = float(np.max(np.abs(expected - found)))
    changed = []
    for row, sample in enumerate(samples):
        nearest = int(np.argmin(np.where(np.arange(len(samples)) == row, np.inf, found[row])))
        best = np.min(np.delete(expected[row], row))
        if expected[row, nearest] > best + limit:
            changed.append(Finding(sample, f"its nearest neighbour became {samples[nearest]}"))
    return replace(
        gate,
        status="passed" if moved < limit and not changed else "failed",
        measured=moved,
        summary=f"distances moved by up to {moved:.2g}; {len(changed)} nearest neighbours changed",
        findings=tuple(changed),
    )


def l2(reference: Array, candidate: Array) -> Array:
    """Return the L2 distance of each pair of rows, computed in float64.

    Examples:
        >>> l2(np.array([[3.0, 4.0]]), np.zeros((1, 2)))
        array([5.])
    """
    gap = reference.astype(np.float64) - candidate.astype(np.float64)
    distances: Array = np.linalg.norm(gap, axis=1)
    return distances


def _root_mean_square(distances: Array, scale: Array) -> float:
    """Return that of the distances in units of their scale; a scale of 0 allows no distance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(distances == 0, 0.0, distances / scale)
    return float(np.sqrt(np.mean(times**2)))


def _pairwise(rows: Array) -> Array:
    exact = rows.astype(np.float64)
    distances: Array = np.linalg.norm(exact[:, None] - exact[None], axis=2)
    return distances


def _incomparable(reference: Array, candidate: Array, dtype: str, candidate_dtype: str) -> str:
    """Return why two sets of outputs can't be compared at all; empty if they can."""
    for name, side, wanted in (
        ("reference", reference, dtype),
        ("candidate", candidate, candidate_dtype),
    ):
        if side.dtype != wanted:
            return f"the {name} answers in {side.dtype}, not {wanted}"
        if not np.isfinite(side).all():
            return f"the {name} answers with NaN or infinity"
    if reference.shape != candidate.shape:
        return (
            f"the reference answers {list(reference.shape)}, the candidate {list(candidate.shape)}"
        )
    if not reference.size:
        return "there are no answers"
    return ""
