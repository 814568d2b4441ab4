"""Plan a conversion: map every tensor by its name, type and shape; values are not read.

Every source tensor is used once or dropped with a reason, every target is filled once, and every
shape is checked. Problems are collected as findings and raised together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from converter.architectures import ARCHITECTURES
from converter.architectures.record import Architecture
from converter.catalog import Catalog, Naming, TensorRef
from converter.dtypes import DType
from converter.findings import Finding, Kind, with_next_steps
from converter.layouts import AS_IS, Layout
from converter.rules import Dim, Part, Row, Rule, Synthesize, name_of
from facenet_common.errors import MappingError

PartChoice = Literal["all", "features", "logits"]


@dataclass(frozen=True)
class Edge:
    """The tensor `source` is converted to `target` with `layout`.

    `optional` is the row of a target that only some graphs of the network have. Whether this output
    needs it depends on the source's values: `converter.execute.settle` decides.
    """

    source: TensorRef
    target: str
    layout: Layout
    optional: Synthesize | None = None


@dataclass(frozen=True)
class Fill:
    """`target` is added: the source does not have it. Every element has the row's value."""

    target: str
    shape: tuple[int, ...]
    row: Synthesize


@dataclass(frozen=True)
class Dropped:
    """`source` is dropped. `unproven`: no rule says that the outputs do not depend on it."""

    source: TensorRef
    reason: str
    unproven: bool = False


@dataclass(frozen=True)
class Plan:
    """A complete, checked mapping.

    Args:
        architecture: The network.
        to: The framework of the output.
        dims: The sizes that the source decides, such as ``embedding`` and ``classes``.
        steps: The tensors of the output, in its order.
        dropped: The tensors of the source that the output does not have.
        notes: Remarks for the receipt.
    """

    architecture: Architecture
    to: Naming
    dims: Mapping[str, int]
    steps: tuple[Edge | Fill, ...]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...] = ()

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Return the tensors that are converted."""
        return tuple(step for step in self.steps if isinstance(step, Edge))

    @property
    def fills(self) -> tuple[Fill, ...]:
        """Return the tensors that are added."""
        return tuple(step for step in self.steps if isinstance(step, Fill))

    @property
    def unproven(self) -> tuple[TensorRef, ...]:
        """Return the dropped tensors that no rule explains: the outputs may depend on them."""
        return tuple(drop.source for drop in self.dropped if drop.unproven)


def detect(catalog: Catalog) -> Architecture:
    """Return the architecture of which the catalog has the greatest share of names.

    Raises:
        MappingError: The catalog has no name of any architecture.
    """

    def match(architecture: Architecture) -> float:
        names = [name_of(row, catalog.naming) for row in architecture.rows]
        wanted = [name for name in names if name is not None]
        return sum(name in catalog for name in wanted) / len(wanted)

    best = max(ARCHITECTURES.values(), key=match)
    if match(best) == 0.0:
        raise MappingError(
            "the tensors do not belong to a known architecture",
            file=str(catalog.files[0]),
            expected=", ".join(known.description for known in ARCHITECTURES.values()),
            found=f"{len(catalog)} tensors: {', '.join(list(catalog)[:4])}"
            + (", …" if len(catalog) > 4 else ""),
            next_step="list them with `facenet inspect`, and check that this is the right file",
        )
    return best


def make_plan(
    catalog: Catalog,
    *,
    to: Naming,
    part: PartChoice = "all",
    strict: bool = True,
    architecture: Architecture | None = None,
) -> Plan:
    """Map `catalog` to the names and layouts of the framework `to`.

    Args:
        catalog: The source.
        to: The framework of the output; it may be the source's own.
        part: The tensors to keep: all, the network without its classifier, or the classifier.
        strict: Refuse tensors that no rule explains; False lists them as `Plan.unproven`.
        architecture: The network; by default `detect` finds it.

    Raises:
        MappingError: The tensors don't fit; the error has all findings.

    Examples:
        >>> from converter.demo import variables
        >>> refs = {ref.name: ref for ref in variables(embedding=4, classes=0)}
        >>> catalog = Catalog(refs, format="demo", naming="tensorflow", files=())
        >>> make_plan(catalog, to="torch").steps[0].target
        'conv2d_1a.conv.weight'
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
            raise MappingError(
                f"the tensors don't fit {self.architecture.description}: "
                f"{len(self.findings)} problem{'s' * (len(self.findings) != 1)}",
                with_next_steps(self.findings),
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
        """Return the rows of each part that the source has, or must have."""
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
        """Return the part that must be complete: the network, or a classifier that is alone."""
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
            self._report("type", ref.name, wanted, str(ref.dtype))
        template = self._shape(row)
        bound = tuple(
            self.dims.setdefault(dim, size) if isinstance(dim, str) else dim
            for dim, size in zip(template, ref.shape, strict=False)
        )
        if bound != ref.shape or len(template) != len(ref.shape):
            expected = [
                self.dims.get(dim, dim) if isinstance(dim, str) else dim for dim in template
            ]
            self._report("shape", ref.name, str(expected), str(list(ref.shape)))

    def _report(
        self,
        kind: Kind,
        tensor: str,
        expected: str,
        found: str,
    ) -> None:
        self.findings.append(Finding(kind, tensor, expected, found))

    # --- steps

    def _step(self, row: Row) -> Edge | Fill | None:
        target = name_of(row, self.to)
        if target is None or self.part not in ("all", row.part):
            return None
        ref = self._find(row)
        if ref is not None:
            chosen = self.catalog.naming == "torch" and self.to == "tensorflow"
            optional = row if chosen and isinstance(row, Synthesize) else None
            return Edge(ref, target, self._layout(row), optional)
        template = tuple(self.dims.get(d, d) if isinstance(d, str) else d for d in self._shape(row))
        if isinstance(row, Synthesize) and self._may_lack(row):
            shape = tuple(0 if isinstance(dim, str) else dim for dim in template)
            return Fill(target, shape, row) if self.to == "torch" else None
        why = ", as other layers have" if self._name(row) in self.architecture.optional else ""
        expected = f"a tensor {list(template)}{why}"
        self._report("missing", str(self._name(row)), expected, "no tensor of this name")
        return None

    def _may_lack(self, row: Synthesize) -> bool:
        """Return whether the source is complete without the row's tensor."""
        if self.catalog.naming == "torch":
            return False
        return row.source is None or not self._has_optional

    @cached_property
    def _has_optional(self) -> bool:
        return not self.architecture.optional.isdisjoint(self.catalog)

    def _layout(self, row: Row) -> Layout:
        if not isinstance(row, Rule) or self.catalog.naming == self.to:
            return AS_IS
        return row.layout if self.to == "torch" else row.layout.inverse

    def _unmatched(self, row: Row) -> Dropped | None:
        """Return the row's source tensor as dropped if the output does not have it."""
        ref = self._find(row)
        assert ref is not None
        if self.part not in ("all", row.part):
            return Dropped(ref, f"not in --part {self.part}")
        if name_of(row, self.to) is None and isinstance(row, Synthesize):
            return Dropped(ref, row.reason)
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
                    "only tensors of the network",
                    f"{ref.dtype} {list(ref.shape)}",
                )
            else:
                dropped.append(Dropped(ref, "no rule explains it (--no-strict)", unproven=True))
        return dropped

    def _notes(self, rows: list[Row]) -> tuple[str, ...]:
        has_logits_part = any(row.part == "logits" for row in self.architecture.rows)
        if has_logits_part and not any(row.part == "logits" for row in rows):
            return (
                *self.catalog.notes,
                "the source has no classifier (Logits): the output computes embeddings only",
            )
        return self.catalog.notes


def target_dtype(step: Edge | Fill, dtype: DType | None) -> DType:
    """Return the element type of a step's output; floating types are cast to `dtype`, if given."""
    own = step.source.dtype if isinstance(step, Edge) else step.row.dtype
    return dtype if dtype is not None and own.floating else own
