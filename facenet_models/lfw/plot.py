"""The ROC curve of `facenet_models.lfw.protocol.evaluate` as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from facenet_common.atomic import check_target, write_file
from facenet_common.errors import UsageError
from facenet_common.optional import require
from facenet_models.lfw.protocol import LfwResult

FORMATS = (".png", ".pdf", ".svg")
LOWEST_RATE = 1e-4  # left end: LFW has 3,000 different pairs, so one of them is 3e-4
INK, LINE, SOFT = "#1f2933", "#1f5fa8", "#9aa5b1"


def check_plot(path: Path, *, overwrite: bool) -> None:
    """Find out before any work whether the curve can be drawn and written.

    Raises:
        UsageError: another ending, no such folder, or the file exists.
        ImportError: matplotlib is not installed; the message says how to install it.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            "the plot's ending does not say its format",
            file=path,
            expected=" or ".join(FORMATS),
        )
    require("matplotlib", "drawing the ROC curve")
    check_target(path, overwrite=overwrite)


def plot_roc(result: LfwResult, path: str | Path, *, overwrite: bool = False) -> None:
    """Draw true over false accept rate, the latter's axis logarithmic, and write the picture.

    Marked are the validation rate at the false accept rate that was aimed at, and the point of
    equal error. Raises what `check_plot` does, and OutputError.
    """
    path = Path(path)
    check_plot(path, overwrite=overwrite)
    figure_module = require("matplotlib.figure", "drawing the ROC curve")
    figure = figure_module.Figure(figsize=(7, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    fpr = np.maximum(result.fpr, LOWEST_RATE)
    axes.plot(fpr, result.tpr, color=LINE, linewidth=2, zorder=3)
    chance = np.geomspace(LOWEST_RATE, 1, 200)
    axes.plot(chance, chance, color=SOFT, linewidth=1, linestyle=":")
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower())
    write_file(path, buffer.getvalue())
