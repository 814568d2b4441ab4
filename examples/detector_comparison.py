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
# # A comparison of face detectors
#
# The same photographs for several detectors: what does each find, and how long does it take?
#
# Ours is always there, in both of its backends. Others take part if they are installed:
#
# - **facenet-pytorch**: MTCNN in PyTorch, the same weights. It asks for torch below 2.3, so it may
#   need an environment of its own. Where it is missing but the project's reference data is there,
#   its *recorded* boxes are shown, without times.
# - **mtcnn**: MTCNN in TensorFlow.
# - **dlib**: no neural network, but histograms of gradients. It looks for upright frontal faces.

# %%
import json
from importlib.util import find_spec
from time import perf_counter

import numpy as np
from matplotlib import pyplot as plt
from pictures import show
from sample_data import folder_of, mtcnn_weights, photographs

from facenet_models import MTCNN
from facenet_models.draw import annotate
from facenet_models.video.matching import match

images = photographs()
weights = mtcnn_weights()

# %% [markdown]
# ## One form for all
#
# Each detector becomes a function from an RGB array to boxes `(N, 4)`: left, top, right, bottom.
# Their own answers differ: `mtcnn` gives left, top, width and height; dlib rectangles.


# %%
def ours(backend):
    detector = MTCNN(keep_all=True, backend=backend, weights=weights)
    return lambda array: detector.detect(array)[0]


def facenet_pytorch():
    from facenet_pytorch import MTCNN as Theirs  # noqa: N811 # a class, like ours

    detector = Theirs(keep_all=True)
    return lambda array: detector.detect(array)[0]


def mtcnn():
    from mtcnn import MTCNN as Theirs  # noqa: N811 # a class too

    detector = Theirs()

    def detect(array):
        rows = [answer["box"] for answer in detector.detect_faces(array)]
        return [(x, y, x + width, y + height) for x, y, width, height in rows]

    return detect


def dlib():
    from dlib import get_frontal_face_detector

    detector = get_frontal_face_detector()

    def detect(array):
        rows = detector(array, 0)
        return [(row.left(), row.top(), row.right(), row.bottom()) for row in rows]

    return detect


# %% [markdown]
# ## Who is here

# %%
detectors = {
    "ours": ours("facenet-pytorch"),
    "ours, reference backend": ours("reference"),
}
for name, make in {"facenet-pytorch": facenet_pytorch, "mtcnn": mtcnn, "dlib": dlib}.items():
    if find_spec(make.__name__) is None:
        print(f"{name}: SKIPPED, it is not installed (pip install {name})")
        continue
    try:
        detect = make()
        detect(np.zeros((64, 64, 3), np.uint8))
    except Exception as error:  # other people's packages fail in their own ways
        print(f"{name}: SKIPPED, it is installed but fails: {type(error).__name__}: {error}")
        continue
    detectors[name] = detect
print("taking part:", ", ".join(detectors))

# %% [markdown]
# ## Run
#
# Each detector sees each photograph three times; the fastest counts. The first call is left out,
# in which frameworks load and plan.

# %%
arrays = {name: np.array(image) for name, image in images.items()}
boxes, milliseconds = {}, {}
for name, detect in detectors.items():
    boxes[name], milliseconds[name] = {}, {}
    for file, array in arrays.items():
        answer = detect(array)
        times = []
        for _ in range(3):
            started = perf_counter()
            detect(array)
            times.append(1000 * (perf_counter() - started))
        milliseconds[name][file] = min(times)
        boxes[name][file] = np.asarray([] if answer is None else answer, float).reshape(-1, 4)

reference = folder_of("FACENET_REFERENCE_DIR")
record = reference and reference / "golden" / "facenet_pytorch_detect.json"
if "facenet-pytorch" not in boxes and record and record.is_file():
    results = json.loads(record.read_text())["results"]
    keys = {file: f"images/{file}|PIL|keep_all" for file in arrays}
    if set(keys.values()) <= set(results):
        rows = {file: np.array(results[key]["boxes"], float) for file, key in keys.items()}
        boxes["facenet-pytorch, recorded"] = rows

# %% [markdown]
# ## What each finds

# %%
group = max(arrays, key=lambda file: arrays[file].size)
shown = [annotate(arrays[group], found[group]) for found in boxes.values()]
titles = [f"{name}: {len(found[group])} faces" for name, found in boxes.items()]
show(shown, titles, columns=2, size=4.6)

print(f"{'faces found':<28}" + "".join(f"{file[:24]:>26}" for file in arrays))
for name, found in boxes.items():
    print(f"{name:<28}" + "".join(f"{len(found[file]):>26}" for file in arrays))

# %% [markdown]
# Detectors draw boxes differently, so more or less face is inside. How far are others' boxes from
# ours? For MTCNN with the same weights: next to nothing for facenet-pytorch, and some pixels for
# the reference backend, which does the arithmetic of the original TensorFlow detector.

# %%
mean_difference = {}
for name, found in boxes.items():
    if name == "ours":
        continue
    shifts = []
    for file in arrays:
        for mine, theirs in match(boxes["ours"][file], found[file], 0.3):
            shifts.append(np.abs(boxes["ours"][file][mine] - found[file][theirs]).mean())
    mean_difference[name] = float(np.mean(shifts)) if shifts else np.nan
    print(
        f"{name:<28}{len(shifts)} faces in common, edges {mean_difference[name]:.3g} pixels apart"
    )

# %% [markdown]
# ## How long it takes
#
# On this machine, on its processor, right now. Detectors with other default settings don't do the
# same work: read this as an order of magnitude.

# %%
_, axes = plt.subplots(figsize=(8, 0.9 + 0.5 * len(milliseconds)), layout="constrained")
names = list(milliseconds)[::-1]
values = [milliseconds[name][group] for name in names]
bars = axes.barh(names, values, color="#1f5fa8", height=0.55)
axes.bar_label(bars, fmt="%.0f ms", padding=4)
axes.set_xlim(0, max(values) * 1.18)
height, width = arrays[group].shape[:2]
axes.set_xlabel(f"milliseconds for {group} ({width} x {height} pixels)")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Checks

# %%
assert all(len(found) for found in boxes["ours"].values())
for file in arrays:  # both backends find the same people
    both = [boxes[name][file] for name in ("ours", "ours, reference backend")]
    assert len(match(*both, 0.5)) == len(both[0]) == len(both[1])
for name in mean_difference:
    if name.startswith("facenet-pytorch"):
        assert mean_difference[name] < 0.01  # pixels
