"""The commands ``facenet verify`` and ``facenet capture``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from converter.cli.options import step_option
from facenet_common.atomic import check_target
from facenet_common.commands import INTERRUPTED, json_option, print_json, reports_errors
from facenet_common.errors import FacenetError, UsageError
from facenet_common.progress import TerminalProgress
from parity_tests.candidate.precision import DTYPES

if TYPE_CHECKING:
    from typing import Literal

    from parity_tests.report import Form

FILE = click.Path(dir_okay=False, path_type=Path)
SELF_TEST_TAKES = ("self_test", "seed", "step", "mutants", "json_file")
_FEEDS = (
    click.option(
        "--images", type=click.Path(path_type=Path), help="Add the face images of this folder."
    ),
    click.option(
        "--count", type=click.IntRange(1), show_default="5", help="Images of each kind of noise."
    ),
    click.option(
        "--seed", type=click.IntRange(0), show_default="20180402", help="Seed of the noise."
    ),
    click.option(
        "--batch", type=click.IntRange(1), default=32, show_default=True, help="Images in a batch."
    ),
)


def feed_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose the images."""
    for option in reversed(_FEEDS):
        command = option(command)
    return command


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
@feed_options
@click.option(
    "--probes",
    type=click.Choice(["none", "blocks", "all"]),
    default="blocks",
    show_default=True,
    help="Layers to compare: none, every block, or every convolution too.",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Device that runs CANDIDATE: cpu, cuda, mps."
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="Type that CANDIDATE computes in; limits are wider for types that round more coarsely.",
)
@click.option("--compile", is_flag=True, help="Run CANDIDATE through torch.compile.")
@click.option(
    "--self-test",
    is_flag=True,
    help="Plant defects in CANDIDATE, one at a time, and count those that each gate finds.",
)
@click.option(
    "--mutants",
    type=click.IntRange(1),
    help="With --self-test: number of defects to plant, drawn at random (default: all).",
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
    count: int | None,
    seed: int | None,
    batch: int,
    probes: str,
    device: str,
    dtype: str,
    compile: bool,
    self_test: bool,
    mutants: int | None,
    step: int | None,
) -> None:
    """Run REFERENCE in TensorFlow and CANDIDATE in PyTorch on the same images, and compare them.

    REFERENCE is a checkpoint, a frozen graph, MTCNN's .npy, or a record made by `facenet capture`;
    CANDIDATE is a .pt, .safetensors or .onnx file. The checkpoint's own graph runs (.meta, or the
    frozen .pb), else the project's. Gates: weights bit for bit; both networks in float64 (1e-12);
    in float32 (L2 < 1e-5, and no farther from float64 than rounding explains); pairwise distances
    and nearest neighbours.

    \b
    Examples:
      facenet verify 20180402-114759 vggface2.pt
      facenet verify 20180402-114759 vggface2.pt --html report.html --junit parity.xml
      facenet verify 20180402-114759 vggface2.pt --probes all
      facenet verify reference.h5 vggface2.pt
      facenet verify 20180402-114759 vggface2.pt --device cuda --dtype float16
      facenet verify det3.npy onet.pt
      facenet verify 20180402-114759 vggface2.pt --self-test --mutants 100

    Exit codes: 0 every gate passed; 1 one did not, or no verdict was reached; 2 wrong usage;
    130 interrupted (the report of what was compared until then is marked partial).
    """
    files = {"json": json_file, "junit": junit_file, "markdown": markdown_file, "html": html_file}
    for path in files.values():
        if path:
            check_target(path, overwrite=True)
    if self_test:
        _check_self_test_options(click.get_current_context())
        sys.exit(_self_test(reference, candidate, seed, step, mutants, json_file))
    if mutants is not None:
        raise UsageError(
            "--mutants needs --self-test", next_step="add --self-test, or leave it out"
        )
    from parity_tests.open_sides import FeedOptions
    from parity_tests.report import save, show
    from parity_tests.verify import Options, verify

    options = Options(
        feeds=FeedOptions(count, seed, images),
        batch=batch,
        step=step,
        probes=cast('Literal["none", "blocks", "all"]', probes),
        device=device,
        dtype=dtype,
        compile=compile,
    )
    with TerminalProgress(counted=True) as progress:
        report = verify(reference, candidate, options, progress)
    problems = [
        _error_of(partial(save, report, path, cast("Form", form)))
        for form, path in files.items()
        if path
    ]
    show(report)
    _raise_first(problems)
    sys.exit(INTERRUPTED if report.partial else 0 if report.passed else 1)


def _error_of(write: Callable[[], None]) -> FacenetError | None:
    """Write a file; return the error, to be raised after the verdict has been printed."""
    try:
        write()
    except FacenetError as error:
        return error
    return None


def _raise_first(problems: Sequence[FacenetError | None]) -> None:
    for problem in problems:
        if problem:
            raise problem


def _check_self_test_options(context: click.Context) -> None:
    """Raise UsageError if an option was given that the self-test ignores."""
    given = [
        option
        for option in context.command.params
        if isinstance(option, click.Option)
        and context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        and option.name not in SELF_TEST_TAKES
    ]
    if given:
        raise UsageError(
            "--self-test takes only --seed, --step, --mutants and --json",
            found=", ".join(option.opts[0] for option in given),
        )


def _self_test(
    reference: str,
    candidate: str,
    seed: int | None,
    step: int | None,
    mutants: int | None,
    json_file: Path | None,
) -> int:
    """Run the self-test, print its outcome and return the exit code."""
    from parity_tests.open_sides import FeedOptions, open_candidate, open_live
    from parity_tests.reference.hdf5 import is_hdf5
    from parity_tests.report.files import save_text
    from parity_tests.selftest.report import passed, text, to_json
    from parity_tests.selftest.run import Outcome, reduce_feeds, selftest

    if is_hdf5(Path(reference)):
        raise UsageError(
            "the self-test compares layers in float64, which is not recorded",
            file=reference,
            next_step="give it the checkpoint itself",
        )
    side = open_live(reference, FeedOptions(seed=seed), step)
    reduce_feeds(side)
    outcomes: list[Outcome] = []
    interrupted = False
    with TerminalProgress(counted=True) as progress:
        try:
            outcomes.extend(selftest(side, open_candidate(candidate), mutants, progress))
        except KeyboardInterrupt:
            interrupted = True
    document = json.dumps(to_json(outcomes, partial=interrupted), indent=1) + "\n"
    problem = _error_of(partial(save_text, document, json_file)) if json_file else None
    click.echo(text(outcomes, partial=interrupted), nl=False)
    _raise_first([problem])
    return INTERRUPTED if interrupted else 0 if passed(outcomes) else 1


@click.command(
    "capture",
    short_help="Record the outputs of a TensorFlow graph.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("reference")
@click.option("--out", type=FILE, required=True, help="The HDF5 file to write: NAME.h5 or .hdf5.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@feed_options
@click.option(
    "--probes",
    type=click.Choice(["none", "blocks", "all"]),
    default="blocks",
    show_default=True,
    help="Layers whose activations are recorded for the first feed, to compare them later.",
)
@step_option
@json_option
@reports_errors
def capture_command(
    reference: str,
    out: Path,
    overwrite: bool,
    images: Path | None,
    count: int | None,
    seed: int | None,
    batch: int,
    probes: str,
    step: int | None,
    as_json: bool,
) -> None:
    """Run REFERENCE in TensorFlow, and record everything that `facenet verify` needs of it.

    REFERENCE is a checkpoint, a frozen graph or MTCNN's .npy. The record contains the images, the
    outputs in float32 and float64, activations of layers, and a hash of every weight. With it,
    weights can be verified without TensorFlow and without the checkpoint.

    \b
    Examples:
      facenet capture 20180402-114759 --out reference.h5
      facenet capture 20180402-114759 --out reference.h5 --images faces/ --probes all
      facenet verify reference.h5 vggface2.pt

    Exit codes: 0 recorded; 1 it can't be run or written; 2 wrong usage; 130 interrupted.
    """
    from parity_tests.batches import Batches
    from parity_tests.open_sides import STORES, FeedOptions, open_live
    from parity_tests.reference.recorded import capture

    if out.suffix not in STORES:
        raise UsageError(
            "the name of a recorded reference must end in .h5 or .hdf5",
            file=out,
            next_step=f"--out {shlex.quote(f'{out}.h5')}",
        )
    check_target(out, overwrite=overwrite)
    usage = f"facenet capture CHECKPOINT --out {shlex.quote(str(out))}"
    side = open_live(reference, FeedOptions(count, seed, images), step, usage)
    which = None if probes == "none" else cast('Literal["blocks", "all"]', probes)
    with TerminalProgress(counted=True) as progress:
        batches = Batches(batch, progress)
        about = capture(side, out, which, batches)
    if as_json:
        print_json({"file": str(out), "bytes": out.stat().st_size, **about})
        return
    samples, layered = sum(len(feed.samples) for feed in side.feeds), len(side.feeds[0].images)
    click.echo(f"{side.description}, recorded")
    click.echo(f"  output   {out} ({out.stat().st_size / 1e6:.1f} MB)")
    click.echo(f"  outputs  for {samples} images, in float32 and float64")
    click.echo(f"  layers   {about['activations']} activations for {layered} images")
    for note in batches.notes:
        click.echo(f"  note     {note}")
