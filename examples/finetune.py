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
# # Fine-tune on new data
#
# `InceptionResnetV1` was trained to tell thousands of people apart. To make it a *classifier* for
# your own few, you replace its last layer and train a little, with the rest held fast.
#
# The data here are faces cut out of a short video: each person that can be followed through it is
# a class. With your own, make a folder for each person
# ([mtcnn_guide](mtcnn_guide.py) saves such folders).

# %%
import tempfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from pictures import show
from PIL import Image
from sample_data import faces_by_person, folder_of, mtcnn_weights, network, output
from torch import nn
from torch.utils.data import DataLoader, Dataset

from facenet_models import MTCNN, fixed_image_standardization, training

_ = torch.manual_seed(0)  # the same numbers every time

# %% [markdown]
# ## The data set
#
# **Hold some back.** A network can learn its training pictures by heart; only pictures that it has
# not seen say whether it learned more. Neighbouring frames of a video are all but the same
# picture, so a random split would put twins on both sides. Here the first part of each person's
# time is for training, the end is held out, and the frames between are not used.

# %%
mtcnn = MTCNN(keep_all=True, weights=mtcnn_weights())
people = faces_by_person(mtcnn)

SOME = {"train": 8, "held_out": 4}  # about so many of each person, to be quick
root = Path(tempfile.mkdtemp())
for person, faces in people.items():
    count = len(faces)
    parts = {"train": faces[: count * 6 // 10], "held_out": faces[-(count // 4) :]}
    for part, pictures in parts.items():
        folder = root / part / person
        folder.mkdir(parents=True)
        for i, picture in enumerate(pictures[:: len(pictures) // SOME[part] or 1]):
            Image.fromarray(picture).save(folder / f"{i:03d}.png")

shown = [faces[i] for faces in people.values() for i in (0, len(faces) // 3, -1)]
titles = [f"{name}, {when}" for name in people for when in ("first", "training", "held out")]
show(shown, titles, columns=6, size=1.5)

# %% [markdown]
# ## The class map
#
# The network answers with numbers, so each person gets one. Take it from the *sorted* names, and
# keep it with the weights: without it, "class 3" means nothing to whoever loads them.


# %%
class Faces(Dataset):
    """Read ``ROOT/PERSON/*.png`` as standardised tensors, with the number of the person's class."""

    def __init__(self, folder, classes, mirror):
        self.items = [(path, classes[path.parent.name]) for path in sorted(folder.glob("*/*.png"))]
        self.mirror = mirror

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        path, label = self.items[index]
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float()
        if self.mirror and torch.rand(()) < 0.5:
            pixels = pixels.flip(-1)  # a face in the mirror is the same person
        return fixed_image_standardization(pixels), label


classes = {name: number for number, name in enumerate(sorted(people))}
print(classes)

train_set = Faces(root / "train", classes, mirror=True)
held_out = Faces(root / "held_out", classes, mirror=False)
train_loader = DataLoader(train_set, batch_size=12, shuffle=True, drop_last=True)
held_out_loader = DataLoader(held_out, batch_size=64)
print(f"{len(train_set)} faces to train on, {len(held_out)} held out")

# %% [markdown]
# `drop_last=True`: a last batch of a single face can't be trained on, because batch normalisation
# needs two.
#
# ## The network
#
# With your own code this is one line:
#
# ```python
# InceptionResnetV1(pretrained="vggface2", classify=True, num_classes=len(classes))
# ```
#
# Another number of classes than the weights' gives a new, untrained last layer `logits`. Here the
# layer is put in by hand, because the weights may be random (see the note that is printed).

# %%
resnet, trained = network()
resnet.logits = nn.Linear(resnet.last_linear.out_features, len(classes))
resnet.classify = True

# %% [markdown]
# ## What to freeze
#
# Twenty-odd million numbers can't be learned from some dozen pictures. So everything is frozen,
# but the end: the layers that make the embedding, and the new `logits`. Two things must be done:
#
# 1. `requires_grad_(False)`: no gradients, so the optimiser does not touch the weights. (It also
#    saves most of the time and memory.)
# 2. **Batch normalisation must be kept in evaluation mode.** `requires_grad` does not do that! In
#    training mode these layers normalise with the statistics of the *batch*, and overwrite their
#    running statistics, gradients or not.
#
# Dropout stays off with the rest: it blots out six of ten features at random, which helps when
# millions of weights learn, and only disturbs when the last layers do.

# %%
TRAINED = ("last_linear", "last_bn", "logits")

for name, parameter in resnet.named_parameters():
    parameter.requires_grad_(name.startswith(TRAINED))


def train_mode(model):
    """Set trained modules to training mode, all others to evaluation mode."""
    model.train()
    for name, module in model.named_children():
        module.train(name in TRAINED)


free = sum(p.numel() for p in resnet.parameters() if p.requires_grad)
print(f"{free:,} of {sum(p.numel() for p in resnet.parameters()):,} weights are trained")

# %% [markdown]
# ## Batch normalisation's momentum
#
# A batch normalisation keeps a running mean and variance for evaluation. After each batch,
#
#     running = (1 - momentum) * running + momentum * of this batch
#
# PyTorch's default momentum is 0.1: after 22 batches, nine tenths of what was known is forgotten.
# The original was trained with a decay of 0.995, which is a *momentum of 0.005* in PyTorch's words
# (TensorFlow's decay is 1 minus PyTorch's momentum): 460 batches for the same.
#
# What was collected over millions of faces should not be replaced by what a dozen pictures of your
# five friends happen to have. The picture shows one layer's statistics while batches pass, with
# nothing trained at all.

# %%
batches = [faces for faces, _ in train_loader] * 4
drift = {}
for label, momentum, frozen in (
    ("training mode, momentum 0.1", 0.1, False),
    ("training mode, momentum 0.005", 0.005, False),
    ("evaluation mode: frozen", 0.1, True),
):
    layer = deepcopy(resnet.conv2d_1a).train(not frozen)
    layer.bn.momentum = momentum
    start = layer.bn.running_mean.clone()
    drift[label] = [0.0]
    with torch.no_grad():
        for batch in batches:
            layer(batch)
            drift[label].append(float((layer.bn.running_mean - start).norm()))

_, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for (label, values), colour in zip(drift.items(), ("#c81e1e", "#f0b429", "#1f5fa8"), strict=True):
    axes.plot(values, color=colour, label=label, linewidth=2)
axes.set_xlabel("batches seen")
axes.set_ylabel("running mean has\nmoved by (L2)")
axes.set_title("First batch normalisation, nothing trained", loc="left", fontsize=10)
axes.legend(frameon=False, fontsize=8)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# If you have thousands of pictures and want to train more layers, let their batch normalisation
# learn, but slowly: `module.momentum = 0.005` for each `nn.BatchNorm2d`.
#
# The exception is `last_bn`, which is trained here: it sits behind a layer that changes, so that
# its statistics must follow. It keeps 0.1.
#
# ## Train
#
# `training.pass_epoch` goes over a loader once: it trains if the model is in training mode, and
# else evaluates.

# %%
frozen_before = resnet.conv2d_1a.bn.running_mean.clone()
kernel_before = resnet.repeat_1[0].branch0.conv.weight.detach().clone()

optimizer = torch.optim.Adam((p for p in resnet.parameters() if p.requires_grad), lr=0.001)
loss_of = nn.CrossEntropyLoss()
accuracies = {"acc": training.accuracy}
history = {"training": [], "held out": []}

for epoch in range(6):
    print(f"epoch {epoch + 1}")
    train_mode(resnet)
    loss, metrics = training.pass_epoch(
        resnet, loss_of, train_loader, optimizer, batch_metrics=accuracies, show_running=True
    )
    history["training"].append((float(loss), float(metrics["acc"])))
    resnet.eval()
    loss, metrics = training.pass_epoch(
        resnet, loss_of, held_out_loader, batch_metrics=accuracies, show_running=True
    )
    history["held out"].append((float(loss), float(metrics["acc"])))

# %%
epochs = range(1, len(history["training"]) + 1)
_, both = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
for axes, column, label in zip(both, (0, 1), ("loss", "accuracy"), strict=True):
    for part, colour in (("training", "#9aa5b1"), ("held out", "#1f5fa8")):
        values = [row[column] for row in history[part]]
        axes.plot(epochs, values, "o-", color=colour, label=part)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_xticks(list(epochs))
    axes.set_ylim(0, 1.05 if column else None)
    axes.spines[["top", "right"]].set_visible(False)
both[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## How good is it?
#
# The held-out faces, one by one. Mind what this number is worth: all faces are from one scene of
# four seconds, so light, clothes and background give people away. Even *random* features may be
# enough for that. To know how a classifier does in life, hold out other days and other cameras.

# %%
resnet.eval()
with torch.inference_mode():
    logits = torch.cat([resnet(faces) for faces, _ in held_out_loader])
labels = torch.tensor([label for _, label in held_out.items])
guesses = logits.argmax(dim=1)
held_out_accuracy = training.accuracy(logits, labels).item()

kind = "trained weights" if trained else "backbone with RANDOM weights"
print(f"{kind}: {int((guesses == labels).sum())} of {len(labels)} held-out faces are right")

confusion = np.zeros((len(classes), len(classes)), int)
np.add.at(confusion, (labels.numpy(), guesses.numpy()), 1)
size = 2.2 + 0.6 * len(classes)
_, axes = plt.subplots(figsize=(size, size - 0.8), layout="constrained")
axes.imshow(confusion, cmap="Blues", vmax=confusion.max() * 1.5)
for row, column in np.ndindex(confusion.shape):
    axes.text(column, row, confusion[row, column], ha="center", va="center")
axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
axes.set_yticks(range(len(classes)), classes)
axes.set_xlabel("the network's guess")
axes.set_ylabel("who it is")
axes.set_title(f"Held-out faces\n({kind})", loc="left", fontsize=10)
plt.show()

# %% [markdown]
# ## Keep it
#
# Weights and class map together. `weights_only=True` reads tensors and plain values, and runs
# nothing that a stranger may have put into the file.

# %%
file = output("finetune") / "classifier.pt"
torch.save({"state": resnet.state_dict(), "classes": classes}, file)

loaded = torch.load(file, weights_only=True)
names = {number: name for name, number in loaded["classes"].items()}
print(
    "the first held-out face is", names[int(guesses[0])], "- and should be", names[int(labels[0])]
)

# %% [markdown]
# ## Checks

# %%
assert torch.equal(resnet.conv2d_1a.bn.running_mean, frozen_before)  # statistics stayed
assert torch.equal(resnet.repeat_1[0].branch0.conv.weight, kernel_before)  # and so did weights
assert drift["evaluation mode: frozen"][-1] == 0
assert drift["training mode, momentum 0.1"][-1] > drift["training mode, momentum 0.005"][-1] > 0
assert history["training"][-1][0] < history["training"][0][0]  # it learned something
if folder_of("FACENET_REFERENCE_DIR"):  # without data, all "people" are one: see sample_data
    assert held_out_accuracy > 1.3 / len(classes)  # more than guessing
assert loaded["classes"] == classes
