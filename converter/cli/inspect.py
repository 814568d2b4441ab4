"""``facenet inspect``: list the contents of a weight file, from its metadata alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from converter.cli.options import short_command, step_option
from facenet_common.commands import json_option, print_json, reports_errors
from facenet_common.errors import MappingError
from facenet_common.text import one_line, summarise

if TYPE_CHECKING:
    from converter.catalog import Catalog
    from converter.plan import Plan
    from converter.resolve import Source


@click.command(
    "inspect",
    short_help="List the contents of a weight file.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("source")
@step_option
@click.option("--summary", is_flag=True, help="Print the summary without the table of tensors.")
@json_option
@reports_errors
@short_command
def command(source: str, step: int | None, summary: bool, as_json: bool) -> None:
    """List the contents of SOURCE: format, architecture, and every tensor's type and shape.

    Only metadata is read, and the SHA-256 of files that are named like published ones.

    \b
    Examples:
      facenet inspect 20180402-114759
      facenet inspect det1.npy
      facenet inspect vggface2.pt --json
    """
    from converter.published import remark
    from converter.resolve import resolve  # NumPy: not needed for --help

    resolved = resolve(source, step)
    catalog = resolved.open()
    published = remark(catalog.files)
    catalog.notes += (published,) if published else ()
    plan, problem = _plan(catalog)
    if as_json:
        print_json(_to_json(resolved, catalog, plan, problem))
        return
    click.echo(_header(resolved, catalog, plan, problem))
    if not summary:
        click.echo(_table(catalog, _actions(plan)))


def _plan(catalog: Catalog) -> tuple[Plan | None, MappingError | None]:
    """Return the plan to convert the catalog, or the error that prevents it."""
    from converter.plan import make_plan

    try:
        return make_plan(
            catalog, to="torch" if catalog.naming == "tensorflow" else "tensorflow", strict=False
        ), None
    except MappingError as error:
        return None, error


def _actions(plan: Plan | None) -> dict[str, str]:
    if plan is None:
        return {}
    actions = {}
    for edge in plan.edges:
        value = f", if any is not {edge.optional.value}" if edge.optional else ""
        actions[edge.source.name] = f"→ {edge.target}{value}"
    for drop in plan.dropped:
        known = f"dropped: {drop.reason}"
        actions[drop.source.name] = "UNEXPLAINED: no rule maps it" if drop.unproven else known
    return actions


def _header(
    resolved: Source, catalog: Catalog, plan: Plan | None, problem: MappingError | None
) -> str:
    from converter.sources.archive import size

    rows = [("source", str(resolved.path)), ("format", catalog.format)]
    rows += [("file", f"{path.name}  {size(path):,} bytes") for path in catalog.files]
    if resolved.graph:
        rows.append(("graph", resolved.graph.name))
    if plan:
        sizes = "".join(f", {name} {size}" for name, size in plan.dims.items())
        rows.append(("network", plan.architecture.description + sizes))
        rows += [("note", note) for note in plan.notes]
        unproven = plan.unproven
        if unproven:
            names = summarise((ref.name for ref in unproven), 3)
            what = f"no rule explains {len(unproven)} of the tensors: {names}"
            rows.append(("problem", what))
    if problem:
        rows.append(("network", f"can't be converted: {problem}"))
    rows.append(("tensors", f"{len(catalog)}, {catalog.nbytes:,} bytes"))
    return "\n".join(f"{label:<9}{value}" for label, value in rows)


def _table(catalog: Catalog, actions: Mapping[str, str]) -> str:
    labels = {name: one_line(name) for name in catalog}
    names = max(map(len, labels.values()), default=0)
    shapes = max((len(str(list(ref.shape))) for ref in catalog.values()), default=0)
    return "\n".join(
        f"{labels[name]:<{names}}  {ref.dtype.name:<8}  {list(ref.shape)!s:<{shapes}}  "
        f"{one_line(actions.get(name, ''))}".rstrip()
        for name, ref in catalog.items()
    )


def _to_json(
    resolved: Source, catalog: Catalog, plan: Plan | None, problem: MappingError | None
) -> dict[str, object]:
    from converter.sources.archive import size

    actions = _actions(plan)
    return {
        "source": str(resolved.path),
        "format": catalog.format,
        "files": [{"path": str(p), "size": size(p)} for p in catalog.files],
        "graph": str(resolved.graph) if resolved.graph else None,
        "architecture": plan.architecture.name if plan else None,
        "dimensions": dict(plan.dims) if plan else None,
        "notes": list(plan.notes if plan else catalog.notes),
        "problem": problem.to_json() if problem else None,
        "unexplained": [ref.name for ref in plan.unproven] if plan else None,
        "tensors": [
            {
                "name": name,
                "dtype": ref.dtype.name,
                "shape": list(ref.shape),
                "bytes": ref.nbytes,
                "fate": actions.get(name),
            }
            for name, ref in catalog.items()
        ],
    }
