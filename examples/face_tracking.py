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
# # Follow faces through a video
#
# A video goes in; out comes the same video with a box around each face, and a number that a face
# keeps while it is seen. Frames without any face stay in, so that the result is as long as the
# original.

# %%
from collections import Counter

import numpy as np
from IPython.display import Video, display
from matplotlib import pyplot as plt
from pictures import show
from sample_data import mtcnn_weights, output, video

from facenet_models import MTCNN
from facenet_models.draw import annotate
from facenet_models.video import FastMTCNN, Frame, follow, frames, video_info, write_video

source = video()
info = video_info(source)
rate = float(info.fps or 25)
print(f"{info.width} x {info.height} pixels, {rate:g} frames a second, {info.frames} frames")

# %% [markdown]
# ## Read
#
# `frames` decodes one frame at a time and keeps none, so the length of a video does not matter for
# memory. `max_side=640` shrinks frames: a detector that looks for faces of 20 pixels and more
# has four times less to search when both sides are halved. Faces that are too small then are lost.

# %%
SIDE = 640

first = next(iter(frames(source, max_side=SIDE)))
print(f"frame {first.index}, shown at {first.time:g} s, an array {first.image.shape}")

# %% [markdown]
# ## Detect and follow
#
# - `FastMTCNN(mtcnn, stride=8)` searches every eighth frame as a whole. In between it only looks
#   near the places where faces were ([fast_mtcnn](fast_mtcnn.py) shows what that costs).
# - `follow` links the boxes of consecutive frames by their overlap. A face counts once it was seen
#   in 3 frames in a row, and keeps its number through gaps of up to 12 frames.
# - `annotate` draws on a *copy* of the frame. With no box it gives the frame as it is: that is all
#   that is needed for frames without faces.
#
# To show that these survive, a second of black frames is put in front.


# %%
def with_black_second(path):
    """Yield the video's frames, after one second of black ones."""
    count = round(rate)
    black = np.zeros_like(first.image)
    for index in range(count):
        yield Frame(index, index / rate, black)
    for frame in frames(path, max_side=SIDE):
        yield Frame(frame.index + count, frame.time + count / rate, frame.image)


mtcnn = MTCNN(keep_all=True, weights=mtcnn_weights())
detector = FastMTCNN(mtcnn, stride=8)

seen = []  # the numbers of the faces in each frame


def annotated():
    """Yield frames with boxes, one after the other, for the video file."""
    for frame, faces in follow(with_black_second(source), detector):
        seen.append(faces.ids.tolist())
        yield Frame(frame.index, frame.time, annotate(frame.image, faces.boxes, faces.ids))


target = output("face_tracking") / "tracked.mp4"
written = write_video(target, annotated(), fps=rate, overwrite=True)
print(f"{written} frames written to {target}, {sum(not ids for ids in seen)} without a face")

# %% [markdown]
# Nothing of this was kept in memory: `write_video` asks for a frame, `follow` asks the detector,
# and the detector asks the file. If it is interrupted, no half-written file is left.

# %%
display(Video(str(target), embed=True, width=640))

# %% [markdown]
# ## Look at it

# %%
result = [frame.image for frame in frames(target)]
chosen = np.linspace(0, len(result) - 1, 6).astype(int)
show([result[i] for i in chosen], [f"frame {i}" for i in chosen], columns=2, size=4.4)

# %% [markdown]
# ## Who was there when
#
# One row for each number. A face that is hidden for longer than 12 frames, or that turns away,
# comes back under a *new* number: overlap alone can't know that it is the same person. With
# trained weights embeddings can: `follow(..., embed=embedder(resnet))`, or
# `facenet track --recognise vggface2`.

# %%
numbers = sorted({number for ids in seen for number in ids})
figure, axes = plt.subplots(figsize=(8, 1 + 0.28 * len(numbers)), layout="constrained")
for row, number in enumerate(numbers):
    times = [i / rate for i, ids in enumerate(seen) if number in ids]
    axes.plot(times, [row] * len(times), "s", markersize=4)
axes.axvspan(0, 1, color="0.9")
axes.text(0.5, len(numbers) - 0.45, "black", ha="center", va="top", color="0.4", fontsize=9)
axes.set_yticks(range(len(numbers)), [f"#{number}" for number in numbers])
axes.set_ylim(-0.6, len(numbers) - 0.4)
axes.set_xlim(0, len(seen) / rate)
axes.set_xlabel("seconds")
axes.set_title("When each face was seen", loc="left", fontsize=10)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

for number, count in Counter(n for ids in seen for n in ids).most_common(3):
    print(f"face #{number} is in {count} frames")

# %% [markdown]
# ## Checks

# %%
expected = sum(1 for _ in with_black_second(source))
assert written == len(result) == len(seen) == expected  # not a frame is lost
assert not any(seen[: round(rate)])  # nobody is found in the dark
assert max(np.max(result[i]) for i in range(round(rate))) < 20  # and it is still black
assert numbers  # somebody is found later
assert len(set(numbers)) == max(numbers)  # numbers count up from 1
