"""The gates: what is demanded of a candidate, each with its formula and what was measured.

A gate looks at arrays and catalogs that others have made; it runs no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.catalog import Catalog
from converter.compare import TensorDiff, diff
from parity_tests.model import Finding, GateResult

Array = npt.NDArray[Any]

FLOAT64_TOLERANCE = 1e-12  # the contract; measured: 1e-15
FLOAT32_TOLERANCE = 1e-5  # the project's contract; measured: 7e-7
# Both sides round the same sums in another order, so their distances from the float64 oracle are
# alike: the candidate's was measured at 0.6 (InceptionResnetV1) to 0.9 times (P-Net) the other.
ORACLE_FACTOR = 4.0
CLASSIFIER = ("Logits/", "logits.")


def weights_gate(source: Catalog, candidate: Catalog) -> GateResult:
    """Every tensor of the candidate equals the source's, bit for bit, after inverting the layout.

    A classifier that only one side has (frozen graphs lose theirs) is left out, and said.
    """
    diffs = list(diff(source, candidate))
    have = [any(name.startswith(CLASSIFIER) for name in side) for side in (source, candidate)]
    skipped = [d for d in diffs if d.name.startswith(CLASSIFIER) and have[0] != have[1]]
    wrong = [d for d in diffs if d.kind != "identical" and d not in skipped]
    compared = len(diffs) - len(skipped)
    summary = f"{compared - len(wrong)} of {compared} tensors identical"
    if skipped:
        side = "reference" if skipped[0].kind == "only in A" else "candidate"
        summary += f"; the classifier is only in the {side}"
    return GateResult(
        name="weights",
        status="passed" if compared and not wrong else "failed",
        formula="tensors that differ in any bit = 0",
        tolerance=0.0,
        measured=float(len(wrong)),
        summary=summary,
        findings=tuple(_finding(item) for item in wrong),
    )


def _finding(item: TensorDiff) -> Finding:
    if item.kind == "differs":
        what = f"{item.different:,} of {item.total:,} values differ"
        if item.max_abs is not None:
            what += f", by up to {item.max_abs:.3g}"
        return Finding(item.name, f"{what}{'; ' + item.detail if item.detail else ''}")
    words = {"only in A": "is missing", "only in B": "has no counterpart in the reference"}
    return Finding(item.name, words.get(item.kind, f"another {item.kind}: {item.detail}"))


def float64_gate(reference: Array, candidate: Array) -> GateResult:
    """The TensorFlow graph in float64 against the module in float64: answers, one row a sample."""
    problem = _unfit(reference, candidate, np.float64)
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
    reference: Array, candidate: Array, oracle: Array | None, samples: Sequence[str]
) -> GateResult:
    """The contract: each answer closer than 1e-5 (L2), and no farther from the truth than noise.

    With `oracle`, the answers in float64: the candidate may be at most `ORACLE_FACTOR` times as
    far from it as the reference is, on average over the samples.
    """
    problem = _unfit(reference, candidate, np.float32)
    if problem:
        return _float32(float("nan"), problem, ())
    distances = l2(reference, candidate)
    worst = int(np.argmax(distances))
    findings = tuple(
        Finding(sample, "another answer", "L2 < 1e-05", f"{distance:.3g}")
        for sample, distance in zip(samples, distances, strict=True)
        if not distance < FLOAT32_TOLERANCE
    )
    summary = f"{len(samples) - len(findings)} of {len(samples)} closer; the farthest: "
    summary += f"{samples[worst]}, {distances[worst]:.3g}"
    details: dict[str, float | int | str] = {"mean_l2": float(distances.mean())}
    if oracle is not None:
        noise, error = (float(l2(oracle, side).mean()) for side in (reference, candidate))
        details |= {"reference_to_oracle": noise, "candidate_to_oracle": error}
        summary += f"; from float64 {error:.2g}, TensorFlow {noise:.2g}"
        if not error <= ORACLE_FACTOR * noise:
            limit = f"at most {ORACLE_FACTOR:g} x {noise:.2g}"
            beyond = Finding("answers", "farther from float64 than noise", limit, f"{error:.2g}")
            findings = (*findings, beyond)
    return _float32(float(distances[worst]), summary, findings, details)


def _float32(
    measured: float,
    summary: str,
    findings: tuple[Finding, ...],
    details: dict[str, float | int | str] | None = None,
) -> GateResult:
    passed = measured < FLOAT32_TOLERANCE and not findings
    return GateResult(
        name="float32",
        status="passed" if passed else "failed",
        formula="L2(TensorFlow, torch) < 1e-5 for each answer; "
        f"L2(torch, float64) <= {ORACLE_FACTOR:g} L2(TensorFlow, float64) on average",
        tolerance=FLOAT32_TOLERANCE,
        measured=measured,
        summary=summary,
        findings=findings,
        details=details or {},
    )


def task_gate(reference: Array, candidate: Array, samples: Sequence[str]) -> GateResult:
    """What embeddings are for: their pairwise distances, and who is nearest to whom.

    Distances may move by twice the contract (the triangle inequality). A nearest neighbour may
    only change among those that are as near within that.
    """
    problem = _unfit(reference, candidate, np.float32)
    limit = 2 * FLOAT32_TOLERANCE
    if problem or len(samples) < 3:
        status = "failed" if problem else "skipped"
        summary = problem or "fewer than three samples"
        return _task(status, float("nan"), summary, ())
    one, two = (_pairwise(side) for side in (reference, candidate))
    moved = float(np.max(np.abs(one - two)))
    changed = []
    for row, sample in enumerate(samples):
        nearest = int(np.argmin(np.where(np.arange(len(samples)) == row, np.inf, two[row])))
        best = np.min(np.delete(one[row], row))
        if one[row, nearest] > best + limit:
            changed.append(Finding(sample, f"its nearest neighbour became {samples[nearest]}"))
    passed = moved < limit and not changed
    summary = f"distances moved by up to {moved:.2g}; {len(changed)} nearest neighbours changed"
    return _task("passed" if passed else "failed", moved, summary, tuple(changed))


def _task(status: str, measured: float, summary: str, findings: tuple[Finding, ...]) -> GateResult:
    return GateResult(
        name="task",
        status=status,  # type: ignore[arg-type] # one of the literals above
        formula="|distance(TensorFlow) - distance(torch)| < 2e-5 for each pair; "
        "nearest neighbours unchanged",
        tolerance=2 * FLOAT32_TOLERANCE,
        measured=measured,
        summary=summary,
        findings=findings,
    )


def l2(one: Array, other: Array) -> Array:
    """L2 distance of each row, computed in float64."""
    gap = one.astype(np.float64) - other.astype(np.float64)
    distances: Array = np.linalg.norm(gap, axis=1)
    return distances


def _pairwise(rows: Array) -> Array:
    wide = rows.astype(np.float64)
    distances: Array = np.linalg.norm(wide[:, None] - wide[None], axis=2)
    return distances


def _unfit(reference: Array, candidate: Array, dtype: type[np.floating[Any]]) -> str:
    """Why two sets of answers can't be compared at all, or an empty string."""
    for name, side in (("reference", reference), ("candidate", candidate)):
        if side.dtype != dtype:
            return f"the {name} answers in {side.dtype}, not {np.dtype(dtype)}"
        if not np.isfinite(side).all():
            return f"the {name} answers with NaN or infinity"
    if reference.shape != candidate.shape:
        return (
            f"the reference answers {list(reference.shape)}, the candidate {list(candidate.shape)}"
        )
    if not reference.size:
        return "there are no answers"
    return ""
