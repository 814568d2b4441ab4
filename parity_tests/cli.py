"""``facenet verify``: run both networks side by side and judge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from converter.cli.common import TerminalListener, reports_errors, step_option

if TYPE_CHECKING:
    from typing import Literal

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "verify",
    short_help="Compare a TensorFlow graph with PyTorch weights.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("reference")
@click.argument("candidate")
@click.option("--json", "json_file", type=FILE, help="Write the report as JSON.")
@click.option("--junit", "junit_file", type=FILE, help="Write it as JUnit XML, for CI servers.")
@click.option("--markdown", "markdown_file", type=FILE, help="Write it as Markdown.")
@click.option("--html", "html_file", type=FILE, help="Write it as one self-contained page.")
@click.option("--images", type=click.Path(path_type=Path), help="Add the faces of this folder.")
@click.option(
    "--count", type=click.IntRange(1), default=5, show_default=True, help="Images of noise."
)
@click.option(
    "--seed", type=click.IntRange(0), default=20180402, show_default=True, help="Of the noise."
)
@click.option(
    "--batch", type=click.IntRange(1), default=32, show_default=True, help="Images at a time."
)
@click.option(
    "--probes",
    type=click.Choice(["none", "blocks", "all"]),
    default="blocks",
    show_default=True,
    help="Where to compare on the way: nowhere, at every block, or at every convolution too.",
)
@step_option
@reports_errors
def verify_command(
    reference: str,
    candidate: str,
    json_file: Path | None,
    junit_file: Path | None,
    markdown_file: Path | None,
    html_file: Path | None,
    images: Path | None,
    count: int,
    seed: int,
    batch: int,
    probes: str,
    step: int | None,
) -> None:
    """Feed identical images to REFERENCE in TensorFlow and to CANDIDATE in PyTorch, and judge.

    REFERENCE is a checkpoint, a frozen graph or MTCNN's .npy; CANDIDATE a .pt or .safetensors.
    The checkpoint's own graph runs (.meta, or the frozen .pb), else the project's. Gates: weights
    bit for bit; both networks in float64 (1e-12); in float32 (L2 < 1e-5, and no farther from
    float64 than TensorFlow's own rounding); pairwise distances and nearest neighbours.

    \b
    Examples:
      facenet verify 20180402-114759 vggface2.pt
      facenet verify 20180402-114759 vggface2.pt --html report.html --junit parity.xml
      facenet verify 20180402-114759 vggface2.pt --probes all
      facenet verify det3.npy onet.pt

    Exit codes: 0 every gate passed; 1 one did not, or no verdict was reached; 2 wrong usage.
    """
    from parity_tests.report import save, show
    from parity_tests.verify import Options, verify

    options = Options(
        count=count,
        seed=seed,
        images=images,
        batch=batch,
        step=step,
        probes=cast('Literal["none", "blocks", "all"]', probes),
    )
    with TerminalListener() as listener:
        report = verify(reference, candidate, options, listener.say)
    if json_file:
        save(report, json_file, "json")
    if junit_file:
        save(report, junit_file, "junit")
    if markdown_file:
        save(report, markdown_file, "markdown")
    if html_file:
        save(report, html_file, "html")
    show(report)
    sys.exit(0 if report.passed else 1)
