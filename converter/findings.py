"""Findings: the problems of a plan, one for each tensor (or layer), with the next step for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["missing", "unexplained", "shape", "type", "setting"]

_NEXT_STEPS: dict[Kind, str] = {
    "missing": "the file is incomplete, or of another model",
    "unexplained": "pass --no-strict to drop it, if you know what it is",
    "shape": "the tensor belongs to another model, or was changed",
    "type": "save the model with floating-point weights",
    "setting": "the weights belong to a changed network",
}
_MAX_CANDIDATES = 100  # unexplained names; comparing all pairs of more takes seconds
_SIMILARITY = 0.6  # difflib's default cutoff


@dataclass(frozen=True)
class Finding:
    """One tensor that does not fit: its name, what was expected and found, and the next step."""

    kind: Kind
    tensor: str
    expected: str
    found: str
    next_step: str = ""

    def __str__(self) -> str:
        next_step = f"; {self.next_step}" if self.next_step else ""
        return (
            f"[{self.kind}] {self.tensor}: expected {self.expected}, found {self.found}{next_step}"
        )


def with_next_steps(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return `findings` with the next step of each.

    For a missing tensor it is a similar name among the unexplained ones, if there is one.

    Examples:
        >>> missing = Finding("missing", "conv1/weights", "a tensor [3]", "no tensor of this name")
        >>> extra = Finding("unexplained", "conv1/weight", "only tensors of the network", "float32")
        >>> with_next_steps([missing, extra])[0].next_step
        'it may have been renamed to conv1/weight'
    """
    unexplained = [finding.tensor for finding in findings if finding.kind == "unexplained"]
    candidates = unexplained if len(unexplained) <= _MAX_CANDIDATES else []
    from difflib import get_close_matches  # most conversions have no finding

    def next_step(finding: Finding) -> str:
        if finding.kind == "missing":
            for similar in get_close_matches(finding.tensor, candidates, 1, _SIMILARITY):
                return f"it may have been renamed to {similar}"
        return _NEXT_STEPS[finding.kind]

    return tuple(replace(finding, next_step=next_step(finding)) for finding in findings)
