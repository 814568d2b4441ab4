"""The result of an evaluation on LFW, as text and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facenet_models.lfw.pairs import LeftOut
from facenet_models.recognition.distances import Metric


@dataclass(frozen=True, eq=False)
class LfwResult:
    """The result of `evaluate`. Rates are fractions of 1.

    Attributes:
        metric: As passed.
        subtract_mean: As passed.
        exact: As passed.
        far_target: As passed.
        accuracy: Fraction of pairs that are classified correctly; one number for each fold.
        thresholds: Distance below which two faces count as the same; one number for each fold, the
            best on all other folds.
        val: Validation rate: fraction of the same pairs that are accepted, at the threshold where
            the other folds have a false accept rate of `far_target`; one number for each fold.
        far: Fraction of the different pairs that are accepted at that threshold, the fold's own
            false accept rate.
        fpr: False accept rates of the ROC curve, mean over folds, from 0 to 1.
        tpr: True accept rates of the ROC curve, likewise.
        auc: Area under the ROC curve.
        eer: Equal error rate: the false accept rate that equals the false reject rate.
        same: Number of pairs of one person.
        different: Number of pairs of two people.
        left_out: Pairs that were not evaluated, because an image or embedding is missing.
    """

    metric: Metric
    subtract_mean: bool
    exact: bool
    far_target: float
    accuracy: np.ndarray
    thresholds: np.ndarray
    val: np.ndarray
    far: np.ndarray
    fpr: np.ndarray
    tpr: np.ndarray
    auc: float
    eer: float
    same: int
    different: int
    left_out: tuple[LeftOut, ...]

    def summary(self) -> str:
        """Return the figures as text, in the original's order, with population deviations."""
        rows = [
            f"Accuracy  {self.accuracy.mean():.5f} ± {self.accuracy.std():.5f}",
            f"VAL       {self.val.mean():.5f} ± {self.val.std():.5f} "
            f"at FAR {self.far.mean():.5f} (target {self.far_target:g})",
            f"AUC       {self.auc:.5f}",
            f"EER       {self.eer:.5f}",
            f"Threshold {self.thresholds.mean():.4f} ± {self.thresholds.std():.4f} ({self.metric})",
            f"Pairs     {self.same} same, {self.different} different, "
            f"{len(self.left_out)} left out; {len(self.accuracy)} folds",
        ]
        return "\n".join(rows)

    def to_json(self) -> dict[str, object]:
        """Return everything except the ROC curve, as plain values."""
        folds = {
            key: {
                "mean": float(values.mean()),
                "std": float(values.std()),
                "folds": values.tolist(),
            }
            for key, values in (
                ("accuracy", self.accuracy),
                ("threshold", self.thresholds),
                ("val", self.val),
                ("far", self.far),
            )
        }
        return {
            "metric": self.metric,
            "subtract_mean": self.subtract_mean,
            "exact": self.exact,
            "far_target": self.far_target,
            **folds,
            "auc": self.auc,
            "eer": self.eer,
            "pairs": {"same": self.same, "different": self.different},
            "left_out": [
                {"line": out.pair.line, "pair": str(out.pair), "reason": out.reason}
                for out in self.left_out
            ],
        }
