"""Images to embeddings: read, detect, embed, and keep every name with its own vector.

Each step hands on ``(name, value)`` pairs, and a miss is such a value too: nothing is ever put
back together by its place in a list, so that an image that fails moves no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facenet_common.errors import FacenetError, UsageError
from facenet_common.progress import progress_bar
from facenet_common.text import check_path
from facenet_models.recognition.embeddings import NO_FACE, Embeddings, Miss, check_names
from facenet_models.recognition.image_files import Source, find_images, read_image

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor, nn

IMAGE_SIZE = 160  # pixels, as the published weights were trained
DETECT_PIXELS = 8 * 1920 * 1080  # of all images in one call of the detector; bounds its memory

Detector = Callable[[Any], Any]
Named = tuple[str, "Tensor | Miss"]


def embed(
    images: str | Path | Iterable[Source],
    model: nn.Module,
    detector: Detector | None = None,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    progress: bool = True,
    *,
    names: Sequence[str] | None = None,
    image_size: int = IMAGE_SIZE,
    flip: bool = False,
) -> Embeddings:
    """Embeddings of the faces in images, one face for each image.

    Args:
        images: A folder, searched as `find_images` does; or an image file; or images: paths,
            Pillow images or ``(H, W, 3)`` uint8 RGB arrays.
        model: ``(N, 3, H, W)`` standardised floats to ``(N, D)``: an InceptionResnetV1. Runs in
            evaluation mode, and is put back to the mode it was in.
        detector: Called with a list of Pillow images of equal size, gives for each a face
            ``(3, H, W)``, standardised, or ``(n, 3, H, W)``, of which the first is taken, or
            None: an `facenet_models.MTCNN`. None: the images are face crops already. These are
            cut to `image_size` around the middle, as the original does (smaller ones are
            enlarged first, where the original pads), and standardised, ``(x - 127.5) / 128``.
        batch_size: Faces in one call of the model, images at most in one call of the detector.
        device: Where to move `model` first; None leaves it where it is.
        progress: Show a bar on standard error, where that is a terminal.
        names: A name for each of `images`; the default is the path, else the place from 0. Not
            for a folder, whose images are named by their paths in it.
        image_size: Pixels, side of a cut face crop; see `detector`.
        flip: Append to each embedding that of the mirrored face, as the original's
            ``--use_flipped_images``: ``(N, 2 * D)``.

    Returns:
        Names and vectors in the order of `images`. An image that can't be read, or without a
        face, is among `misses`, and nowhere else.

    Raises:
        UsageError: nothing to embed, names that don't fit, a wrong type of image, a model that
            gives logits.
        FacenetError: `model` gave NaN or a wrong shape.
        ImportError: torch or Pillow is not installed.
    """
    import torch

    if batch_size < 1 or image_size < 1:
        raise UsageError("batch_size and image_size must be at least 1")
    if getattr(model, "classify", False):
        raise UsageError("the model gives logits", next_step="set model.classify = False")
    sources = _named(images, names)
    if device is not None:
        model.to(device)
    bar = progress_bar("Images", len(sources), shown=progress)
    with _evaluating(model), torch.inference_mode(), bar as tick:
        pictures = _read(sources)
        faces = _detect(pictures, detector, batch_size) if detector else _cut(pictures, image_size)
        return _collect(_run(faces, model, batch_size, flip, tick))


def _named(
    images: str | Path | Iterable[Source], names: Sequence[str] | None
) -> list[tuple[str, Source]]:
    """Each image with its name; UsageError if there are none or the names don't fit."""
    if isinstance(images, str | Path):
        if Path(images).is_dir():
            if names is not None:
                raise UsageError("the images of a folder have their names from it: pass no names")
            return list(find_images(images).items())
        if not Path(images).is_file():
            raise UsageError("no such folder or file", file=images, next_step=check_path(images))
        images = [images]
    sources = list(images)
    if not sources:
        raise UsageError("no image to embed")
    if names is None:
        names = [
            str(source) if isinstance(source, str | Path) else str(i)
            for i, source in enumerate(sources)
        ]
    if len(names) != len(sources):
        raise UsageError(
            "names and images differ in number",
            expected=f"{len(sources)} names",
            found=f"{len(names)}",
        )
    check_names(names)
    return list(zip(names, sources, strict=True))


def _read(sources: list[tuple[str, Source]]) -> Iterator[tuple[str, Image | Miss]]:
    for name, source in sources:
        yield name, read_image(source, name)


def _detect(
    pictures: Iterator[tuple[str, Image | Miss]], detector: Detector, batch_size: int
) -> Iterator[Named]:
    """Faces. Images in a row that are equal in size go to the detector together."""
    group: list[tuple[str, Image]] = []
    for name, picture in pictures:
        if isinstance(picture, Miss):
            yield from _detected(group, detector)
            group = []
            yield name, picture
            continue
        pixels = picture.width * picture.height * (len(group) + 1)
        if group and (
            group[0][1].size != picture.size or len(group) == batch_size or pixels > DETECT_PIXELS
        ):
            yield from _detected(group, detector)
            group = []
        group.append((name, picture))
    yield from _detected(group, detector)


def _detected(group: list[tuple[str, Image]], detector: Detector) -> Iterator[Named]:
    if not group:
        return
    faces = detector([picture for _, picture in group])
    if len(faces) != len(group):
        raise FacenetError(
            "the detector did not answer for each image",
            expected=f"{len(group)} answers",
            found=f"{len(faces)}",
        )
    for (name, _), face in zip(group, faces, strict=True):
        if face is None or not len(face):
            yield name, Miss(name, NO_FACE)
        else:
            yield name, face[0] if face.ndim == 4 else face


def _cut(pictures: Iterator[tuple[str, Image | Miss]], size: int) -> Iterator[Named]:
    """Faces of images that are crops already."""
    import torch

    for name, picture in pictures:
        if isinstance(picture, Miss):
            yield name, picture
            continue
        pixels = np.asarray(cut_middle(picture, size), np.float32)
        yield name, torch.from_numpy((pixels - 127.5) / 128.0).permute(2, 0, 1)


def cut_middle(picture: Image, size: int) -> Image:
    """The square of `size` pixels in the middle; a smaller picture is enlarged to it first.

    The upper left corner is at ``(side - size) // 2``, as TensorFlow's
    ``resize_image_with_crop_or_pad`` has it.
    """
    from PIL.Image import Resampling

    short = min(picture.size)
    if short < size:
        wide, high = (max(size, round(side * size / short)) for side in picture.size)
        picture = picture.resize((wide, high), Resampling.BILINEAR)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def _run(
    faces: Iterator[Named],
    model: nn.Module,
    batch_size: int,
    flip: bool,
    tick: Callable[[], None],
) -> Iterator[tuple[str, np.ndarray | Miss]]:
    """Embeddings and misses; each with its name, misses ahead of the batch they fell into."""
    batch: list[tuple[str, Tensor]] = []
    for name, face in faces:
        if isinstance(face, Miss):
            tick()
            yield name, face
            continue
        batch.append((name, face))
        if len(batch) == batch_size:
            yield from _embedded(batch, model, flip, tick)
            batch = []
    yield from _embedded(batch, model, flip, tick)


def _embedded(
    batch: list[tuple[str, Tensor]], model: nn.Module, flip: bool, tick: Callable[[], None]
) -> Iterator[tuple[str, np.ndarray | Miss]]:
    import torch

    if not batch:
        return
    first = next(model.parameters(), None)
    crops = torch.stack([face for _, face in batch])
    if first is not None:
        crops = crops.to(first)
    parts = [model(crops), model(crops.flip(-1))] if flip else [model(crops)]
    vectors = torch.cat(parts, dim=1).float().cpu().numpy()
    if vectors.ndim != 2 or len(vectors) != len(batch):
        raise FacenetError(
            "the model did not give an embedding for each face",
            expected=f"({len(batch)}, D)",
            found=vectors.shape,
        )
    for (name, _), vector in zip(batch, vectors, strict=True):
        tick()
        yield name, vector


def _collect(results: Iterator[tuple[str, np.ndarray | Miss]]) -> Embeddings:
    names: list[str] = []
    vectors: list[np.ndarray] = []
    misses: list[Miss] = []
    for name, result in results:
        if isinstance(result, Miss):
            misses.append(result)
        else:
            names.append(name)
            vectors.append(result)
    matrix = np.stack(vectors) if vectors else np.empty((0, 0), np.float32)
    return Embeddings(tuple(names), matrix, tuple(misses))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
