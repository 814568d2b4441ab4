"""The LFW protocol: pairs.txt, and figures equal to those of the original's own code."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_common.errors import FacenetError, UsageError
from facenet_models.lfw.plot import plot_roc
from facenet_models.lfw.protocol import Face, Pair, Pairs, evaluate, locate, match, read_pairs
from facenet_models.recognition import Embeddings, Miss

ROOT = Path(__file__).parents[2]
GOOD = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\nBob\t1\t2\nAnn\t2\tBob\t2\n"


def world(
    people: int = 24, noise: float = 1.0, folds: int = 10, each: int = 6, seed: int = 0
) -> tuple[Embeddings, Pairs]:
    """Unit vectors, two images of each person, and random pairs in LFW's order."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(people, 16)), 2, axis=0)
    vectors = centres + noise * rng.normal(size=centres.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    faces = [Face(f"P{i // 2}", i % 2 + 1) for i in range(2 * people)]
    pairs = []
    for i in range(folds * each * 2):
        if i // each % 2 == 0:
            person = int(rng.integers(people))
            one, other = faces[2 * person], faces[2 * person + 1]
        else:
            a, b = rng.choice(people, 2, replace=False)
            one, other = faces[2 * a + rng.integers(2)], faces[2 * b + rng.integers(2)]
        pairs.append(Pair(one, other, i + 2))
    names = tuple(f"{face.stem}.jpg" for face in faces)
    return Embeddings(names, vectors.astype(np.float32)), Pairs(folds, tuple(pairs))


# --- The original's own code ------------------------------------------------------------------


class KFold:
    """scikit-learn's without shuffling: the first folds take one more where it doesn't divide."""

    def __init__(self, n_splits: int, shuffle: bool) -> None:
        assert not shuffle
        self.folds = n_splits

    def split(self, indices: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        start = 0
        for fold in range(self.folds):
            stop = start + len(indices) // self.folds + (fold < len(indices) % self.folds)
            yield np.r_[indices[:start], indices[stop:]], indices[start:stop]
            start = stop


def interp1d(x: np.ndarray, y: np.ndarray, kind: str) -> Callable[[float], float]:
    """SciPy's linear spline: between the last x that is not above, and the next."""
    assert kind == "slinear"

    def value(at: float) -> float:
        for i in range(len(x) - 1):
            if x[i] <= at < x[i + 1]:
                return float(y[i] + (at - x[i]) / (x[i + 1] - x[i]) * (y[i + 1] - y[i]))
        return float(y[-1])

    return value


def plain_accuracy(threshold: float, dist: Any, same: Any) -> tuple[float, float, float]:
    """True and false accept rate, and accuracy: one pair after the other."""
    counts = {(said, is_same): 0 for said in (True, False) for is_same in (True, False)}
    for d, is_same in zip(dist, same, strict=True):
        counts[bool(d < threshold), bool(is_same)] += 1
    positives = counts[True, True] + counts[False, True]
    negatives = counts[True, False] + counts[False, False]
    return (
        counts[True, True] / positives if positives else 0,
        counts[True, False] / negatives if negatives else 0,
        (counts[True, True] + counts[False, False]) / len(dist),
    )


def plain_distance(a: np.ndarray, b: np.ndarray, metric: int) -> np.ndarray:
    if metric == 0:
        return np.array([sum((x - y) ** 2) for x, y in zip(a, b, strict=True)])
    return np.array(
        [
            math.acos(min(1.0, float(x @ y) / math.sqrt(float(x @ x) * float(y @ y)))) / math.pi
            for x, y in zip(a, b, strict=True)
        ]
    )


def plain_evaluate(
    first: np.ndarray, second: np.ndarray, same: np.ndarray, folds: int, metric: int, mean: bool
) -> tuple[list[float], list[float], list[float], np.ndarray, np.ndarray]:
    """The protocol in loops: accuracy, val and far of each fold; mean fpr and tpr."""
    accuracy, vals, fars, curves = [], [], [], []
    for train, test in KFold(folds, False).split(np.arange(len(same))):
        centre = np.concatenate([first[train], second[train]]).mean(0) if mean else 0.0
        dist = plain_distance(first - centre, second - centre, metric)
        grid = np.arange(0, 4, 0.01)
        scores = [plain_accuracy(t, dist[train], same[train])[2] for t in grid]
        best = grid[scores.index(max(scores))]
        accuracy.append(plain_accuracy(best, dist[test], same[test])[2])
        curves.append([plain_accuracy(t, dist[test], same[test])[:2] for t in grid])
        different = dist[train][~same[train]]
        grid = np.arange(0, 4, 0.001)
        rates = np.array([np.mean(different < t) for t in grid])
        t = interp1d(rates, grid, "slinear")(1e-3) if rates.max() >= 1e-3 else 0.0
        val, far, _ = plain_accuracy(t, dist[test], same[test])
        vals.append(val)
        fars.append(far)
    tpr, fpr = np.mean(curves, axis=0).T
    return accuracy, vals, fars, fpr, tpr


@pytest.fixture(scope="module")
def original() -> SimpleNamespace:
    """The functions of the original's ``src/facenet.py`` that measure, without its imports."""
    folder = Path(
        os.environ.get("FACENET_ORIGINAL_DIR") or ROOT / "third_party/davidsandberg_facenet"
    )
    source = folder / "src" / "facenet.py"
    if not source.is_file():
        pytest.skip("the original is not checked out")
    wanted = {"distance", "calculate_roc", "calculate_accuracy", "calculate_val"}
    wanted |= {"calculate_val_far"}
    tree = ast.parse(source.read_text(encoding="utf-8"))
    tree.body = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted
    ]
    assert len(tree.body) == len(wanted)
    scope: dict[str, Any] = {
        "np": np,
        "math": math,
        "KFold": KFold,
        "interpolate": SimpleNamespace(interp1d=interp1d),
    }
    exec(compile(tree, str(source), "exec"), scope)
    return SimpleNamespace(**scope)


def in_pairs(embeddings: Embeddings, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second embedding of each pair, float64 as the original's; and whether same."""
    row = {name: i for i, name in enumerate(embeddings.names)}
    vectors = embeddings.vectors.astype(np.float64)
    first = np.array([vectors[row[f"{pair.first.stem}.jpg"]] for pair in pairs.pairs])
    second = np.array([vectors[row[f"{pair.second.stem}.jpg"]] for pair in pairs.pairs])
    return (
        first,
        second,
        np.array([pair.first.person == pair.second.person for pair in pairs.pairs]),
    )


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("metric", [0, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_figures_equal_those_of_the_original(
    original: SimpleNamespace, metric: int, mean: bool, seed: int
) -> None:
    embeddings, pairs = world(people=60, noise=0.9, each=30, seed=seed)
    first, second, same = in_pairs(embeddings, pairs)
    got = evaluate(embeddings, pairs, 10, ("euclidean", "cosine")[metric], mean)
    options = {"nrof_folds": 10, "distance_metric": metric, "subtract_mean": mean}
    tpr, fpr, accuracy = original.calculate_roc(
        np.arange(0, 4, 0.01), first, second, same, **options
    )
    val, val_std, far = original.calculate_val(
        np.arange(0, 4, 0.001), first, second, same, 1e-3, **options
    )
    assert got.accuracy.tolist() == accuracy.tolist()
    assert (got.val.mean(), got.val.std(), got.far.mean()) == (val, val_std, far)
    assert 0 < val < 1
    np.testing.assert_allclose(got.tpr[:-1], tpr, rtol=0, atol=1e-15)
    np.testing.assert_allclose(got.fpr[:-1], fpr, rtol=0, atol=1e-15)
    np.testing.assert_allclose(got.auc, np.trapezoid(tpr, fpr), rtol=1e-13)
    root = got.eer  # on the straight line between two points of the curve, or on a step of it
    low, high = np.interp([root - 1e-9, root + 1e-9], fpr, tpr)
    assert low - 1e-6 <= 1 - root <= high + 1e-6


@pytest.mark.parametrize(
    ("folds", "metric", "mean"), [(10, 0, False), (10, 1, False), (7, 0, True), (3, 1, True)]
)
def test_figures_equal_those_of_plain_loops(folds: int, metric: int, mean: bool) -> None:
    embeddings, pairs = world(people=12, folds=10, each=2, seed=3)
    got = evaluate(embeddings, pairs, folds, ("euclidean", "cosine")[metric], mean)
    accuracy, vals, fars, fpr, tpr = plain_evaluate(
        *in_pairs(embeddings, pairs), folds, metric, mean
    )
    assert got.accuracy.tolist() == accuracy
    assert got.val.tolist() == vals
    assert got.far.tolist() == fars
    np.testing.assert_allclose(got.fpr, [*fpr, 1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(got.tpr, [*tpr, 1], rtol=0, atol=1e-15)


# --- Properties -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    exact=st.booleans(),
    mean=st.booleans(),
    metric=st.sampled_from(["euclidean", "cosine"]),
)
def test_people_far_apart_are_told_apart_without_error(
    seed: int, exact: bool, mean: bool, metric: Any
) -> None:
    rng = np.random.default_rng(seed)
    embeddings, pairs = world(people=16, each=3, seed=seed)
    corners = np.repeat(np.eye(16), 2, axis=0) + rng.uniform(-1e-4, 1e-4, (32, 16))
    got = evaluate(
        Embeddings(embeddings.names, corners.astype(np.float32)),
        pairs,
        metric=metric,
        subtract_mean=mean,
        exact=exact,
    )
    assert got.accuracy.tolist() == got.val.tolist() == [1.0] * 10
    assert got.auc == pytest.approx(1, abs=1e-12)
    assert got.eer == pytest.approx(0, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.floats(0.1, 5))
def test_the_exact_area_is_the_share_of_well_ordered_distances(seed: int, noise: float) -> None:
    embeddings, pairs = world(noise=noise, seed=seed)
    first, second, same = in_pairs(embeddings, pairs)
    dist = np.sum((first - second) ** 2, axis=1)
    near, far = dist[same][:, None], dist[~same][None, :]
    share = np.mean((near < far) + 0.5 * (near == far))  # Mann and Whitney's U
    assert evaluate(embeddings, pairs, exact=True).auc == pytest.approx(share, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.floats(0.1, 50),
    exact=st.booleans(),
    metric=st.sampled_from(["euclidean", "cosine"]),
)
def test_rates_are_rates_and_the_curve_climbs(
    seed: int, noise: float, exact: bool, metric: Any
) -> None:
    got = evaluate(*world(noise=noise, seed=seed), metric=metric, exact=exact)
    for values in (got.accuracy, got.val, got.far, got.fpr, got.tpr, [got.auc], [got.eer]):
        assert np.all((np.asarray(values) >= 0) & (np.asarray(values) <= 1))
    assert np.all(np.diff(got.fpr) >= 0)
    assert np.all(np.diff(got.tpr) >= 0)
    assert (got.fpr[0], got.tpr[0], got.fpr[-1], got.tpr[-1]) == (0, 0, 1, 1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_exact_thresholds_train_at_least_as_well(seed: int) -> None:
    embeddings, pairs = world(seed=seed, each=3)
    first, second, same = in_pairs(embeddings, pairs)
    dist = plain_distance(first, second, 1)
    trained = []
    for exact in (False, True):
        got = evaluate(embeddings, pairs, metric="cosine", exact=exact)
        splits = KFold(10, False).split(np.arange(len(same)))
        trained.append(
            [
                np.mean((dist[train] < t) == same[train])
                for (train, _), t in zip(splits, got.thresholds, strict=True)
            ]
        )
    assert np.all(np.array(trained[1]) >= np.array(trained[0]))


def test_where_all_distances_are_past_the_grid_nothing_is_accepted() -> None:
    embeddings, pairs = world(seed=2)
    wide = Embeddings(embeddings.names, embeddings.vectors * 1000)
    got = evaluate(wide, pairs)
    assert (got.val.max(), got.far.max()) == (0, 0)
    assert got.accuracy.tolist() == [0.5] * 10
    assert (got.auc, got.eer) == (0.5, 0.5)
    assert evaluate(wide, pairs, exact=True).auc > 0.5


def test_where_the_grid_does_not_reach_the_rate_nothing_is_accepted() -> None:
    embeddings, pairs = world(seed=2)
    wide = Embeddings(embeddings.names, embeddings.vectors * 1.5)
    first, second, same = in_pairs(wide, pairs)
    different = np.sum((first - second) ** 2, axis=1)[~same]
    assert 0.1 < np.mean(different < 4) < 0.8
    assert evaluate(wide, pairs, far_target=0.1).val.min() > 0
    assert evaluate(wide, pairs, far_target=0.9).val.max() == 0  # as the original decides


@pytest.mark.parametrize("target", [0.001, 0.02, 0.25])
def test_the_exact_threshold_accepts_as_many_as_it_may(target: float) -> None:
    embeddings, pairs = world(seed=4)
    first, second, same = in_pairs(embeddings, pairs)
    dist = np.sum((first - second) ** 2, axis=1)
    got = evaluate(embeddings, pairs, exact=True, far_target=target)
    for fold, (train, test) in enumerate(KFold(10, False).split(np.arange(len(same)))):
        other = np.sort(dist[train][~same[train]])
        allowed = math.floor(target * len(other))
        threshold = next(t for t in other[::-1] if np.sum(other < t) <= allowed)
        assert got.val[fold] == np.mean(dist[test][same[test]] < threshold)
        assert got.far[fold] == np.mean(dist[test][~same[test]] < threshold)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), order=st.randoms(use_true_random=False))
def test_the_order_of_the_embeddings_means_nothing(seed: int, order: Any) -> None:
    embeddings, pairs = world(seed=seed)
    shuffled = list(range(len(embeddings)))
    order.shuffle(shuffled)
    other = Embeddings(tuple(embeddings.names[i] for i in shuffled), embeddings.vectors[shuffled])
    assert evaluate(other, pairs).to_json() == evaluate(embeddings, pairs).to_json()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), gone=st.sets(st.integers(0, 59), min_size=1, max_size=6))
def test_a_missing_image_takes_its_own_pairs_and_moves_no_other(seed: int, gone: set[int]) -> None:
    embeddings, pairs = world(people=30, each=12, seed=seed)
    kept = [i for i in range(len(embeddings)) if i not in gone]
    lost = {embeddings.names[i].removesuffix(".jpg") for i in gone}
    part = Embeddings(
        tuple(embeddings.names[i] for i in kept),
        embeddings.vectors[kept],
        tuple(Miss(embeddings.names[i], "no face found") for i in sorted(gone)),
    )
    matched = match(part, pairs)
    hit = [place for place, pair in enumerate(pairs.pairs) if {f.stem for f in pair[:2]} & lost]
    assert [out.pair for out in matched.left_out] == [pairs.pairs[place] for place in hit]
    assert all("no face found" in out.reason for out in matched.left_out)
    assert sorted([*hit, *matched.places]) == list(range(len(pairs.pairs)))
    for place, one, other in zip(matched.places, matched.first, matched.second, strict=True):
        pair = pairs.pairs[place]
        assert part.names[one] == f"{pair.first.stem}.jpg"
        assert part.names[other] == f"{pair.second.stem}.jpg"


def test_a_pair_stays_in_its_fold_whichever_others_are_missing() -> None:
    embeddings, pairs = world(people=30, each=8, seed=5)
    fold = {face.stem for pair in pairs.pairs[:16] for face in pair[:2]}
    alone = [
        stem
        for stem in sorted(fold)
        if not any(stem in {f.stem for f in pair[:2]} for pair in pairs.pairs[16:])
    ]
    assert alone  # an image that only the first fold uses
    kept = [i for i, name in enumerate(embeddings.names) if name != f"{alone[0]}.jpg"]
    part = Embeddings(tuple(embeddings.names[i] for i in kept), embeddings.vectors[kept])
    got, whole = evaluate(part, pairs), evaluate(embeddings, pairs)
    assert len(got.left_out) > 0
    assert got.thresholds[0] == whole.thresholds[0]  # the first fold trains on all the others
    first, second, same = in_pairs(embeddings, pairs)
    left_out = {out.pair.line for out in got.left_out}
    dist = np.sum((first - second) ** 2, axis=1)
    for number in range(10):
        places = [i for i in range(number * 16, number * 16 + 16) if i + 2 not in left_out]
        right = (dist[places] < got.thresholds[number]) == same[places]
        assert got.accuracy[number] == right.mean()


# --- pairs.txt --------------------------------------------------------------------------------


def test_the_real_pairs(reference_dir: Path) -> None:
    pairs = read_pairs(reference_dir / "pairs.txt")
    assert (pairs.folds, len(pairs.pairs)) == (10, 6000)
    for fold in range(10):
        part = pairs.pairs[fold * 600 : fold * 600 + 600]
        assert [pair.same for pair in part] == [True] * 300 + [False] * 300
    assert len(pairs.faces) == 7701  # different images, as LFW's site counts them
    assert str(pairs.pairs[0]) == "Abel_Pacheco/Abel_Pacheco_0001 Abel_Pacheco/Abel_Pacheco_0004"
    assert (pairs.pairs[0].line, pairs.pairs[-1].line) == (2, 6001)


def test_the_real_pairs_are_judged_in_their_own_folds(reference_dir: Path) -> None:
    pairs = read_pairs(reference_dir / "pairs.txt")
    rng = np.random.default_rng(0)
    centre = {face.person: rng.normal(size=32) for face in pairs.faces}
    vectors = np.array([centre[face.person] + rng.normal(size=32) for face in pairs.faces])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = tuple(f"lfw/{face.stem}.png" for face in pairs.faces)
    got = evaluate(Embeddings(names, vectors.astype(np.float32)), pairs)
    assert (got.same, got.different, got.left_out) == (3000, 3000, ())
    assert got.accuracy.shape == (10,)
    assert 0.9 < got.accuracy.mean() < 1
    assert got.far.mean() == pytest.approx(1e-3, abs=1e-3)


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_good_file(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, GOOD + "\n\n"))
    assert pairs.folds == 2
    assert pairs.pairs[1] == Pair(Face("Ann", 1), Face("Bob", 1), 3)
    assert [pair.same for pair in pairs.pairs] == [True, False, True, False]
    assert pairs.faces == tuple(
        Face(p, n) for p, n in (("Ann", 1), ("Ann", 2), ("Bob", 1), ("Bob", 2))
    )


def test_one_number_in_the_header_is_one_fold(tmp_path: Path) -> None:
    assert read_pairs(write(tmp_path, "1\nAnn 1 2\nAnn 1 Bob 1\n")).folds == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("Ann\t1\t2\n", "the first line .* must give"),
        ("0 300\n", "the first line .* must give"),
        (GOOD.replace("Ann\t1\t2", "Ann\t1"), "line 2: 2 fields, expected 3 or 4"),
        (GOOD.replace("Bob\t1\t2", "Bob\tone\t2"), "line 4: 'one' is not the number"),
        (GOOD.replace("Bob\t1\t2", "Bob\t0\t2"), "line 4: '0' is not the number"),
        (GOOD.replace("Bob\t1\t2", "Bob\t1\t-2"), "line 4: '-2' is not the number"),
        (GOOD.replace("Bob\t1\t2", "Bob\t2\t2"), "line 4: Bob/Bob_0002 is paired with itself"),
        (GOOD.replace("Ann\t2\tBob\t2", "Ann\t1\tAnn\t2"), "line 5: Ann appears twice in a pair"),
        (GOOD.replace("Ann\t2\tBob\t2", "Ann\t2\t../Bob\t2"), "line 5: '../Bob' is not a person"),
        (GOOD.replace("Ann\t2\tBob\t2", "Ann\t2\t..\t2"), "line 5: '..' is not a person"),
        (GOOD.replace("Bob\t1\t2\n", "\n"), "line 4: 0 fields"),
        (GOOD.replace("Bob\t1\t2\n", ""), "3 pairs, but line 1 declares 2 x 2 x 1"),
        (GOOD.replace("Bob\t1\t2", "Bob\t1\tAnn\t2"), r"lines 4 to 5 \(fold 2\): 0 same pairs"),
        (b"1 1\nAnn 1 2\nAnn 1 B\xffb 1\n", "not UTF-8"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(FacenetError, match="(?s)" + message) as caught:
        read_pairs(write(tmp_path, text))
    assert str(tmp_path) in str(caught.value)


def test_many_problems_are_counted(tmp_path: Path) -> None:
    with pytest.raises(FacenetError, match=r"line 2: .* line 6: .*; and 4 more"):
        read_pairs(write(tmp_path, "1 1\n" + "x\n" * 9))


def test_no_file_of_pairs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such pairs file"):
        read_pairs(tmp_path / "absent.txt")


# --- Images and embeddings of pairs -----------------------------------------------------------


def test_images_are_found_jpg_before_png(tmp_path: Path) -> None:
    (tmp_path / "Ann").mkdir()
    for name in ("Ann_0001.png", "Ann_0001.jpg", "Ann_0002.png", "Ann_0003.gif"):
        (tmp_path / "Ann" / name).touch()
    faces = [Face("Ann", 2), Face("Ann", 1), Face("Ann", 3), Face("Bob", 1)]
    found = locate(tmp_path, faces)
    assert list(found) == ["Ann/Ann_0002.png", "Ann/Ann_0001.jpg"]
    assert found["Ann/Ann_0001.jpg"] == tmp_path / "Ann" / "Ann_0001.jpg"


def test_a_folder_with_none_of_the_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)none of the images.*Ann/Ann_0007\.jpg"):
        locate(tmp_path, [Face("Ann", 7)])
    with pytest.raises(UsageError, match="no such folder"):
        locate(tmp_path / "absent", [Face("Ann", 7)])


def test_two_embeddings_of_one_image_are_refused() -> None:
    _, pairs = world()
    names = (f"{pairs.pairs[0].first.stem}.jpg", f"{pairs.pairs[0].first.stem}.png")
    with pytest.raises(FacenetError, match="two embeddings are of the same image"):
        match(Embeddings(names, np.ones((2, 4), np.float32)), pairs)


def test_images_that_no_pair_needs_may_share_a_name() -> None:
    embeddings, pairs = world()
    names = (*embeddings.names, "a/x/1.jpg", "b/x/1.jpg")
    vectors = np.concatenate([embeddings.vectors, np.ones((2, 16), np.float32)])
    got = evaluate(Embeddings(names, vectors), pairs)
    assert got.to_json() == evaluate(embeddings, pairs).to_json()


def test_embeddings_of_other_images_are_refused() -> None:
    _, pairs = world()
    with pytest.raises(FacenetError, match=r"(?s)no pair has embeddings.*P.*names such as x\.jpg"):
        match(Embeddings(("x.jpg",), np.ones((1, 4), np.float32)), pairs)


def test_a_fold_without_one_kind_of_pair_is_refused() -> None:
    embeddings, pairs = world(folds=2, each=1)
    needed = [name for pair in pairs.pairs[:3] for name in (f.stem for f in pair[:2])]
    kept = [i for i, name in enumerate(embeddings.names) if name[:-4] in needed]
    part = Embeddings(tuple(embeddings.names[i] for i in kept), embeddings.vectors[kept])
    assert len(match(part, pairs).left_out) == 1  # the last: of two people
    with pytest.raises(
        FacenetError, match=r"(?s)fold 2 of 2.*1 same and 0 different; in all folds 1 pair left out"
    ):
        evaluate(part, pairs, folds=2)


@pytest.mark.parametrize(
    "options", [{"folds": 1}, {"folds": 1000}, {"far_target": 0.0}, {"metric": "manhattan"}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        evaluate(*world(), **options)


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    image_module = pytest.importorskip("PIL.Image")
    plot_roc(evaluate(*world()), tmp_path / "roc.png")
    with image_module.open(tmp_path / "roc.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0]) > 60
    assert blue.any(axis=1).sum() > pixels.shape[0] / 2  # the line climbs across the picture
    assert blue.any(axis=0).sum() > pixels.shape[1] / 2
    with pytest.raises(UsageError, match="exists already"):
        plot_roc(evaluate(*world()), tmp_path / "roc.png")
    with pytest.raises(UsageError, match="suffix"):
        plot_roc(evaluate(*world()), tmp_path / "roc.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["roc.png"]
