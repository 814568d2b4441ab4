"""Find the notebooks' data: photographs, a video, faces, and weights.

Photographs come from the first of these that is there, and the video from the first that has one:

1. ``FACENET_EXAMPLES_DATA``: a folder of your own, with photographs and, if you like, one video;
2. ``FACENET_REFERENCE_DIR``: the project's reference data;
3. a photograph that matplotlib brings along (Grace Hopper, US Navy, public domain), from which a
   group picture and a short video are put together.

Nothing is downloaded here. Files are written to ``output/`` in the current folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from facenet_models import MTCNN, InceptionResnetV1

OUTPUT = Path("output")
VIDEOS = (".mp4", ".mkv", ".mov")
SEED = 20180402  # of the random weights used where there are no trained ones
WALL = (196, 190, 178)  # the background of the group picture
FPS = 25

UNTRAINED = (
    "NOTE: trained weights of InceptionResnetV1 are not on this machine, so the network is filled "
    "with random numbers (seed {seed}).\n"
    "Every step below runs as it would with real weights, but the embeddings can't distinguish "
    "people:\ndistances and accuracies mean nothing. To download trained weights (107 MB, "
    "once):\n"
    "  python -c \"from facenet_models import InceptionResnetV1; InceptionResnetV1('vggface2')\""
)


def folder_of(variable: str) -> Path | None:
    """Return the folder that an environment variable names, if it exists."""
    folder = Path(os.environ.get(variable) or "/nonexistent").expanduser()
    return folder if folder.is_dir() else None


def photographs() -> dict[str, Image.Image]:
    """Return photographs by name, RGB and upright: at least two, one of them of a group."""
    from facenet_models.recognition.image_files import find_images, read_image

    variable, folder = next(_folders("images"), (None, None))
    if folder is None:
        print("Photographs: put together from one that matplotlib brings along.")
        return _made_up()
    print(f"Photographs: from the folder that {variable} names.")
    read = {name: read_image(path, name) for name, path in find_images(folder).items()}
    return {name: image for name, image in read.items() if isinstance(image, Image.Image)}


def video() -> Path:
    """Return a video with faces."""
    for variable, folder in _folders("video"):
        found = next((path for path in sorted(folder.iterdir()) if path.suffix in VIDEOS), None)
        if found:
            print(f"Video: {found.name}, from the folder that {variable} names.")
            return found
    from facenet_models.video import write_video

    print("Video: a camera that moves over a picture put together from one photograph.")
    path = output("made_up") / "video.mp4"
    write_video(path, _camera(_made_up()["group.png"]), FPS, overwrite=True)
    return path


def output(name: str) -> Path:
    """Make the folder ``output/NAME`` and return it."""
    folder = OUTPUT / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def mtcnn_weights() -> Path | None:
    """Return the argument for ``MTCNN(weights=...)``.

    The original's trained weights, converted, if the reference data is there; else None: then
    MTCNN looks in ``FACENET_WEIGHTS`` and in the cache, and downloads them if need be (2 MB).
    """
    reference = folder_of("FACENET_REFERENCE_DIR")
    if reference is None:
        return None
    from converter.convert import Request, convert

    folder = output("mtcnn")
    for source, net in (("det1.npy", "pnet"), ("det2.npy", "rnet"), ("det3.npy", "onet")):
        source_file, file = reference / "mtcnn" / source, folder / f"{net}.pt"
        convert(Request(checkpoint=str(source_file), out=str(file), overwrite=True))
    return folder


def network() -> tuple[InceptionResnetV1, bool]:
    """Return an InceptionResnetV1 in evaluation mode, and whether its weights are trained.

    Trained ones are taken if they are on this machine already; else the network has random
    weights, always the same, and this is printed.
    """
    from facenet_common.errors import FacenetError
    from facenet_models import InceptionResnetV1

    before = os.environ.get("FACENET_OFFLINE")
    os.environ["FACENET_OFFLINE"] = "1"
    try:
        return InceptionResnetV1(pretrained="vggface2").eval(), True
    except FacenetError:
        print(UNTRAINED.format(seed=SEED))
        return _untrained(), False
    finally:
        if before is None:
            del os.environ["FACENET_OFFLINE"]
        else:
            os.environ["FACENET_OFFLINE"] = before


def _untrained() -> InceptionResnetV1:
    """Set random weights, always the same; batch normalisations with statistics that fit them.

    Without these every face would get all but the same embedding. They come from random colour
    patches, not from faces.
    """
    import torch

    from facenet_models import InceptionResnetV1

    state = torch.get_rng_state()
    torch.manual_seed(SEED)
    model = InceptionResnetV1()
    patches = torch.rand(16, 3, 8, 8) * 2 - 1
    torch.set_rng_state(state)
    norms = [m for m in model.modules() if hasattr(m, "running_mean")]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # take over this batch's statistics as they are
    with torch.no_grad():
        model(torch.nn.functional.interpolate(patches, size=(160, 160), mode="bilinear"))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return model.eval()


def faces_by_person(detector: MTCNN, least: int = 20) -> dict[str, list[np.ndarray]]:
    """Return the faces in `video` by person, in the order of time.

    A person is a face that can be followed through the video; those that are seen in fewer than
    `least` of its frames (every second is read) are left out. Each face is ``(160, 160, 3)``
    uint8 RGB.
    """
    from facenet_models import extract_face
    from facenet_models.video import FastMTCNN, follow, frames

    found: dict[int, list[np.ndarray]] = {}
    shown = frames(video(), every=2, max_side=960)
    for frame, faces in follow(shown, FastMTCNN(detector, stride=4)):
        for number, box in zip(faces.ids.tolist(), faces.boxes, strict=True):
            face = extract_face(frame.image, box, image_size=160, margin=20)
            found.setdefault(number, []).append(face.permute(1, 2, 0).byte().numpy())
    people = [faces for _, faces in sorted(found.items()) if len(faces) >= least]
    return {f"person_{number}": faces for number, faces in enumerate(people, start=1)}


def _folders(kind: str) -> Iterator[tuple[str, Path]]:
    """Yield places of "images" or a "video", in order, each with the variable that names it."""
    for variable, below in (("FACENET_EXAMPLES_DATA", ""), ("FACENET_REFERENCE_DIR", kind)):
        folder = folder_of(variable)
        if folder is not None:
            yield variable, folder / below


def _made_up() -> dict[str, Image.Image]:
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = Image.open(file).convert("RGB")
    group = Image.new("RGB", (1280, 720), WALL)
    for left, height, mirrored in ((60, 420, False), (480, 540, True), (930, 340, False)):
        copy = portrait.resize((height * portrait.width // portrait.height, height))
        copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else copy
        group.paste(copy, (left, 720 - height))
    mirrored = portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return {"group.png": group, "portrait_1.png": portrait, "portrait_2.png": mirrored}


def _camera(picture: Image.Image, count: int = 72) -> Iterator[np.ndarray]:
    """Yield frames of a bare wall, then of a camera that moves to the right and closer."""
    blank = count // 8
    for step in range(count):
        part = max(step - blank, 0) / count
        wide = round(960 - 160 * part)
        left = round((picture.width - wide) * part)
        box = (left, picture.height - wide * 9 // 16, left + wide, picture.height)
        view = picture.resize((640, 360), Image.Resampling.BILINEAR, box)
        yield np.array(view) if step >= blank else np.full((360, 640, 3), WALL, np.uint8)
