"""What becomes of each tensor, decided from names, types and shapes alone; no data is touched.

Every source tensor is used once or dropped with a reason, every target is filled once, every
shape is checked. Problems are findings, collected and raised together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from converter.architectures import ARCHITECTURES
from converter.architectures.record import Architecture
from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import DType
from converter.layouts import AS_IS, Layout
from converter.rules import Dim, Part, Row, Rule, Synthesize
from facenet_common.errors import MappingError

PartChoice = Literal["all", "features", "logits"]


@dataclass(frozen=True)
class Finding:
    """One thing that doesn't fit: the tensor, what was expected, what is there, what to do."""

    kind: Literal["missing", "unexplained", "shape", "type"]
    tensor: str
    expected: str
    found: str
    next_step: str

    def __str__(self) -> str:
        return (
            f"[{self.kind}] {self.tensor}: expected {self.expected}, found {self.found}"
            f"{'; ' + self.next_step if self.next_step else ''}"
        )


@dataclass(frozen=True)
class Edge:
    """`source` becomes `target` through `layout`."""

    source: TensorRef
    target: str
    layout: Layout


@dataclass(frozen=True)
class Fill:
    """`target` is made up: every element is the row's value."""

    target: str
    shape: tuple[int, ...]
    row: Synthesize


@dataclass(frozen=True)
class Dropped:
    """`source` is left behind. With `only_if`, every element must be that value."""

    source: TensorRef
    reason: str
    only_if: int | None = None


@dataclass(frozen=True)
class Plan:
    """A complete, checked mapping. `steps` are in the order of the target."""

    architecture: Architecture
    to: Naming
    dims: Mapping[str, int]
    steps: tuple[Edge | Fill, ...]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...] = ()

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(step for step in self.steps if isinstance(step, Edge))

    @property
    def fills(self) -> tuple[Fill, ...]:
        return tuple(step for step in self.steps if isinstance(step, Fill))


def detect(catalog: Catalog) -> Architecture:
    """The architecture whose names the catalog has most of. MappingError where it has none."""

    def match(architecture: Architecture) -> float:
        names = [name_of(row, catalog.naming) for row in architecture.rows]
        wanted = [name for name in names if name is not None]
        return sum(name in catalog for name in wanted) / len(wanted)

    best = max(ARCHITECTURES.values(), key=match)
    if match(best) == 0.0:
        raise MappingError(
            "these tensors belong to no architecture that this program knows",
            file=str(catalog.files[0]),
            expected=", ".join(known.description for known in ARCHITECTURES.values()),
            found=f"{len(catalog)} tensors: {', '.join(list(catalog)[:4])}"
            + (", …" if len(catalog) > 4 else ""),
            next_step="`facenet inspect` lists them all; check that this is the right file",
        )
    return best


def name_of(row: Row, naming: Naming) -> str | None:
    """What the row's tensor is called on one side; None where it doesn't exist there."""
    if naming == "torch":
        return row.target
    return row.source if isinstance(row, Rule) else None


def make_plan(
    catalog: Catalog,
    *,
    to: Naming,
    part: PartChoice = "all",
    strict: bool = True,
    architecture: Architecture | None = None,
) -> Plan:
    """The mapping of `catalog` to the names and layouts of side `to`.

    `part` keeps all tensors or drops the classifier or everything else. With `strict`, a tensor
    that no rule explains is a finding; else it is dropped and listed. Raises MappingError with
    every finding.
    """
    planner = _Planner(catalog, to, part, architecture or detect(catalog))
    return planner.plan(strict)


@dataclass
class _Planner:
    catalog: Catalog
    to: Naming
    part: PartChoice
    architecture: Architecture
    dims: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def plan(self, strict: bool) -> Plan:
        rows = self._rows_of_parts()
        present = [row for row in rows if self._find(row) is not None]
        for row in present:
            self._check(row)
        steps = [step for row in rows if (step := self._step(row)) is not None]
        dropped = [drop for row in present if (drop := self._unmatched(row)) is not None]
        dropped += self._leftovers(strict)
        if self.findings:
            self._hint_renames()
            raise MappingError(
                f"the tensors don't fit {self.architecture.description}: "
                f"{len(self.findings)} problem{'s' * (len(self.findings) != 1)}",
                tuple(self.findings),
                file=str(self.catalog.files[0]) if self.catalog.files else "",
            )
        if self.to == "tensorflow":
            steps.sort(key=lambda step: step.target)
        return Plan(
            self.architecture, self.to, self.dims, tuple(steps), tuple(dropped), self._notes(rows)
        )

    # --- rows

    def _name(self, row: Row) -> str | None:
        return name_of(row, self.catalog.naming)

    def _find(self, row: Row) -> TensorRef | None:
        name = self._name(row)
        return None if name is None else self.catalog.get(name)

    def _rows_of_parts(self) -> list[Row]:
        """The rows of every part that the source has, or must have."""
        parts = {row.part for row in self.architecture.rows}
        wanted = [
            part
            for part in ("features", "logits")
            if part in parts
            and (any(self._find(row) for row in self._rows(part)) or part == self._required)
        ]
        return [row for part in wanted for row in self._rows(part)]

    @property
    def _required(self) -> Part:
        """A classifier alone is a whole file; otherwise the network itself must be there."""
        if self.part == "logits":
            return "logits"
        others = any(self._find(row) for row in self._rows("logits"))
        nothing_else = not any(self._find(row) for row in self._rows("features"))
        return "logits" if self.part == "all" and others and nothing_else else "features"

    def _rows(self, part: str) -> list[Row]:
        return [row for row in self.architecture.rows if row.part == part]

    # --- checks

    def _shape(self, row: Row) -> tuple[Dim, ...]:
        if self.catalog.naming == "tensorflow":
            return row.shape
        return row.target_shape if isinstance(row, Rule) else row.shape

    def _check(self, row: Row) -> None:
        ref = self._find(row)
        assert ref is not None
        floating = not isinstance(row, Synthesize) or row.dtype.floating
        if ref.dtype.floating != floating:
            wanted = "a floating type" if floating else str(row.dtype)  # type: ignore[union-attr] # only Synthesize is not floating
            self._report("type", ref.name, wanted, str(ref.dtype), "")
        template = self._shape(row)
        bound = tuple(
            self.dims.setdefault(dim, size) if isinstance(dim, str) else dim
            for dim, size in zip(template, ref.shape, strict=False)
        )
        if bound != ref.shape or len(template) != len(ref.shape):
            expected = [
                self.dims.get(dim, dim) if isinstance(dim, str) else dim for dim in template
            ]
            self._report("shape", ref.name, str(expected), str(list(ref.shape)), "")

    def _report(
        self,
        kind: Literal["missing", "unexplained", "shape", "type"],
        tensor: str,
        expected: str,
        found: str,
        next_step: str,
    ) -> None:
        self.findings.append(Finding(kind, tensor, expected, found, next_step))

    # --- steps

    def _step(self, row: Row) -> Edge | Fill | None:
        target = name_of(row, self.to)
        if target is None or self.part not in ("all", row.part):
            return None
        ref = self._find(row)
        if ref is not None:
            return Edge(ref, target, self._layout(row))
        if self._name(row) is None and isinstance(row, Synthesize):
            shape = tuple(self.dims.get(d, 0) if isinstance(d, str) else d for d in row.shape)
            return Fill(target, shape, row)
        name = self._name(row)
        template = [self.dims.get(d, d) if isinstance(d, str) else d for d in self._shape(row)]
        self._report("missing", str(name), f"a tensor {template}", "none of that name", "")
        return None

    def _layout(self, row: Row) -> Layout:
        if not isinstance(row, Rule) or self.catalog.naming == self.to:
            return AS_IS
        return row.layout if self.to == "torch" else row.layout.inverse

    def _unmatched(self, row: Row) -> Dropped | None:
        """A source tensor of a known row that doesn't go to the target."""
        ref = self._find(row)
        assert ref is not None
        if self.part not in ("all", row.part):
            return Dropped(ref, f"not in --part {self.part}")
        if name_of(row, self.to) is None and isinstance(row, Synthesize):
            return Dropped(ref, row.reason, row.value if row.binding else None)
        return None

    def _leftovers(self, strict: bool) -> list[Dropped]:
        known = {self._name(row) for row in self.architecture.rows}
        left = [ref for name, ref in self.catalog.items() if name not in known]
        reasons = self.architecture.drops() if left and self.catalog.naming == "tensorflow" else {}
        dropped = []
        for ref in left:
            if ref.name in reasons:
                dropped.append(Dropped(ref, reasons[ref.name]))
            elif strict:
                self._report(
                    "unexplained",
                    ref.name,
                    "only tensors that a rule explains",
                    f"{ref.dtype} {list(ref.shape)}",
                    "",
                )
            else:
                dropped.append(Dropped(ref, "unexplained; dropped because of --no-strict"))
        return dropped

    # --- words

    def _hint_renames(self) -> None:
        """Where a missing name resembles an unexplained one, say so; else say what to do."""
        from difflib import get_close_matches  # rarely needed

        unexplained = [f.tensor for f in self.findings if f.kind == "unexplained"]
        advice = {
            "missing": "the file is incomplete or of another model",
            "unexplained": "pass --no-strict to drop it, if you know what it is",
            "shape": "the tensor belongs to another model, or has been altered",
            "type": "save the model with floating-point weights",
        }
        for position, finding in enumerate(self.findings):
            close = (
                get_close_matches(finding.tensor, unexplained, 1, 0.6)
                if finding.kind == "missing" and len(unexplained) <= 100
                else []
            )
            hint = f"perhaps it was renamed to {close[0]}" if close else advice[finding.kind]
            self.findings[position] = Finding(
                finding.kind, finding.tensor, finding.expected, finding.found, hint
            )

    def _notes(self, rows: list[Row]) -> tuple[str, ...]:
        has_logits_part = any(row.part == "logits" for row in self.architecture.rows)
        if has_logits_part and not any(row.part == "logits" for row in rows):
            return (
                *self.catalog.notes,
                "no classifier (Logits) in the source: the result gives embeddings only",
            )
        return self.catalog.notes


def target_dtype(step: Edge | Fill, dtype: DType | None) -> DType:
    """The element type of a step's output; `dtype` is what floating types are cast to, if any."""
    own = step.source.dtype if isinstance(step, Edge) else step.row.dtype
    return dtype if dtype is not None and own.floating else own
