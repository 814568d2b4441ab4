"""Plot the ROC curve of an evaluation on LFW."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from facenet_common.atomic import check_target, write_file
from facenet_common.errors import UsageError
from facenet_common.optional import require
from facenet_models.lfw.result import LfwResult

FORMATS = (".png", ".pdf", ".svg")
LOWEST_RATE = 1e-4  # left end of the axis: one of LFW's 3,000 different pairs is 3e-4
INK, LINE, SOFT = "#1f2933", "#1f5fa8", "#9aa5b1"


def check_plot(path: Path, *, overwrite: bool) -> None:
    """Check that the plot can be drawn and written, before any work is done.

    Raises:
        UsageError: The suffix is unknown, the folder does not exist, or the file exists.
        MissingPackageError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError("unknown suffix for a plot", file=path, expected=" or ".join(FORMATS))
    require("matplotlib", "drawing the ROC curve")
    check_target(path, overwrite=overwrite)


def plot_roc(result: LfwResult, path: str | Path, *, overwrite: bool = False) -> None:
    """Plot the true accept rate over the false accept rate, on a logarithmic axis.

    The validation rate at the target false accept rate and the equal error rate are marked.

    Args:
        result: Of `evaluate`.
        path: NAME.png, .pdf or .svg.
        overwrite: Replace an existing file.

    Raises:
        UsageError: As `check_plot`.
        OutputError: The file could not be written.

    Examples:
        >>> plot_roc(evaluate(embeddings, pairs), "roc.png")  # doctest: +SKIP
    """
    path = Path(path)
    check_plot(path, overwrite=overwrite)
    figure_module = require("matplotlib.figure", "drawing the ROC curve")
    figure = _draw(result, figure_module)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower())
    write_file(path, buffer.getvalue())


def _draw(result: LfwResult, figure_module: Any) -> Any:
    figure = figure_module.Figure(figsize=(7, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    fpr = np.maximum(result.fpr, LOWEST_RATE)
    axes.plot(fpr, result.tpr, color=LINE, linewidth=2, zorder=3)
    chance = np.geomspace(LOWEST_RATE, 1, 200)
    axes.plot(chance, chance, color=SOFT, linewidth=1, linestyle=":")  # random guesses
    axes.annotate("chance", (0.3, 0.3), (-8, 0), textcoords="offset points", ha="right", color=SOFT)
    marks = (
        (
            max(float(result.far.mean()), LOWEST_RATE),
            float(result.val.mean()),
            "o",
            f"VAL {result.val.mean():.4f} at FAR {result.far.mean():.4f}",
        ),
        (
            max(result.eer, LOWEST_RATE),
            1 - result.eer,
            "s",
            f"equal error rate {result.eer:.4f}",
        ),
    )
    for x, y, marker, label in marks:
        axes.plot([x], [y], marker, color=INK, markersize=6, zorder=4, label=label)
    axes.set_xscale("log")
    axes.set_xlim(LOWEST_RATE, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("False accept rate (log scale)", color=INK)
    axes.set_ylabel("True accept rate", color=INK)
    axes.set_title(
        f"LFW verification: accuracy {result.accuracy.mean():.4f} ± {result.accuracy.std():.4f}, "
        f"AUC {result.auc:.4f}",
        loc="left",
        fontsize=11,
        color=INK,
    )
    axes.legend(loc="lower left", bbox_to_anchor=(0.02, 0.06), frameon=False)
    axes.grid(which="major", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
