"""``facenet diff``: compare two weight files tensor by tensor."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import click

from converter.cli.options import short_command
from facenet_common.commands import json_option, print_json, reports_errors
from facenet_common.text import one_line

if TYPE_CHECKING:
    from converter.compare import TensorDiff

MAX_ROWS = 20  # differing tensors that are listed without --all


@click.command(
    "diff",
    short_help="Compare two weight files, bit for bit.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--all", "every", is_flag=True, help="List all tensors that differ, not only the first 20."
)
@json_option
@reports_errors
@short_command
def command(a: str, b: str, every: bool, as_json: bool) -> None:
    """Compare the tensors of A and B, bit for bit.

    The formats may differ. To compare a TensorFlow checkpoint with PyTorch weights, it is converted
    in memory; a tensor that no rule explains is a difference, variables of its training are not.

    \b
    Examples:
      facenet diff vggface2.pt other.pt
      facenet diff vggface2.pt vggface2.safetensors
      facenet diff 20180402-114759 vggface2.pt

    Exit codes: 0 identical; 1 they differ; 2 wrong usage.
    """
    from converter.compare import diff  # NumPy: not needed for --help
    from converter.resolve import resolve

    diffs = list(diff(resolve(a).open(), resolve(b).open()))
    counts = Counter(item.kind for item in diffs)
    identical = all(item.agrees for item in diffs)
    if as_json:
        print_json(
            {
                "identical": identical,
                "counts": dict(counts),
                "tensors": [item.to_json() for item in diffs],
            }
        )
    else:
        wrong = [item for item in diffs if not item.agrees]
        shown = wrong if every else wrong[:MAX_ROWS]
        for item in shown:
            click.echo(_line(item))
        if len(wrong) > len(shown):
            click.echo(f"… and {len(wrong) - len(shown)} more (--all lists them)")
        words = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        click.echo(f"{'identical' if identical else 'different'}: {words or 'no tensors'}")
    sys.exit(0 if identical else 1)


def _line(item: TensorDiff) -> str:
    parts = [f"{item.kind:<11} {one_line(item.name)}"]
    if item.kind == "differs":
        parts.append(f"{item.different:,} of {item.total:,} values")
        if item.max_abs is not None:
            parts.append(f"max |A-B| {item.max_abs:.3g}")
        if item.max_ulp is not None:
            parts.append(f"{item.max_ulp:,} ulp")
    if item.detail:
        parts.append(one_line(item.detail))
    return "  ".join(parts)
