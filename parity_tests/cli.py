"""``facenet verify`` and ``facenet capture``: run both networks and judge; record one."""

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
    click.option("--images", type=click.Path(path_type=Path), help="Add the faces of this folder."),
    click.option(
        "--count", type=click.IntRange(1), show_default="5", help="Images of each kind of noise."
    ),
    click.option("--seed", type=click.IntRange(0), show_default="20180402", help="Of the noise."),
    click.option(
        "--batch", type=click.IntRange(1), default=32, show_default=True, help="Images at a time."
    ),
)


def feed_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is fed."""
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
    help="Where to compare on the way: nowhere, at every block, or at every convolution too.",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Where CANDIDATE runs: cpu, cuda, mps."
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="What CANDIDATE computes in. What rounds more coarsely is held to limits as much wider.",
)
@click.option("--compile", is_flag=True, help="Run CANDIDATE through torch.compile.")
@click.option(
    "--self-test",
    is_flag=True,
    help="Break CANDIDATE on purpose, one defect at a time, and count what each gate notices.",
)
@click.option(
    "--mutants", type=click.IntRange(1), help="With --self-test: so many defects, not all."
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
    """Feed identical images to REFERENCE in TensorFlow and to CANDIDATE in PyTorch, and judge.

    REFERENCE is a checkpoint, a frozen graph, MTCNN's .npy, or what `facenet capture` recorded;
    CANDIDATE a .pt, .safetensors or .onnx file. The checkpoint's own graph runs (.meta, or the
    frozen .pb), else the project's. Gates: weights bit for bit; both networks in float64 (1e-12);
    in float32 (L2 < 1e-5, and no farther from float64 than TensorFlow's own rounding); pairwise
    distances and nearest neighbours.

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
    130 interrupted (what was found until then is reported, and called partial).
    """
    files = {"json": json_file, "junit": junit_file, "markdown": markdown_file, "html": html_file}
    for path in files.values():
        if path:
            check_target(path, overwrite=True)
    if self_test:
        _refuse_others(click.get_current_context())
        sys.exit(_self_test(reference, candidate, seed, step, mutants, json_file))
    if mutants is not None:
        raise UsageError("--mutants goes with --self-test")
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
        _problem(partial(save, report, path, cast("Form", form)))
        for form, path in files.items()
        if path
    ]
    show(report)
    _raise_first(problems)
    sys.exit(INTERRUPTED if report.partial else 0 if report.passed else 1)


def _problem(write: Callable[[], None]) -> FacenetError | None:
    """What keeps a file from being written. It is said after the verdict, which took longer."""
    try:
        write()
    except FacenetError as error:
        return error
    return None


def _raise_first(problems: Sequence[FacenetError | None]) -> None:
    for problem in problems:
        if problem:
            raise problem


def _refuse_others(context: click.Context) -> None:
    """UsageError if an option is given that the self-test can't heed; defaults are not given."""
    given = [
        option
        for option in context.command.params
        if isinstance(option, click.Option)
        and context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        and option.name not in SELF_TEST_TAKES
    ]
    if given:
        raise UsageError(
            "--self-test goes with --seed, --step, --mutants and --json only",
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
    """Run it and print what it found; the exit code."""
    from parity_tests.open_sides import FeedOptions, open_candidate, open_live
    from parity_tests.reference.hdf5 import is_store
    from parity_tests.report.files import save_text
    from parity_tests.selftest.report import passed, text, to_json
    from parity_tests.selftest.run import Outcome, reference_feeds, selftest

    if is_store(Path(reference)):
        raise UsageError(
            "the self-test compares layers in float64, which is not recorded",
            file=reference,
            next_step="give it the checkpoint itself",
        )
    side = open_live(reference, FeedOptions(seed=seed), step)
    reference_feeds(side)
    outcomes: list[Outcome] = []
    interrupted = False
    with TerminalProgress(counted=True) as progress:
        try:
            outcomes.extend(selftest(side, open_candidate(candidate), mutants, progress))
        except KeyboardInterrupt:
            interrupted = True
    said = json.dumps(to_json(outcomes, partial=interrupted), indent=1) + "\n"
    problem = _problem(partial(save_text, said, json_file)) if json_file else None
    click.echo(text(outcomes, partial=interrupted), nl=False)
    _raise_first([problem])
    return INTERRUPTED if interrupted else 0 if passed(outcomes) else 1


@click.command(
    "capture",
    short_help="Record what a TensorFlow graph answers.",
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
    help="Record what these layers give for the first feed, to compare layer by layer later.",
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
    """Run REFERENCE in TensorFlow, and record all that `facenet verify` needs of it.

    REFERENCE is a checkpoint, a frozen graph or MTCNN's .npy. Recorded are the images, the answers
    in float32 and float64, the layers' activations, and a hash of every weight. Where that file is,
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
            "a recorded reference is a file that ends in .h5 or .hdf5",
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
    click.echo(f"  answers  to {samples} images, in float32 and float64")
    click.echo(f"  layers   {about['activations']} activations for {layered} images")
    for note in batches.notes:
        click.echo(f"  note     {note}")
