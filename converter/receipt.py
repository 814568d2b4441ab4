"""The record of a conversion, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converter import __version__
from converter.dtypes import DType
from converter.plan import Edge, Plan, target_dtype
from facenet_common.text import one_line

SCHEMA = "facenet-parity/receipt/4"
_NAMED = 10  # unproven tensors that the text names; JSON has all of them


@dataclass(frozen=True)
class FileRecord:
    """The path, size in bytes and SHA-256 of a file."""

    path: Path
    size: int
    sha256: str

    def to_json(self) -> dict[str, object]:
        """Return the record as plain data."""
        return {"path": str(self.path), "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True)
class Receipt:
    """The record of a finished conversion.

    Args:
        plan: The mapping that was carried out.
        source: The path of the source.
        source_format: The name of its format.
        source_files: Its files; empty unless their hashes were requested.
        output: The path of the output.
        output_format: The name of its format.
        output_files: Its files.
        digest: The tensor digest of the output (see `converter.digest`).
        part: The tensors that were converted: all, features or logits.
        dtype: The type that floating-point tensors were cast to; None: each kept its own.
        parity: The result of ``--verify``.
        parity_summary: The same as text.
    """

    plan: Plan
    source: Path
    source_format: str
    source_files: tuple[FileRecord, ...]
    output: Path
    output_format: str
    output_files: tuple[FileRecord, ...]
    digest: str
    part: str
    dtype: DType | None = None
    parity: Mapping[str, object] | None = None
    parity_summary: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the record as plain data, in the form that docs/convert.md describes."""
        plan = self.plan
        return {
            "schema": SCHEMA,
            "version": __version__,
            "architecture": plan.architecture.name,
            "dimensions": dict(plan.dims),
            "part": self.part,
            "dtype": self.dtype.name if self.dtype else None,
            "source": {
                "path": str(self.source),
                "format": self.source_format,
                "files": [file.to_json() for file in self.source_files],
            },
            "output": {
                "path": str(self.output),
                "format": self.output_format,
                "files": [file.to_json() for file in self.output_files],
                "tensor_digest": self.digest,
            },
            "mapped": [_edge(edge) for edge in plan.edges],
            "synthesized": [
                {"target": fill.target, "value": fill.row.value, "reason": fill.row.reason}
                for fill in plan.fills
            ],
            "dropped": [
                {"source": drop.source.name, "reason": drop.reason} for drop in plan.dropped
            ],
            "unproven": [ref.name for ref in plan.unproven],
            "notes": list(plan.notes),
            "read_back": f"{self._values('bitwise identical to the source')} after inverting "
            "every layout",
            "parity": self.parity,
        }

    def summary(self) -> str:
        """Return a short text for a terminal."""
        plan = self.plan
        sizes = "".join(f", {name} {size}" for name, size in plan.dims.items())
        lines = [
            f"{plan.architecture.description}{sizes}",
            _row("source", f"{self.source} ({self.source_format})"),
            _row("output", f"{self.output} ({self.output_format})"),
        ]
        lines += [
            _row("", f"{file.path.name}  {_megabytes(file.size)}")
            for file in self.output_files
            if len(self.output_files) > 1
        ]
        if len(self.output_files) == 1:
            lines.append(_row("size", _megabytes(self.output_files[0].size)))
            lines.append(_row("SHA-256", self.output_files[0].sha256))
        lines.append(_row("digest", f"{self.digest} (tensors)"))
        lines.append(_row("mapped", f"{len(plan.edges)} tensors{self._layouts()}"))
        added = Counter(fill.row.reason for fill in plan.fills)
        dropped = Counter(drop.reason for drop in plan.dropped)
        lines += _rows("added", [f"{count} {reason}" for reason, count in added.items()])
        lines += _rows("dropped", [f"{count} x {reason}" for reason, count in dropped.items()])
        lines += [_row("note", note) for note in plan.notes]
        values = self._values("identical to the source, bit for bit")
        lines.append(_row("checked", f"read back and mapped back: {values}"))
        if self.parity_summary:
            lines.append(_row("parity", self.parity_summary.replace("\n", "\n" + " " * 11)))
        lines += _rows("UNPROVEN", self._unproven())
        return "\n".join(lines)

    def _unproven(self) -> list[str]:
        """Return what nothing proves about the output, as rows of text; no rows if all is."""
        refs = self.plan.unproven
        if not refs:
            return []
        rest = [f"… and {len(refs) - _NAMED} more (all with --json)"] if len(refs) > _NAMED else []
        return [
            f"the output may not compute what the source does: it lacks {len(refs)} "
            f"tensor{'s' * (len(refs) != 1)} that no rule explains",
            *(f"{one_line(ref.name)}  {ref.dtype} {list(ref.shape)}" for ref in refs[:_NAMED]),
            *rest,
            "facenet verify judges it, and fails where the source's outputs may depend on them",
        ]

    def _values(self, unchanged: str) -> str:
        """Return `unchanged`, or how the output's values differ from the source's by a cast."""
        pairs = [(edge.source.dtype, target_dtype(edge, self.dtype)) for edge in self.plan.edges]
        cast = [pair for pair in pairs if pair[0] is not pair[1]]
        if not cast:
            return unchanged
        how = "widened" if all(one.widens_to(other) for one, other in cast) else "rounded"
        return f"each value is the source's, {how} to {self.dtype}"

    def _layouts(self) -> str:
        layouts = Counter(edge.layout.name for edge in self.plan.edges if edge.layout.axes)
        return "".join(f"; {count} {name}" for name, count in layouts.items())


def _edge(edge: Edge) -> dict[str, object]:
    return {
        "source": edge.source.name,
        "target": edge.target,
        "layout": edge.layout.name,
        "source_dtype": edge.source.dtype.name,
        "source_shape": list(edge.source.shape),
    }


def _rows(label: str, values: list[str]) -> list[str]:
    """Return one row for each value; the first has the label."""
    return [_row("" if number else label, value) for number, value in enumerate(values)]


def _row(label: str, value: str) -> str:
    return f"  {label:<9}{value}"


def _megabytes(size: int) -> str:
    return f"{size:,} bytes" if size < 1_000_000 else f"{size / 1e6:,.1f} MB"
