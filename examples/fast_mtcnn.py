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
# # FastMTCNN: search fewer frames of a video
#
# Most of MTCNN's time goes into P-Net, which searches the whole frame for faces of every size. But
# faces don't jump: in the next frame they are nearly where they were. `FastMTCNN(mtcnn, stride=4)`
# searches every fourth frame, and in the three between asks only R-Net and O-Net, near the places
# where faces were before and after.
#
# (facenet-pytorch's example of this name *copies* the boxes of the searched frame to the others.
# The boxes here are found anew in each frame.)
#
# What does it gain, and what does it cost?

# %%
from time import perf_counter

import numpy as np
from matplotlib import pyplot as plt
from pictures import show
from sample_data import mtcnn_weights, video

from facenet_models import MTCNN
from facenet_models.draw import annotate
from facenet_models.video import FastMTCNN, frames
from facenet_models.video.matching import match, overlaps

images = [frame.image for frame in frames(video(), stop=49, max_side=960)]
print(f"{len(images)} frames of {images[0].shape[1]} x {images[0].shape[0]} pixels")

# %% [markdown]
# ## Measure
#
# Stride 1 searches every frame: these boxes are what the others are compared with. Reading the
# video is not counted. One run on one machine, so take the times as a rough guide
# ([benchmarks](../benchmarks/README.md) measures properly).

# %%
mtcnn = MTCNN(keep_all=True, weights=mtcnn_weights())
list(FastMTCNN(mtcnn).detect(images[:2]))  # the first call is slower; don't count it

STRIDES = (1, 2, 4, 8)
found, seconds = {}, {}
for stride in STRIDES:
    started = perf_counter()
    found[stride] = list(FastMTCNN(mtcnn, stride=stride).detect(images))
    seconds[stride] = perf_counter() - started

# %% [markdown]
# ## Compare
#
# Boxes in the same frame belong together if they overlap by 0.3 or more (IoU: the area that both
# cover, divided by the area that either covers). A face that has no partner is *missed*.


# %%
def compare(stride):
    """Return the share of stride 1's faces that is missed, and the others' mean overlap."""
    shared, expected = [], 0
    for number, (one, other) in enumerate(zip(found[stride], found[1], strict=True)):
        if number % stride == 0:
            continue  # searched: the same boxes
        table = overlaps(one.boxes, other.boxes)
        shared += [float(table[pair]) for pair in match(one.boxes, other.boxes, 0.3)]
        expected += len(other.boxes)
    return 1 - len(shared) / max(expected, 1), float(np.mean(shared)) if shared else np.nan


rates = {stride: len(images) / seconds[stride] for stride in STRIDES}
missed, overlap = {1: 0.0}, {1: 1.0}
for stride in STRIDES[1:]:
    missed[stride], overlap[stride] = compare(stride)

print("stride   frames/s   missed between   overlap")
for stride in STRIDES:
    print(f"{stride:>6}{rates[stride]:>11.1f}{missed[stride]:>16.1%}{overlap[stride]:>10.3f}")

# %%
_, both = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
labels = [f"stride {stride}" for stride in STRIDES]
percent = {stride: 100 * share for stride, share in missed.items()}
for axes, values, form, title in (
    (both[0], rates, "%.0f", "frames a second"),
    (both[1], percent, "%.0f %%", "faces missed in the frames between"),
):
    bars = axes.bar(labels, list(values.values()), color="#1f5fa8", width=0.6)
    axes.bar_label(bars, fmt=form, padding=2)
    axes.set_ylim(0, max(*values.values(), 1) * 1.2)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## See it
#
# One frame half-way between two searched ones. A face that both of these show is never dropped;
# missed are faces that only one of them shows, or none: of somebody who turns, or hurries past.

# %%
middle = len(images) // 2 + 2
shown = [annotate(images[middle], found[stride][middle].boxes) for stride in (1, 4)]
show(shown, [f"stride {stride}, frame {middle}" for stride in (1, 4)], columns=2, size=4.6)

# %% [markdown]
# ## Which stride?
#
# - 1 where every face counts.
# - 4 for tracking: [face_tracking](face_tracking.py) bridges what is missed.
# - 8 for slow scenes. A face that comes and goes within a stride is never seen.
#
# Shrinking frames (`frames(..., max_side=640)`) and a larger `min_face_size` save more time than
# any stride, where faces are large enough for it.

# %% [markdown]
# ## Checks

# %%
assert all(len(faces) == len(images) for faces in found.values())  # an answer for each frame
every = [faces.boxes for faces in found[1]]
for stride in STRIDES[1:]:
    for number in range(0, len(images), stride):  # searched frames have the detector's own boxes
        assert np.array_equal(found[stride][number].boxes, every[number])
    assert missed[stride] < 0.5
    assert overlap[stride] > 0.7
boxes, _ = mtcnn.detect(images[0])
assert np.array_equal(every[0], np.zeros((0, 4)) if boxes is None else boxes)
