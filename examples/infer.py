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
# # From photographs to distances between faces
#
# Three steps take a photograph to an answer to "is this the same person?":
#
# 1. **Detect**: `MTCNN` finds faces, and cuts each out as a square of 160 x 160 pixels.
# 2. **Embed**: `InceptionResnetV1` turns each square into an *embedding*: 512 numbers, a point on
#   a  sphere of radius 1. It was trained so that faces of one person lie close together there.
# 3. **Compare**: the distance between two points. No names, no classes: two people that the
#    network has never seen can be compared.

# %%
import numpy as np
import torch
from pictures import as_picture, matrix, show
from sample_data import mtcnn_weights, network, photographs

from facenet_models import MTCNN
from facenet_models.recognition.distances import distance

images = photographs()
show(list(images.values()), list(images), columns=3, size=3.2)

# %% [markdown]
# ## Detect
#
# `keep_all=True` asks for every face; without it the detector gives only the largest.
# A list of images is a batch; the images may differ in size.
#
# For each image comes a tensor `(faces, 3, 160, 160)`, or `None` where there is no face: look for
# that before you go on. `return_prob=True` also gives the detector's confidence.
#
# The values are standardised already, `(pixel - 127.5) / 128`, as the network was trained:
# don't scale them again.

# %%
mtcnn = MTCNN(image_size=160, margin=0, keep_all=True, weights=mtcnn_weights())

found, probabilities = mtcnn(list(images.values()), return_prob=True)

faces, names = [], []
for name, crops, probs in zip(images, found, probabilities, strict=True):
    if crops is None:
        print(f"{name}: no face")
        continue
    print(f"{name}: {len(crops)} face(s), confidence {', '.join(f'{p:.3f}' for p in probs)}")
    faces += list(crops)
    stem = name.rpartition(".")[0].replace("_000", " ").replace("_", " ")
    names += [stem if len(crops) == 1 else f"{stem} #{i}" for i in range(1, len(crops) + 1)]

show([as_picture(face) for face in faces], names, columns=4, size=1.8)

# %% [markdown]
# ## Embed
#
# All faces go through the network in one batch. `eval()` matters (it has been called already
# for this network): in training mode each embedding would depend on the other faces in the batch.

# %%
resnet, trained = network()

with torch.inference_mode():
    embeddings = resnet(torch.stack(faces)).numpy()

print(f"\n{embeddings.shape[0]} embeddings of {embeddings.shape[1]} numbers")
print("their lengths:", np.linalg.norm(embeddings, axis=1).round(4))

# %% [markdown]
# ## Compare
#
# `distance` gives the *squared* Euclidean distance, as the original FaceNet does: 0 for the same
# point, 2 for unrelated directions, 4 for opposite ones. The FaceNet paper (Schroff et al., 2015)
# tells its examples apart at 1.1; the right threshold depends on the weights and on your pictures,
# and [lfw_evaluate](lfw_evaluate.py) measures it.
#
# If the title below says *untrained*, the distances come from light and colours as random weights
# happen to mix them, not from who is in the pictures.

# %%
table = distance(embeddings[:, None], embeddings[None])

kind = "trained weights" if trained else "UNTRAINED weights: these numbers mean nothing"
matrix(table, names, "squared distance", f"Distances between faces\n({kind})")

# %%
if trained:
    apart = table + 5 * np.eye(len(names))  # nobody is their own neighbour
    for name, row in zip(names, apart, strict=True):
        print(f"nearest to {name:<20}{names[int(row.argmin())]:<20}{row.min():.3f}")
else:
    print("Who is nearest to whom is left out: with random weights it would mean nothing.")

# %% [markdown]
# ## Checks
#
# What must hold whatever the weights are:

# %%
assert len(faces) >= 2
assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)  # on the sphere
assert np.allclose(np.diag(table), 0)
assert np.allclose(table, table.T)
assert table.max() <= 4

# %% [markdown]
# ## Next
#
# A folder of people in two lines, with names kept beside their vectors, and whoever is nearest:
#
# ```python
# from facenet_models.recognition import embed, identify
#
# gallery = embed("people", resnet, mtcnn)  # people/Ann/1.jpg shows Ann
# ((nearest,),) = identify(embed(["query.jpg"], resnet, mtcnn), gallery)
# ```
