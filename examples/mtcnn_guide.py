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
# # A guide to MTCNN
#
# What the face detector's parameters do, one at a time, on photographs.
#
# MTCNN is three small networks in a row (Zhang et al., 2016). **P-Net** looks at the image in
# many sizes and proposes boxes; **R-Net** throws out most of them; **O-Net** decides, and finds
# five landmarks in each face. Each passes on only what it is sure enough of: `thresholds`.

# %%
from time import perf_counter

import numpy as np
from matplotlib import pyplot as plt
from pictures import as_picture, show
from PIL import Image
from sample_data import mtcnn_weights, output, photographs

from facenet_models import MTCNN, extract_face, fixed_image_standardization
from facenet_models.draw import annotate

images = photographs()
weights = mtcnn_weights()  # None would do too: then MTCNN finds or downloads the published ones

portrait = min(images.values(), key=lambda image: image.width * image.height)
group = max(images.values(), key=lambda image: image.width * image.height)
show([portrait, group], [f"portrait {portrait.size}", f"group {group.size}"], columns=2, size=4.2)

# %% [markdown]
# ## One face, as the network wants it
#
# `mtcnn(image)` gives the largest face as a tensor `(3, 160, 160)`. Its values are
# **standardised**: `(pixel - 127.5) / 128`, so -0.996 to 0.996. That is what `InceptionResnetV1`
# was trained on, and it goes in directly.
#
# matplotlib wants 0 to 1, or bytes, and height x width x 3: drawn as it is, a standardised face
# looks far too dark, because everything below middle grey is cut off.

# %%
mtcnn = MTCNN(weights=weights)
face = mtcnn(portrait)
print(face.shape, face.dtype, f"{face.min():.3f} to {face.max():.3f}")

wrong = face.permute(1, 2, 0).numpy().clip(0, 1)
right = (face.permute(1, 2, 0).numpy() + 1) / 2
show([wrong, right], ["drawn as it is: wrong", "(face + 1) / 2: right"], columns=2, size=2.4)

# %% [markdown]
# `post_process=False` leaves the standardisation out: the values are 0 to 255, still float32.
# `fixed_image_standardization` does it later.

# %%
pixels = MTCNN(post_process=False, weights=weights)(portrait)
print(f"{pixels.min():.0f} to {pixels.max():.0f}")
assert np.allclose(fixed_image_standardization(pixels), face, atol=1e-6)

# %% [markdown]
# ## Margin and size
#
# The box ends at chin and forehead. `margin` adds that many pixels *of the result*, both sides
# together, so the same `margin` always adds the same part of a face, however large the face is in
# the photograph. The original trained InceptionResnetV1 on crops with some margin. For
# recognition, use the same one for all images that you compare.

# %%
margins = [0, 14, 40, 80]
crops = [as_picture(MTCNN(margin=margin, weights=weights)(portrait)) for margin in margins]
show(crops, [f"margin={margin}" for margin in margins], columns=4, size=2)

# %%
sizes = [32, 80, 160]
crops = [as_picture(MTCNN(image_size=size, margin=0, weights=weights)(portrait)) for size in sizes]
show(crops, [f"image_size={size}" for size in sizes], columns=3, size=2)

# %% [markdown]
# ## Boxes and landmarks
#
# `detect` finds without cutting out. Boxes are left, top, right, bottom in pixels of the image;
# landmarks are x and y of left eye, right eye, nose, left and right corner of the mouth, where
# "left" is the left of the picture.

# %%
boxes, probs, points = mtcnn.detect(group, landmarks=True)
print("boxes", boxes.shape, "probabilities", probs.shape, "landmarks", points.shape)
for box, prob in zip(boxes, probs, strict=True):
    print(
        "  left {:6.1f}  top {:6.1f}  right {:6.1f}  bottom {:6.1f}".format(*box), f"  {prob:.4f}"
    )

show([annotate(group, boxes, probs=probs, landmarks=points)], columns=1, size=8.5)

# %% [markdown]
# A landmark tells how a head is tilted. The line through the eyes:

# %%
for number, (left_eye, right_eye, *_) in enumerate(points, start=1):
    across, down = right_eye - left_eye
    print(
        f"face {number}: eyes {np.hypot(across, down):.0f} pixels apart, "
        f"tilted by {np.degrees(np.arctan2(down, across)):+.0f} degrees"
    )

# %% [markdown]
# ## Many faces, or the one that you mean
#
# `keep_all=True` gives all faces, `(faces, 3, 160, 160)`, largest first. Without it you get one.
# Which one is up to `selection_method`:
#
# - `"largest"`, the default;
# - `"probability"`, the one that O-Net is surest of;
# - `"center_weighted_size"`, large and near the middle, for portraits with people behind;
# - `"largest_over_threshold"`, the largest whose probability is above 0.9.

# %%
everyone = MTCNN(keep_all=True, weights=weights)(group)
show(
    [as_picture(face) for face in everyone],
    [f"#{i}" for i in range(1, len(everyone) + 1)],
    columns=6,
    size=1.4,
    suptitle="keep_all=True",
)

methods = ["largest", "probability", "center_weighted_size"]
chosen = [MTCNN(selection_method=method, weights=weights)(group) for method in methods]
show([as_picture(face) for face in chosen], methods, columns=3, size=2)

# %% [markdown]
# ## How small, how sure
#
# `min_face_size` is the smallest face to look for, in pixels. It decides how long detection
# takes: the image is shrunk until such a face is 12 pixels high, which is what P-Net sees. If the
# faces that you want are 100 pixels high, say so. It is no
# filter: somewhat smaller faces may still be found, because P-Net's search is coarse and the boxes
# are adjusted afterwards.
#
# `thresholds` are the least probabilities of the three networks. Lower ones find more faces,
# and more that are none.

# %%
minimums = [10, 20, 40, 80, 160, 240]
counts, milliseconds = [], []
for size in minimums:
    detector = MTCNN(min_face_size=size, weights=weights)
    started = perf_counter()
    found, _ = detector.detect(group)
    milliseconds.append(1000 * (perf_counter() - started))
    counts.append(0 if found is None else len(found))

figure, both = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
for axes, values, label in zip(
    both, (counts, milliseconds), ("faces", "milliseconds"), strict=True
):
    bars = axes.bar([str(size) for size in minimums], values, color="#1f5fa8", width=0.6)
    axes.bar_label(bars, fmt="%.0f", padding=2)
    axes.set_xlabel("min_face_size in pixels")
    axes.set_ylabel(label)
    axes.set_ylim(0, max(values) * 1.2)
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

heights = boxes[:, 3] - boxes[:, 1]
print(f"the faces are {heights.min():.0f} to {heights.max():.0f} pixels high")

# %% [markdown]
# ## Batches
#
# A list of images is a batch, of one size or several. Each answer stands in its image's place;
# an image without a face gives `None` for box and crop, and `[None]` for the probability. Check
# for `None` before you stack crops.

# %%
black = Image.new("RGB", (320, 240))
batch = [portrait, black, group]

crops, probs = mtcnn(batch, return_prob=True)
for crop, prob in zip(crops, probs, strict=True):
    print("no face" if crop is None else tuple(crop.shape), prob)

assert crops[1] is None
assert all(crops[i] is not None for i in (0, 2))

# %% [markdown]
# Frames of a video, all of one size, may also be an array `(N, height, width, 3)`, RGB. OpenCV
# reads BGR: turn it round first, `frame[:, :, ::-1]`.

# %% [markdown]
# ## Save a data set of faces
#
# `save_path` writes what is cut out, and returns it too. For a batch, pass one path for each
# image. With `keep_all` the second face of `name.png` goes to `name_2.png`, and so on. Folders
# are made.
#
# One folder for each person is what `facenet_models.recognition.embed` and torchvision's
# `ImageFolder` expect.

# %%
folder = output("mtcnn_guide") / "faces"
paths = [folder / name.rpartition(".")[0] / "face.png" for name in images]

keeper = MTCNN(keep_all=True, margin=20, weights=weights)
keeper(list(images.values()), save_path=paths)

saved = sorted(folder.rglob("*.png"))
show(
    [Image.open(path) for path in saved],
    [f"{path.parent.name}/\n{path.name}" for path in saved],
    columns=4,
    size=2.1,
)

# %% [markdown]
# Cut a face out yourself, from a box that was found before or by another detector:

# %%
crop = extract_face(group, boxes[0], image_size=160, margin=20)  # 0 to 255, not standardised
print(tuple(crop.shape), f"{crop.min():.0f} to {crop.max():.0f}")

# %% [markdown]
# ## Checks

# %%
assert face.shape == (3, 160, 160)
assert face.min() >= -1
assert face.max() <= 1
assert boxes.shape == (len(everyone), 4)
assert points.shape == (len(everyone), 5, 2)
inside = (points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])
assert inside.mean() > 0.9  # landmarks lie within their boxes
assert counts[0] >= counts[1] >= counts[-1]  # a higher minimum finds no more faces
assert len(saved) >= len(images)
assert all(Image.open(path).size == (160, 160) for path in saved)
