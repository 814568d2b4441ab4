"""The verification protocol of Labeled Faces in the Wild: do two images show the same person?

Huang et al., "Labeled Faces in the Wild", UMass Amherst 07-49, 2007. The figures are computed as in
davidsandberg/facenet ("the original" below: ``src/lfw.py``, ``src/facenet.py`` and
``src/validate_on_lfw.py`` in
https://github.com/davidsandberg/facenet/tree/096ed770f163957c1e56efa7feeb194773920f6e), so that
they are comparable with published ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from facenet_common.errors import FacenetError, UsageError
from facenet_common.text import count
from facenet_models.lfw.pairs import Face, LeftOut, Matched, Pair, Pairs, locate, match, read_pairs
from facenet_models.lfw.result import LfwResult
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

FAR_TARGET = 1e-3  # as in the original
# The original uses these thresholds for every metric. With embeddings of mirrored images appended,
# distances above 4 occur.
ROC_GRID = np.arange(0, 4, 0.01)
VAL_GRID = np.arange(0, 4, 0.001)


class _Fold(NamedTuple):
    """Sorted distances of same and of different pairs, for training and for testing."""

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
    """Classify pairs by the distance of their embeddings, by cross-validation.

    The threshold of each fold comes from the other folds. The fold of a pair depends on its place
    in `pairs` only, not on pairs that are left out. (The original splits the remaining pairs
    anew. With all images present, that is the same.)

    Args:
        embeddings: Of the images that `pairs` names; see `match`. ``embed(..., flip=True)`` gives
            those of the original's option ``--use_flipped_images``.
        pairs: From `read_pairs`.
        folds: Number of equal parts into which the pairs are split, in their order.
        metric: See `facenet_models.recognition.distance`.
        subtract_mean: Subtract the mean embedding of the other folds first.
        exact: Try every threshold that makes a difference. The default are the original's, 0 to 4
            in steps of 0.01 (0.001 for VAL, interpolated), which are coarse for the metric
            ``"cosine"``.
        far_target: False accept rate at which the validation rate is measured.

    Raises:
        UsageError: There are fewer than 2 folds, or more than pairs; or the metric is unknown.
        FacenetError: All same or all different pairs of a fold are left out.

    Examples:
        >>> pairs = read_pairs("pairs.txt")  # doctest: +SKIP
        >>> result = evaluate(Embeddings.load("lfw.npz"), pairs)  # doctest: +SKIP
        >>> print(result.summary())  # doctest: +SKIP
    """
    if not 2 <= folds <= len(pairs.pairs):
        raise UsageError("folds must be at least 2 and at most the number of pairs", found=folds)
    if not 0 < far_target < 1:
        raise UsageError("far_target must be between 0 and 1, both exclusive", found=far_target)
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
    """Compute the distances for each fold. They differ between folds if a mean is subtracted."""
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


def _fold_of(pairs: int, folds: int) -> np.ndarray:
    """Return the fold of each pair, as scikit-learn's KFold: blocks, the first ones larger by 1."""
    sizes = np.full(folds, pairs // folds)
    sizes[: pairs % folds] += 1
    return np.repeat(np.arange(folds), sizes)


def _check_folds(matched: Matched, fold_of: np.ndarray, folds: int) -> None:
    for fold in range(folds):
        same = matched.same[fold_of == fold]
        counts = [int(np.sum(same)), int(np.sum(~same))]
        if 0 in counts:
            raise FacenetError(
                f"fold {fold + 1} of {folds} can't be evaluated",
                expected="same and different pairs in each fold",
                found=f"{counts[0]} same and {counts[1]} different; in all folds "
                f"{count(len(matched.left_out), 'pair')} left out, because an image or embedding "
                "is missing",
                next_step="add the missing images, or use fewer folds",
            )


def _below(distances: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """Count the sorted `distances` below each threshold."""
    counts: np.ndarray = np.searchsorted(distances, threshold, side="left")
    return counts


def _rate(distances: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """Return the fraction of the sorted `distances` below each threshold."""
    return _below(distances, threshold) / len(distances)


def _accuracy(same: np.ndarray, different: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """Return the fraction of pairs that each threshold classifies correctly."""
    correct = _below(same, threshold) + len(different) - _below(different, threshold)
    accuracy: np.ndarray = correct / (len(same) + len(different))
    return accuracy


def _candidates(*distances: np.ndarray) -> np.ndarray:
    """Return a threshold in each gap between distances, and one below and one above all."""
    values = np.unique(np.concatenate(distances))
    return np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:] + 1])


def _best_threshold(fold: _Fold, exact: bool) -> float:
    """Return the smallest threshold that classifies the most training pairs correctly."""
    same, different = fold.train_same, fold.train_different
    grid = _candidates(same, different) if exact else ROC_GRID
    return float(grid[np.argmax(_accuracy(same, different, grid))])


def _far_threshold(fold: _Fold, target: float, exact: bool) -> float:
    """Return the threshold at which the training pairs have the false accept rate `target`.

    Exact: the largest threshold with at most that rate. The original's: interpolated linearly
    between two steps of the grid, or 0 if no step of the grid reaches the rate.
    """
    if exact:
        allowed = int(target * len(fold.train_different) + 1e-9)  # 1e-9: 0.29 * 100 < 29
        return float(fold.train_different[allowed])
    rates = _rate(fold.train_different, VAL_GRID)
    return float(np.interp(target, rates, VAL_GRID)) if rates[-1] >= target else 0.0


def _roc(split: list[_Fold], exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true accept rates, means over folds at equal thresholds.

    The point (1, 1) is appended. Without it, as in the original, the curve is incomplete and the
    EER fails if a distance is above the last threshold.
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
    """Return the false accept rate at which the curve, interpolated linearly, meets 1 - tpr."""
    excess = 1.0 - tpr - fpr  # decreases from 1 to -1
    after = int(np.argmax(excess <= 0))
    before = after - 1
    part = excess[before] / (excess[before] - excess[after])
    return float(fpr[before] + part * (fpr[after] - fpr[before]))
