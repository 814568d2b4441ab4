"""Compute embeddings of images: read them, detect faces, run the network.

The steps are generators of ``(name, value)`` pairs, in which a value may be a `Miss`. Names and
vectors are never matched by their places in two lists, so an image that fails can't shift the
names of others.
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

IMAGE_SIZE = 160  # pixels; the published weights were trained with this size
DETECT_PIXELS = 8 * 1920 * 1080  # of all images in one call of the detector, to bound its memory

Detector = Callable[[Any], Any]
NamedFace = tuple[str, "Tensor | Miss"]


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
    """Compute the embeddings of the faces in images, one face for each image.

    Args:
        images: A folder, searched by `find_images`; an image file; or images: paths, PIL images
            or ``(H, W, 3)`` uint8 RGB arrays.
        model: An InceptionResnetV1, or another module that maps ``(N, 3, H, W)`` standardised
            floats to ``(N, D)``. It runs in evaluation mode, and is then set back to its mode.
        detector: An `facenet_models.MTCNN`, or another function that takes a list of PIL images of
            equal size and returns for each a standardised face ``(3, H, W)``, or several
            ``(n, 3, H, W)``, of which the first is used, or None. Without a detector, the images
            must be face crops. Their middle `image_size` pixels are cut out, as the original does
            (small images are enlarged first, where the original pads them), and standardised:
            ``(x - 127.5) / 128``.
        batch_size: Faces in one call of the model, and maximum of images in one call of the
            detector.
        device: Move `model` to this device first; None does not move it.
        progress: Show a progress bar if standard error is a terminal.
        names: A name for each of `images`. The default is its path, else its index. Not allowed
            for a folder, where a name is the path in the folder.
        image_size: Edge of the part of a face crop that is cut out, in pixels; see `detector`.
        flip: Append the embedding of the mirrored face to each embedding, as the original's
            ``--use_flipped_images`` does: ``(N, 2 * D)``.

    Returns:
        Names and vectors in the order of `images`. Images that can't be read or show no face are
        listed in `misses` only.

    Raises:
        UsageError: There is no image, the names do not match the images, an image has a wrong
            type, or the model returns logits.
        FacenetError: `model` returned NaN or a wrong shape.
        MissingPackageError: torch or Pillow is not installed.

    Examples:
        >>> gallery = embed("people", resnet, mtcnn)  # doctest: +SKIP
        >>> gallery.vectors.shape  # doctest: +SKIP
        (4, 512)
    """
    import torch

    if batch_size < 1 or image_size < 1:
        raise UsageError("batch_size and image_size must be at least 1")
    if getattr(model, "classify", False):
        raise UsageError(
            "the model returns logits, not embeddings", next_step="set model.classify = False"
        )
    sources = _name_sources(images, names)
    if device is not None:
        model.to(device)
    bar = progress_bar("Images", len(sources), shown=progress)
    with _eval_mode(model), torch.inference_mode(), bar as advance:
        pictures = _read_images(sources)
        faces = (
            _detect_faces(pictures, detector, batch_size)
            if detector
            else _crop_faces(pictures, image_size)
        )
        return _collect_results(_embed_faces(faces, model, batch_size, flip, advance))


def _name_sources(
    images: str | Path | Iterable[Source], names: Sequence[str] | None
) -> list[tuple[str, Source]]:
    """Return each image with its name; raise UsageError if there is none or a name is wrong."""
    if isinstance(images, str | Path):
        if Path(images).is_dir():
            if names is not None:
                raise UsageError("names are not allowed for a folder, whose paths are the names")
            return list(find_images(images).items())
        if not Path(images).is_file():
            raise UsageError("no such folder or file", file=images, next_step=check_path(images))
        images = [images]
    sources = list(images)
    if not sources:
        raise UsageError("there is no image to embed")
    if names is None:
        names = [
            str(source) if isinstance(source, str | Path) else str(i)
            for i, source in enumerate(sources)
        ]
    if len(names) != len(sources):
        raise UsageError(
            "the numbers of names and images differ",
            expected=f"{len(sources)} names",
            found=f"{len(names)}",
        )
    check_names(names)
    return list(zip(names, sources, strict=True))


def _read_images(sources: list[tuple[str, Source]]) -> Iterator[tuple[str, Image | Miss]]:
    for name, source in sources:
        yield name, read_image(source, name)


def _detect_faces(
    pictures: Iterator[tuple[str, Image | Miss]], detector: Detector, batch_size: int
) -> Iterator[NamedFace]:
    """Yield faces. Consecutive images of equal size go to the detector in one call."""
    group: list[tuple[str, Image]] = []
    for name, picture in pictures:
        if isinstance(picture, Miss):
            yield from _detect_group(group, detector)
            group = []
            yield name, picture
            continue
        pixels = picture.width * picture.height * (len(group) + 1)
        if group and (
            group[0][1].size != picture.size or len(group) == batch_size or pixels > DETECT_PIXELS
        ):
            yield from _detect_group(group, detector)
            group = []
        group.append((name, picture))
    yield from _detect_group(group, detector)


def _detect_group(group: list[tuple[str, Image]], detector: Detector) -> Iterator[NamedFace]:
    if not group:
        return
    faces = detector([picture for _, picture in group])
    if len(faces) != len(group):
        raise FacenetError(
            "the detector did not return one result for each image",
            expected=f"{len(group)} results",
            found=f"{len(faces)}",
        )
    for (name, _), face in zip(group, faces, strict=True):
        if face is None or not len(face):
            yield name, Miss(name, NO_FACE)
        else:
            yield name, face[0] if face.ndim == 4 else face


def _crop_faces(pictures: Iterator[tuple[str, Image | Miss]], size: int) -> Iterator[NamedFace]:
    """Yield the faces of images that are face crops."""
    import torch

    for name, picture in pictures:
        if isinstance(picture, Miss):
            yield name, picture
            continue
        pixels = np.asarray(center_crop(picture, size), np.float32)
        yield name, torch.from_numpy((pixels - 127.5) / 128.0).permute(2, 0, 1)


def center_crop(picture: Image, size: int) -> Image:
    """Cut out the middle square of `size` pixels; enlarge a smaller picture first.

    The upper left corner is at ``(side - size) // 2``, as in TensorFlow's
    ``resize_image_with_crop_or_pad``, which the original uses.

    Examples:
        >>> from PIL import Image
        >>> center_crop(Image.new("RGB", (250, 250)), 160).size
        (160, 160)
    """
    from PIL.Image import Resampling

    short = min(picture.size)
    if short < size:
        wide, high = (max(size, round(side * size / short)) for side in picture.size)
        picture = picture.resize((wide, high), Resampling.BILINEAR)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def _embed_faces(
    faces: Iterator[NamedFace],
    model: nn.Module,
    batch_size: int,
    flip: bool,
    advance: Callable[[], None],
) -> Iterator[tuple[str, np.ndarray | Miss]]:
    """Yield embeddings and misses with their names; misses come before the batch around them."""
    batch: list[tuple[str, Tensor]] = []
    for name, face in faces:
        if isinstance(face, Miss):
            advance()
            yield name, face
            continue
        batch.append((name, face))
        if len(batch) == batch_size:
            yield from _embed_batch(batch, model, flip, advance)
            batch = []
    yield from _embed_batch(batch, model, flip, advance)


def _embed_batch(
    batch: list[tuple[str, Tensor]], model: nn.Module, flip: bool, advance: Callable[[], None]
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
            "the model did not return one embedding for each face",
            expected=f"({len(batch)}, D)",
            found=vectors.shape,
        )
    for (name, _), vector in zip(batch, vectors, strict=True):
        advance()
        yield name, vector


def _collect_results(results: Iterator[tuple[str, np.ndarray | Miss]]) -> Embeddings:
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
def _eval_mode(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
