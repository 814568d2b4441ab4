"""The verification protocol of Labeled Faces in the Wild: are these two faces the same person?

Huang et al., "Labeled Faces in the Wild", UMass Amherst 07-49, 2007; measured as
davidsandberg/facenet does (``src/lfw.py``, ``src/facenet.py``, ``src/validate_on_lfw.py`` at
096ed77, "the original" below), so that the figures can be compared with those that are published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from facenet_common.errors import FacenetError, UsageError
from facenet_models.lfw.pairs import Face, LeftOut, Matched, Pair, Pairs, locate, match, read_pairs
from facenet_models.recognition.distances import Metric, distance
from facenet_models.recognition.embeddings import Embeddings

__all__ = [
    "Face",
    "LeftOut",
    "LfwResult",
    "Matched",
    "Pair",
    "Pairs",
    "evaluate",
    "locate",
    "match",
    "read_pairs",
]

FAR_TARGET = 1e-3  # the original's
# The original's thresholds, whatever the metric. Distances past 4 exist where flips are appended.
ROC_GRID = np.arange(0, 4, 0.01)
VAL_GRID = np.arange(0, 4, 0.001)


@dataclass(frozen=True, eq=False)
class LfwResult:
    """What `evaluate` found. Rates are parts of 1; deviations are the population's, over folds.

    Attributes:
        metric, subtract_mean, exact, far_target: As passed.
        accuracy: For each fold, the part of its pairs that are judged rightly.
        thresholds: For each fold, the distance below which two faces count as the same; the best
            on all other folds.
        val: For each fold, the part of its same pairs that are accepted (validation rate), at
            the threshold at which the other folds have a false accept rate of `far_target`.
        far: For each fold, the part of its different pairs that are accepted there: what the
            false accept rate really was.
        fpr, tpr: The ROC curve, mean over folds, from (0, 0) to (1, 1).
        auc: The area under it.
        eer: Equal error rate: where it has as many false accepts as false rejects.
        same, different: How many pairs of each were judged.
        left_out: Pairs without an image or embedding, not judged, and why.
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
        """For a person, in the original's order and with its figures."""
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
        """All but the curve, as plain values."""
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


class _Fold(NamedTuple):
    """Sorted distances of same and of different pairs, to train on and to test on."""

    train_same: np.ndarray
    train_different: np.ndarray
    test_same: np.ndarray
    test_different: np.ndarray


def evaluate(
    embeddings: Embeddings,
    pairs: Pairs,
    folds: int = 10,
    metric: Metric = "euclidean",
    subtract_mean: bool = False,
    *,
    exact: bool = False,
    far_target: float = FAR_TARGET,
) -> LfwResult:
    """Judge pairs by the distance of their embeddings, with a threshold from the other folds.

    A pair is in the fold where its place in `pairs` puts it, whichever others are left out.
    (The original deals out anew what is left; with all images there, that is the same.)

    Args:
        embeddings: Of the images that `pairs` names; see `match`. With those of the mirrored
            images appended (``embed(..., flip=True)``) it is the original's
            ``--use_flipped_images``.
        pairs: Of `read_pairs`.
        folds: In how many parts of equal size, in order, the pairs are split.
        metric: See `facenet_models.recognition.distance`.
        subtract_mean: Subtract the other folds' mean embedding first.
        exact: Try every threshold that matters. Default: the original's, 0 to 4 in steps of
            0.01 (0.001 for VAL, interpolated), which are coarse for the metric ``"cosine"``.
        far_target: False accept rate at which to measure the validation rate.

    Raises:
        UsageError: fewer than 2 folds, or more than pairs; unknown metric.
        FacenetError: a fold has no same or no different pair that can be judged.
    """
    if not 2 <= folds <= len(pairs.pairs):
        raise UsageError(
            "the number of folds must be at least 2, and at most that of pairs", found=folds
        )
    if not 0 < far_target < 1:
        raise UsageError("far_target must lie between 0 and 1", found=far_target)
    matched = match(embeddings, pairs)
    fold_of = _fold_of(len(pairs.pairs), folds)[matched.places]
    _check_folds(matched, fold_of, folds)
    split = _split(embeddings.vectors, matched, fold_of, metric, subtract_mean)
    best = np.array([_best_threshold(fold, exact) for fold in split])
    accepting = [_far_threshold(fold, far_target, exact) for fold in split]
    fpr, tpr = _roc(split, exact)
    return LfwResult(
        metric=metric,
        subtract_mean=subtract_mean,
        exact=exact,
        far_target=far_target,
        accuracy=np.array([_accuracy(*fold[2:], t) for fold, t in zip(split, best, strict=True)]),
        thresholds=best,
        val=np.array([_rate(f.test_same, t) for f, t in zip(split, accepting, strict=True)]),
        far=np.array([_rate(f.test_different, t) for f, t in zip(split, accepting, strict=True)]),
        fpr=fpr,
        tpr=tpr,
        auc=min(1.0, float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))),
        eer=_equal_error_rate(fpr, tpr),
        same=int(matched.same.sum()),
        different=int((~matched.same).sum()),
        left_out=matched.left_out,
    )


def _split(
    vectors: np.ndarray, matched: Matched, fold_of: np.ndarray, metric: Metric, subtract_mean: bool
) -> list[_Fold]:
    """The distances, fold by fold: without their mean, which is each fold's own, all the same."""
    first, second = (vectors[rows].astype(np.float64) for rows in (matched.first, matched.second))
    mean: np.ndarray | float = 0.0
    split = []
    for fold in range(int(fold_of.max()) + 1):
        test = fold_of == fold
        if subtract_mean:
            mean = np.concatenate([first[~test], second[~test]]).mean(axis=0)
        distances = distance(first - mean, second - mean, metric)
        kinds = [part & kind for part in (~test, test) for kind in (matched.same, ~matched.same)]
        split.append(_Fold(*(np.sort(distances[kind]) for kind in kinds)))
    return split


def _fold_of(count: int, folds: int) -> np.ndarray:
    """Each pair's fold: blocks in order, the first ones larger by 1 (scikit-learn's KFold)."""
    sizes = np.full(folds, count // folds)
    sizes[: count % folds] += 1
    return np.repeat(np.arange(folds), sizes)


def _check_folds(matched: Matched, fold_of: np.ndarray, folds: int) -> None:
    for fold in range(folds):
        same = matched.same[fold_of == fold]
        counts = [int(np.sum(same)), int(np.sum(~same))]
        if 0 in counts:
            raise FacenetError(
                f"fold {fold + 1} of {folds} can't be judged",
                expected="same and different pairs in each fold",
                found=f"{counts[0]} same and {counts[1]} different; {len(matched.left_out)} pairs "
                "were left out, because an image or embedding is missing",
                next_step="add the missing images, or use fewer folds",
            )


def _below(distances: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """How many of the sorted `distances` are below each threshold."""
    counts: np.ndarray = np.searchsorted(distances, threshold, side="left")
    return counts


def _rate(distances: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """The part of the sorted `distances` that is below each threshold."""
    return _below(distances, threshold) / len(distances)


def _accuracy(same: np.ndarray, different: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """The part of the pairs that each threshold judges rightly."""
    right = _below(same, threshold) + len(different) - _below(different, threshold)
    accuracy: np.ndarray = right / (len(same) + len(different))
    return accuracy


def _candidates(*distances: np.ndarray) -> np.ndarray:
    """A threshold in each gap between distances, and one on either side of all."""
    values = np.unique(np.concatenate(distances))
    return np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:] + 1])


def _best_threshold(fold: _Fold, exact: bool) -> float:
    """The first of the thresholds that judge the most training pairs rightly."""
    same, different = fold.train_same, fold.train_different
    grid = _candidates(same, different) if exact else ROC_GRID
    return float(grid[np.argmax(_accuracy(same, different, grid))])


def _far_threshold(fold: _Fold, target: float, exact: bool) -> float:
    """The threshold whose false accept rate on the training pairs is `target`.

    Exact: the highest at which it is not above. The original's: 0 where the grid does not reach
    the rate; else between the last step at or below it and the first above, linearly.
    """
    if exact:
        allowed = int(target * len(fold.train_different) + 1e-9)  # 1e-9: 0.29 * 100 < 29
        return float(fold.train_different[allowed])
    rates = _rate(fold.train_different, VAL_GRID)
    return float(np.interp(target, rates, VAL_GRID)) if rates[-1] >= target else 0.0


def _roc(split: list[_Fold], exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """False and true accept rates, mean over folds at the same threshold.

    (1, 1) is appended: the original's curve ends before it, and its EER fails, where a distance
    is past its last threshold.
    """
    grid = ROC_GRID
    if exact:
        grid = _candidates(
            *(part for fold in split for part in (fold.test_same, fold.test_different))
        )
    fpr = np.mean([_rate(fold.test_different, grid) for fold in split], axis=0)
    tpr = np.mean([_rate(fold.test_same, grid) for fold in split], axis=0)
    return np.append(fpr, 1.0), np.append(tpr, 1.0)


def _equal_error_rate(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """The false accept rate where the curve, taken as lines between its points, meets 1 - tpr."""
    excess = 1.0 - tpr - fpr  # falls from 1 to -1
    after = int(np.argmax(excess <= 0))
    before = after - 1
    part = excess[before] / (excess[before] - excess[after])
    return float(fpr[before] + part * (fpr[after] - fpr[before]))
