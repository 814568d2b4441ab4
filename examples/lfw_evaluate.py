# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How well are people told apart? The LFW protocol
#
# *Labeled Faces in the Wild* asks 6,000 times: do these two photographs show the same person? It
# is the number by which face recognition is compared: 0.9965 for the `vggface2` weights.
#
# LFW itself is 170 MB and not part of this project. This notebook does the same, step by step, on
# a small data set that it makes itself in LFW's format, and then says what to change for the real
# one.

# %%
import os
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from pictures import show
from PIL import Image
from sample_data import faces_by_person, folder_of, mtcnn_weights, network

from facenet_models import MTCNN
from facenet_models.lfw.protocol import evaluate, locate, match, read_pairs
from facenet_models.recognition import embed
from facenet_models.recognition.distances import distance

# %% [markdown]
# ## A small data set in LFW's format
#
# LFW is a folder for each person, `Ann/Ann_0001.jpg`, and a file `pairs.txt`. Here the people are
# faces that can be followed through a short video. Pictures of one person are from the same few
# seconds: much easier than LFW, where they are years apart.

# %%
EACH = 6  # pictures of each person

lfw = Path(tempfile.mkdtemp()) / "lfw"
people = faces_by_person(MTCNN(keep_all=True, weights=mtcnn_weights()))
chosen = {}
for person, faces in people.items():
    places = np.linspace(0, len(faces) - 1, EACH).astype(int)
    chosen[person] = [faces[i] for i in places]
    (lfw / person).mkdir(parents=True)
    for number, face in enumerate(chosen[person], start=1):
        Image.fromarray(face).save(lfw / person / f"{person}_{number:04d}.png")

show([face for faces in chosen.values() for face in faces], columns=EACH, size=1.2)

# %% [markdown]
# ## Pairs
#
# `pairs.txt` holds *folds*: parts of equal size, each with as many pairs of one person as of two.
# Two words and two numbers are a pair of one person; with a second name, of two:
#
#     10      300
#     Abel_Pacheco    1       4
#     Ben_Kingsley    1       Daryl_Hannah    1

# %%
FOLDS = 5

rng = np.random.default_rng(0)
same = [(person, a, b) for person in people for a, b in combinations(range(1, EACH + 1), 2)]
different = [
    (one, int(a), other, int(b))
    for one, other in combinations(people, 2)
    for a, b in rng.integers(1, EACH + 1, (40, 2))
]
different = list(dict.fromkeys(different))
PAIRS = min(6, len(same) // FOLDS, len(different) // FOLDS)  # of each kind in a fold
same = [same[i] for i in rng.permutation(len(same))[: FOLDS * PAIRS]]
different = [different[i] for i in rng.permutation(len(different))[: FOLDS * PAIRS]]

lines = [f"{FOLDS}\t{PAIRS}"]
for fold in range(FOLDS):
    part = slice(fold * PAIRS, (fold + 1) * PAIRS)
    lines += ["\t".join(map(str, pair)) for pair in same[part] + different[part]]
pairs_file = lfw.with_name("pairs.txt")
pairs_file.write_text("\n".join(lines) + "\n")

pairs = read_pairs(pairs_file)
print(f"{len(pairs.pairs)} pairs in {pairs.folds} folds, of {len(pairs.faces)} photographs")

# %% [markdown]
# ## Embed
#
# Every photograph once. These are cut out already, so there is no detector; for photographs pass
# `MTCNN(margin=...)` as the third argument. A picture that can't be read, or has no face, becomes
# a *miss* with its name; it moves no other.

# %%
resnet, trained = network()
files = locate(lfw, pairs.faces)
embeddings = embed(files.values(), resnet, None, names=list(files), progress=False)
print(f"\n{len(embeddings)} embeddings, {len(embeddings.misses)} misses")

# %% [markdown]
# ## Judge
#
# A pair counts as *same* if its distance is below a threshold. Which threshold? If it were chosen
# on the pairs that are judged, the result would flatter. So each fold is judged with the
# threshold that is best on all *others*, and the mean over folds is the accuracy.
#
# - **VAL at FAR**: of the same pairs, how many are accepted if only one in a thousand different
#   pairs may be. The number that counts for unlocking a door.
# - **AUC, EER**: the area under the curve below, and the rate at which both kinds of mistake are
#   equal.
# - The `±` is the deviation between folds. With 12 pairs in a fold it is large.

# %%
result = evaluate(embeddings, pairs, folds=pairs.folds, exact=True)
kind = "trained weights" if trained else "UNTRAINED weights: no result"
print(f"[{kind}]\n{result.summary()}")

# %% [markdown]
# `exact=True` tries every threshold that matters. Without it the original's are tried, 0 to 4 in
# steps of 0.01: that is what published figures were measured with.
#
# If the weights are untrained, these figures only show that the machinery runs. They can still
# look good: neighbouring frames are almost the same picture, and even a random function gives
# similar answers to similar pictures.

# %%
matched = match(embeddings, pairs)
distances = distance(embeddings.vectors[matched.first], embeddings.vectors[matched.second])
threshold = result.thresholds.mean()

_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
edges = np.linspace(0, distances.max() * 1.02, 25)
for is_same, colour, label in ((True, "#1f5fa8", "same person"), (False, "#f0b429", "different")):
    left.hist(distances[matched.same == is_same], edges, color=colour, alpha=0.7, label=label)
left.axvline(threshold, color="0.2", linestyle="--", label="threshold")
left.set_xlabel("squared distance")
left.set_ylabel("pairs")
left.legend(frameon=False, fontsize=8)
left.set_title(f"Practice data, {kind}", loc="left", fontsize=9)

right.plot([0, 1], [0, 1], ":", color="0.7", label="chance")
right.plot(result.fpr, result.tpr, color="#1f5fa8", linewidth=2, label=f"AUC {result.auc:.3f}")
right.set_xlabel("false accept rate")
right.set_ylabel("true accept rate")
right.set_aspect("equal")
right.legend(frameon=False, loc="lower right", fontsize=8)
right.set_title("ROC curve", loc="left", fontsize=9)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## The real thing
#
# Get `lfw.tgz` (the *original* images, not "funneled") and `pairs.txt`, and unpack the first. Then
# one command does everything above, with trained weights, and draws the curve:
#
# ```sh
# facenet lfw lfw --pairs pairs.txt --weights vggface2 --margin 14 --flip --plot roc.png
# ```
#
# 13,233 photographs are in LFW, 7,701 of them in the pairs. On a processor that takes a while;
# with `--device cuda` minutes. `facenet embed lfw --weights vggface2 --out lfw.npz` keeps the
# embeddings, and `facenet lfw --embeddings lfw.npz --pairs pairs.txt` judges them in a second.
#
# Or here: name the folder in the environment variable `LFW_DIR`, and start the notebook again.

# %%
reference = folder_of("FACENET_REFERENCE_DIR")
if reference and (reference / "pairs.txt").is_file():
    real = read_pairs(reference / "pairs.txt")
    print(
        f"the real pairs.txt: {len(real.pairs):,} pairs in {real.folds} folds, "
        f"of {len(real.faces):,} photographs"
    )

if os.environ.get("LFW_DIR") and trained:
    folder = Path(os.environ["LFW_DIR"])
    real = read_pairs(folder.with_name("pairs.txt"))
    found = locate(folder, real.faces)
    detector = MTCNN(margin=14, weights=mtcnn_weights())
    all_faces = embed(found.values(), resnet, detector, names=list(found), flip=True)
    print(evaluate(all_faces, real, folds=real.folds).summary())
else:
    print("LFW_DIR is not set, or there are no trained weights: the real LFW is left out")

# %% [markdown]
# ## Checks

# %%
assert len(embeddings) == len(pairs.faces)
assert not embeddings.misses
assert result.same == result.different == FOLDS * PAIRS
assert not result.left_out
assert len(result.accuracy) == FOLDS
if reference:  # without data, all "people" are one: see sample_data
    assert 0.5 < result.auc <= 1  # pictures of one scene: better than chance with any weights
    assert result.accuracy.mean() > 0.5
assert np.all(np.diff(result.fpr) >= 0)
assert np.all(np.diff(result.tpr) >= 0)
