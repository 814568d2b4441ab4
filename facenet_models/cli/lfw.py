"""``facenet lfw``: evaluate a network on Labeled Faces in the Wild."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from facenet_common.commands import json_option, print_json, reports_errors
from facenet_common.errors import UsageError
from facenet_common.text import count, printable
from facenet_models.cli.embed import MAX_LISTED, build, model_options

if TYPE_CHECKING:
    from facenet_models.lfw.protocol import LeftOut
    from facenet_models.recognition.distances import Metric


@click.command(
    "lfw",
    short_help="Measure verification on LFW's pairs.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--pairs",
    "pairs_file",
    required=True,
    metavar="PAIRS",
    type=click.Path(path_type=Path),
    help="LFW's pairs.txt.",
)
@click.option(
    "--embeddings",
    "embeddings_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Use this file of embeddings (from facenet embed) instead of FOLDER and --weights.",
)
@model_options
@click.option(
    "--metric",
    type=click.Choice(["euclidean", "cosine"]),
    default="euclidean",
    show_default=True,
    help="Squared Euclidean distance, or the angle.",
)
@click.option("--subtract-mean", is_flag=True, help="Subtract the training folds' mean embedding.")
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    help="Folds of the cross-validation.",
)
@click.option(
    "--exact", is_flag=True, help="Try every threshold. Default: the original's, in steps of 0.01."
)
@click.option(
    "--plot",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Plot the ROC curve to this file: NAME.png, .pdf or .svg.",
)
@click.option("--overwrite", is_flag=True, help="Replace the plot if it exists.")
@json_option
@reports_errors
def command(
    folder: Path | None,
    pairs_file: Path,
    embeddings_file: Path | None,
    weights: str | None,
    detector_weights: Path | None,
    aligned: bool,
    image_size: int,
    margin: int,
    flip: bool,
    batch_size: int,
    device: str,
    metric: str,
    subtract_mean: bool,
    folds: int,
    exact: bool,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Classify LFW's 6,000 pairs by the distance of their embeddings, in 10 folds.

    Prints accuracy, validation rate at a false accept rate of 0.001, area under the ROC curve and
    equal error rate, computed as in the original's validate_on_lfw.py. Pairs whose images are
    missing, unreadable or without a face are listed and left out.

    \b
    Examples:
      facenet lfw lfw/ --pairs pairs.txt --weights vggface2.pt --detector-weights mtcnn/
      facenet lfw lfw_160/ --pairs pairs.txt --weights vggface2.pt --aligned --flip
      facenet lfw --embeddings lfw.npz --pairs pairs.txt --metric cosine --plot roc.png

    Exit codes: 0 done; 1 too few pairs are left, or a file is damaged; 2 wrong usage.
    """
    from facenet_models.lfw.plot import check_plot, plot_roc
    from facenet_models.lfw.protocol import evaluate, locate, read_pairs
    from facenet_models.recognition.embeddings import Embeddings
    from facenet_models.recognition.pipeline import embed

    if plot is not None:
        check_plot(plot, overwrite=overwrite)
    if embeddings_file is not None:
        if folder is not None or weights is not None or aligned or flip:
            raise UsageError(
                "FOLDER, --weights, --aligned and --flip can't be used with --embeddings"
            )
        pairs = read_pairs(pairs_file)
        embeddings = Embeddings.load(embeddings_file)
    else:
        if folder is None or weights is None:
            raise UsageError("pass FOLDER and --weights, or --embeddings")
        pairs = read_pairs(pairs_file)
        files = locate(folder, pairs.faces)
        model, detector = build(weights, detector_weights, aligned, image_size, margin, device)
        embeddings = embed(
            files.values(),
            model,
            detector,
            batch_size=batch_size,
            names=list(files),
            image_size=image_size,
            flip=flip,
        )
    result = evaluate(embeddings, pairs, folds, cast("Metric", metric), subtract_mean, exact=exact)
    if plot is not None:
        plot_roc(result, plot, overwrite=overwrite)
    if as_json:
        print_json(result.to_json() | ({} if plot is None else {"plot": str(plot)}))
        return
    click.echo(result.summary())
    if plot is not None:
        click.echo(f"Plot      {plot}")
    if result.left_out:
        _report_left_out(result.left_out)


def _report_left_out(left_out: tuple[LeftOut, ...]) -> None:
    click.echo(f"{count(len(left_out), 'pair')} left out:", err=True)
    for pair, reason in left_out[:MAX_LISTED]:
        click.echo(f"  line {pair.line}: {printable(reason)}", err=True)
    if len(left_out) > MAX_LISTED:
        click.echo(f"  and {len(left_out) - MAX_LISTED} more; --json lists all", err=True)
