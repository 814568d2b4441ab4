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
# # Convert your own checkpoint
#
# A network that was trained in TensorFlow with davidsandberg/facenet becomes a file that PyTorch
# loads, and you can see that nothing was lost on the way.
#
# You need the checkpoint's `.index` and `.data-...` files. Neither TensorFlow nor PyTorch is
# needed to convert; PyTorch is used at the end, to run what came out.

# %%
import numpy as np
import torch
from matplotlib import pyplot as plt
from pictures import show
from sample_data import folder_of, output

from converter.convert import Request, convert
from converter.demo import write_demo
from converter.resolve import resolve
from facenet_common.errors import FacenetError
from facenet_models import InceptionResnetV1, PNet

folder = output("convert_checkpoint")

# %% [markdown]
# ## A checkpoint to try it on
#
# `write_demo` (in a shell: `python -m converter.demo FOLDER`) writes one with the names, shapes
# and format of a real checkpoint, and **values that nobody trained**. With your own, put its
# folder's name here instead.

# %%
checkpoint = folder / "20180402-demo"
write_demo(checkpoint, classes=100, overwrite=True)

for file in sorted(checkpoint.iterdir()):
    print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.name}")

# %% [markdown]
# ## What is inside
#
# `resolve` finds the checkpoint in a folder; `open` reads names and shapes, and no values yet. In
# a shell: `facenet inspect FOLDER`.

# %%
tensors = resolve(str(checkpoint)).open()
print(f"{len(tensors)} tensors, {sum(ref.nbytes for ref in tensors.values()) / 1e6:.0f} MB")
for name in sorted(tensors)[:5]:
    print(f"  {tensors[name].shape!s:<18}{name}")

# %% [markdown]
# ## Convert
#
# In a shell: `convert --checkpoint FOLDER --out vggface2.pt`. The receipt says what was done:
#
# - **mapped**: each tensor that has a place in PyTorch's network. Every one is used exactly once;
#   one that is missing, unknown or of another shape stops the conversion.
# - **added**: tensors that PyTorch has and the checkpoint does not have, with the reason.
# - **checked**: the file was read back, turned round, and compared with the checkpoint in every
#   bit.

# %%
weights = folder / "vggface2.pt"
receipt = convert(Request(checkpoint=str(checkpoint), out=str(weights), overwrite=True))
print(receipt.summary())

# %% [markdown]
# ## What converting does to a kernel
#
# TensorFlow keeps a convolution's kernel as height x width x in x out, PyTorch as out x in x
# height x width. The numbers stay, their order changes. One real kernel, if the reference data is
# there, else one of the demo's: each square below is one output channel of the first layer.

# %%
reference = folder_of("FACENET_REFERENCE_DIR")
if reference:
    source, network = str(reference / "mtcnn" / "det1.npy"), PNet()
    names = ("conv1/weights", "conv1.weight")
    print("P-Net's first layer, trained: det1.npy of davidsandberg/facenet")
else:
    source, network = str(checkpoint), InceptionResnetV1(num_classes=100)
    names = ("InceptionResnetV1/Conv2d_1a_3x3/weights", "conv2d_1a.conv.weight")
    print("the first layer of the demo: random numbers")

out = folder / "first_layer.pt"
convert(Request(checkpoint=source, out=str(out), overwrite=True))
network.load_state_dict(torch.load(out, weights_only=True))

before = resolve(source).open()[names[0]].load()
after = network.state_dict()[names[1]].numpy()
print(f"TensorFlow {before.shape}, PyTorch {after.shape}")

kernels = after[:10].transpose(0, 2, 3, 1)
scaled = (kernels - kernels.min()) / (kernels.max() - kernels.min())
show(list(scaled), [f"channel {i}" for i in range(len(scaled))], columns=5, size=1.5)

# %% [markdown]
# `.npy` files of MTCNN have one more twist: the original feeds its detector images with height and
# width exchanged. The converter exchanges them in the kernel instead, so that PyTorch's networks
# take images upright. `reshape` in place of `transpose` would have given the right *shape* and
# wrong numbers; that is why nothing is ever reshaped here.

# %%
upright = before.transpose(3, 2, 1, 0) if reference else before.transpose(3, 2, 0, 1)
print("transposed as it must be, equal in every bit:", np.array_equal(upright, after))
print("merely reshaped:", np.array_equal(before.reshape(after.shape), after))

# %% [markdown]
# ## Use it
#
# `pretrained` takes the path of a file. The demo's embeddings are meaningless; yours won't be.

# %%
resnet = InceptionResnetV1(pretrained=weights).eval()
torch.manual_seed(0)
with torch.inference_mode():
    embedding = resnet(torch.randn(1, 3, 160, 160))
print(tuple(embedding.shape), f"length {embedding.norm():.4f}")

# %% [markdown]
# ## And back
#
# An output that is a folder becomes a TensorFlow checkpoint again. Its tensors have the same
# digest: one hash over all names, shapes and values.

# %%
back = folder / "tensorflow"
convert(Request(checkpoint=str(weights), out=f"{back}/", overwrite=True))
again = convert(Request(checkpoint=str(back), out=str(folder / "again.pt"), overwrite=True))
print("there and back:", again.digest == receipt.digest)

# %% [markdown]
# ## When the file is damaged
#
# Every checksum of the format is checked. One byte of 90 million is changed:

# %%
damaged = folder / "damaged"
write_demo(damaged, classes=100, overwrite=True)
data = next(damaged.glob("*.data-*"))
content = bytearray(data.read_bytes())
content[len(content) // 2] ^= 1
data.write_bytes(content)

refused = ""
try:
    convert(Request(checkpoint=str(damaged), out=str(folder / "damaged.pt")))
except FacenetError as error:
    refused = str(error)
print(refused)

# %% [markdown]
# Nothing was written: an output appears whole, or not at all.

# %% [markdown]
# ## How the weights are spread
#
# A last look, at all kernels: the values before and after are the same, so their histograms are
# too.

# %%
state = torch.load(weights, weights_only=True)
tf_values = np.concatenate(
    [ref.load().ravel() for name, ref in tensors.items() if name.endswith("/weights")]
)
kernels = [
    value for name, value in state.items() if name.endswith("weight") and value.ndim in (2, 4)
]
torch_values = np.concatenate([value.numpy().ravel() for value in kernels])

edges = np.linspace(-0.4, 0.4, 81)
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.hist(tf_values, edges, color="#f0b429", label="TensorFlow checkpoint")
axes.hist(torch_values, edges, histtype="step", color="#1f5fa8", linewidth=2, label="PyTorch file")
axes.set_yscale("log")
axes.set_xlabel("value of a weight")
axes.set_ylabel("number of weights")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Checks

# %%
assert np.array_equal(upright, after)
assert not np.array_equal(before.reshape(after.shape), after)
assert again.digest == receipt.digest
assert "checksum" in refused
assert not (folder / "damaged.pt").exists()
assert np.array_equal(np.sort(tf_values), np.sort(torch_values))
assert abs(embedding.norm().item() - 1) < 1e-5

# %% [markdown]
# ## Next
#
# Bit for bit is a proof about the file. `facenet verify 20180402-114759 vggface2.pt` also runs
# both networks on the same images; [find_the_broken_layer](find_the_broken_layer.py) shows what
# it says when something is wrong.
