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
# # Find the layer that broke
#
# Somebody's PyTorch network gives other embeddings than the TensorFlow network that it was made
# from. It has 132 convolutions. Which one is wrong?
#
# `parity_tests` answers that. Here two bugs are planted, of the kinds that happen: two tensors in
# each other's place, and a number that no weight file holds.
#
# This notebook runs the TensorFlow graph once (`pip install -e ".[parity]"`). The weights are the
# demo's, **untrained**: parity is about computing the same, not about faces, so they serve as well
# as any.

# %%
from collections import Counter

import numpy as np
import torch
from matplotlib import pyplot as plt
from sample_data import output

from converter.convert import Request, convert
from converter.demo import write_demo
from parity_tests.batches import Batches
from parity_tests.localise.layers import first_fault, localise
from parity_tests.open_sides import FeedOptions, open_candidate, open_live, open_reference
from parity_tests.probes import probes
from parity_tests.reference.recorded import capture
from parity_tests.verify import verify

folder = output("find_the_broken_layer")

# %% [markdown]
# ## The original, and weights that are right
#
# `capture` (in a shell: `facenet capture CHECKPOINT --out reference.h5`) runs the TensorFlow
# graph on noise and records the images, the answers, what every block gives, and a hash of each
# weight. From here on TensorFlow is not needed any more.

# %%
checkpoint, right, recorded = folder / "checkpoint", folder / "right.pt", folder / "reference.h5"
write_demo(checkpoint, classes=0, overwrite=True)
convert(Request(checkpoint=str(checkpoint), out=str(right), overwrite=True))

about = capture(open_live(str(checkpoint), FeedOptions(count=1)), recorded, "blocks", Batches(4))
print(f"recorded: {about['activations']} activations, {recorded.stat().st_size / 1e6:.0f} MB")

# %%
report = verify(str(recorded), str(right))
for gate in report.gates:
    print(f"{gate.name:<10}{gate.status:<8}{gate.summary}")
print("\n" + report.headline.replace(f"{folder}/", ""))

# %% [markdown]
# ## Bug 1: two tensors in each other's place
#
# Deep in the network, the means of two batch normalisations of one block are exchanged. The file
# loads without complaint: names and shapes are right.

# %%
state = torch.load(right, weights_only=True)
one, other = (f"repeat_2.3.branch1.{i}.bn.running_mean" for i in (0, 1))
state[one], state[other] = state[other], state[one]
broken = folder / "broken.pt"
torch.save(state, broken)

bad = verify(str(recorded), str(broken))
print(bad.headline, "\n")
for gate in bad.gates:
    print(f"{gate.name:<10}{gate.status:<8}{gate.summary}")

# %% [markdown]
# The first gate compares weights, and it would be enough here. But suppose that you had no
# original weights, only the original's answers. Then the layers speak:
#
# - **cumulative**: both networks get the same image. Behind a broken layer everything differs.
# - **isolated**: each PyTorch block gets what *TensorFlow's* block before it gave. Only a block
#   that is broken *itself* differs then. Its verdict is *source*; those behind it have
#   *inherited* the error.


# %%
def error(comparison):
    """Return the largest difference at a layer; NaN where there is none."""
    measured = comparison is not None and comparison.measure is not None
    return comparison.measure.max_abs if measured else np.nan


def draw(results, title):
    """Plot the differences along the network, and mark the broken layer."""
    places = range(len(results))
    _, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for kind, colour, marker in (("cumulative", "#9aa5b1", "o"), ("isolated", "#1f5fa8", "s")):
        values = [max(error(getattr(result, kind)), 1e-9) for result in results]
        axes.plot(places, values, marker=marker, markersize=4, color=colour, label=kind)
    for place, result in enumerate(results):
        if result.verdict == "source":
            axes.axvline(place, color="#c81e1e", linewidth=8, alpha=0.2, zorder=0)
    axes.axvline(np.nan, color="#c81e1e", linewidth=8, alpha=0.2, label="source of an error")
    axes.set_yscale("log")
    axes.set_ylabel("largest difference (0 is drawn as 1e-9)")
    names = [result.probe for result in results]
    axes.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    axes.grid(axis="y", color="0.93")
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()


draw(report.probes, "Right weights: nothing but rounding")
draw(bad.probes, "Two tensors exchanged")

# %%
for result in bad.probes:
    if result.verdict == "source":
        print(f"{result.probe}: {result.hint or 'its output differs, its input does not'}")
print(dict(Counter(result.verdict for result in bad.probes)))

# %% [markdown]
# The block was found without the original's weights. With them, the first gate names the tensors:

# %%
for finding in bad.gates[0].findings:
    print(finding)

# %% [markdown]
# ## Bug 2: a number that no weight file holds
#
# The weights are right in every bit now. But whoever wrote this network has taken PyTorch's
# default epsilon, 1e-5, for one batch normalisation, where the original has 1e-3. No comparison
# of weights can see that.

# %%
reference = open_reference(str(recorded), FeedOptions())
images = reference.feeds[0].images

with reference.activations() as original, open_candidate(str(right)).runner() as runner:
    runner.model.conv2d_4a.bn.eps = 1e-5
    wrong = localise(original, runner, images, probes(runner.architecture, "blocks"))

draw(wrong, "One epsilon differs")
fault = first_fault(wrong)
print(f"{fault.probe}: {fault.hint}")

# %% [markdown]
# The answers alone led to the layer, and to what about it is wrong: with the other epsilon, the
# layer gives what the original's does.

# %% [markdown]
# ## Checks

# %%
assert report.passed
assert {result.verdict for result in report.probes} == {"same"}

sources = [result.probe for result in bad.probes if result.verdict == "source"]
assert not bad.passed
assert sources == ["Repeat_1/block17_4"]  # repeat_2.3 counts from 0, the original from 1
assert bad.gates[0].name == "weights"
assert bad.gates[0].status == "failed"

assert [result.probe for result in wrong if result.verdict == "source"] == [fault.probe]
assert "4a" in fault.probe
assert "epsilon 1e-05, the reference's is 0.001" in fault.hint

# %% [markdown]
# ## Next
#
# `facenet verify reference.h5 broken.pt --html report.html` writes all of this as a page, with
# `--junit` for your CI ([docs/ci.md](../docs/ci.md)). `--probes all` looks at each convolution
# inside the blocks.
