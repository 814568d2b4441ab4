"""MTCNN: find faces and their landmarks, and cut the faces out.

A replacement for facenet-pytorch's MTCNN, with the parameters, methods and results of its version
2.6.0 (https://github.com/timesler/facenet-pytorch/blob/master/models/mtcnn.py). It is twice as fast
and puts no upper bounds on the versions of torch, NumPy and Pillow. Zhang et al., "Joint Face
Detection and Alignment using Multi-task Cascaded Convolutional Networks", arXiv:1604.02878.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from facenet_common.errors import UsageError
from facenet_models.detect import cascade, reference, selection
from facenet_models.detect.crops import (
    extract_face,
    face_paths,
    fixed_image_standardization,
    number_paths,
)
from facenet_models.detect.images import as_list, is_batch, to_tensors
from facenet_models.detect.settings import Faces, Nets, Settings
from facenet_models.detect.types import Backend, SelectionMethod
from facenet_models.networks.onet import ONet
from facenet_models.networks.pnet import PNet
from facenet_models.networks.rnet import RNet
from facenet_models.weights.mtcnn import fill

BACKENDS = {"facenet-pytorch": cascade.detect, "reference": reference.detect}
assert set(BACKENDS) == set(get_args(Backend))

StrPath = str | os.PathLike[str]


class MTCNN(nn.Module):
    """Face detector.

    Args:
        image_size: Height and width of the faces that `forward` returns, in pixels.
        margin: Pixels of such a face, both sides together, to add around the box.
        min_face_size: Smallest face to look for, in pixels. In smaller images none is found.
        thresholds: Minimum probabilities of the three stages.
        factor: Scale factor between two sizes of the image pyramid.
        post_process: Return faces as ``(pixel - 127.5) / 128``; else with values 0 to 255.
        select_largest: List the largest face first, else the most probable.
        selection_method: Which face `forward` keeps, see `select_boxes`; overrides select_largest.
        keep_all: `forward` returns all faces of an image.
        device: Device to compute on; `to` changes it too.
        backend: "facenet-pytorch", or "reference" for the arithmetic of the original detector in
            davidsandberg/facenet. With the same weights their boxes differ by up to 5 pixels.
        weights: Folder of ``pnet.pt``, ``rnet.pt`` and ``onet.pt`` (or .safetensors), checked
            against its ``manifest.json`` or ``SHA256SUMS`` if there is one. The default is the
            published files, see `facenet_models.weights.pretrained`.

    Images are RGB: one PIL image, array or tensor ``(H, W, 3)``, a list of these, of one size or
    several, or an array or tensor ``(N, H, W, 3)``. `facenet_models.detect.images` lists what else
    is accepted. A list or 4-dimensional array is a batch even if it has one image.

    Raises:
        UsageError: A parameter is out of range, or the folder has no weights.
        WeightsError: A weight file is damaged, of another network, or has another hash.
        DownloadError: The published weights are not on this machine and can't be downloaded.

    Examples:
        >>> mtcnn = MTCNN(keep_all=True)  # doctest: +SKIP
        >>> boxes, probs = mtcnn.detect(Image.open("party.jpg"))  # doctest: +SKIP
        >>> boxes.shape, probs.shape  # doctest: +SKIP
        ((6, 4), (6,))
    """

    def __init__(
        self,
        image_size: int = 160,
        margin: int = 0,
        min_face_size: float = 20,
        thresholds: Sequence[float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
        post_process: bool = True,
        select_largest: bool = True,
        selection_method: SelectionMethod | None = None,
        keep_all: bool = False,
        device: torch.device | str | int | None = None,
        *,
        backend: Backend = "facenet-pytorch",
        weights: StrPath | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.margin = margin
        self.min_face_size = min_face_size
        self.thresholds = thresholds if isinstance(thresholds, list) else list(thresholds)
        self.factor = factor
        self.post_process = post_process
        self.select_largest = select_largest
        self.keep_all = keep_all
        method = selection_method or ("largest" if select_largest else "probability")
        self.selection_method = selection.check_method(method)
        self.backend = backend
        self._device = torch.device("cpu")  # of networks without parameters
        self._settings()  # checks them
        if backend not in BACKENDS:
            raise UsageError(f"unknown backend {backend!r}", expected=" or ".join(BACKENDS))
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        fill({"pnet": self.pnet, "rnet": self.rnet, "onet": self.onet}, weights)
        self.eval()
        if device is not None:
            self.to(device)

    @property
    def device(self) -> torch.device:
        """The device of the networks; setting it moves them, as `to` does."""
        parameter = next(chain(self.parameters(), self.buffers()), None)
        return self._device if parameter is None else parameter.device

    @device.setter
    def device(self, device: torch.device | str | int) -> None:
        self._device = torch.device(device)
        self.to(self._device)

    def forward(
        self,
        img: Any,
        save_path: StrPath | Sequence[StrPath | None] | None = None,
        return_prob: bool = False,
    ) -> Any:
        """Find the faces in `img` and cut them out.

        Args:
            img: One image or a batch.
            save_path: File to write the face to; for a batch, a list of these. With `keep_all`,
                the second face of ``name.png`` goes to ``name_2.png`` and so on.
            return_prob: Return the probabilities too.

        Returns:
            For one image a float32 tensor ``(3, image_size, image_size)``, with `keep_all` ``(N,
            3, image_size, image_size)``, or None without a face; for a batch a list of these.
            With `return_prob`, a pair of this and the probability: for one image a number (None
            without a face), with `keep_all` an array ``(N,)`` (``[None]`` without a face); for a
            batch an array of these.

        Raises:
            UsageError: `img` is not an image, or the paths do not match the images.
            OutputError: A face could not be written.
        """
        paths = face_paths(img, save_path)  # checked before any work is done
        images = list(img) if is_batch(img) else img
        boxes, probs, points = self.detect(images, landmarks=True)
        if not self.keep_all:
            boxes, probs, points = self.select_boxes(
                boxes, probs, points, images, method=self.selection_method
            )
        faces = self.extract(images, boxes, paths if is_batch(img) else save_path)
        return (faces, probs) if return_prob else faces

    def detect(self, img: Any, landmarks: bool = False) -> tuple[Any, ...]:
        """Find the boxes of the faces in `img`.

        Args:
            img: One image or a batch.
            landmarks: Return the landmarks too.

        Returns:
            ``(boxes, probs)``, or ``(boxes, probs, points)`` with `landmarks`. For one image these
            are arrays ``(N, 4)``: left, top, right, bottom; ``(N,)``; and ``(N, 5, 2)``: x and y
            of left eye, right eye, nose, left and right mouth corner, in pixels. Boxes and
            probabilities are Python floats in arrays of dtype object, landmarks are float32. The
            largest face comes first, or, without `select_largest`, the most probable. Without a
            face: None, an array ``[None]``, None. For a batch, arrays of dtype object with one
            row for each image. All this is as in facenet-pytorch.

        Raises:
            UsageError: `img` is not an image.
        """
        images = as_list(img)
        rows = [self._to_arrays(faces) for faces in self._find_faces(images)]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
        results = [np.array(column, dtype=object) for column in columns]
        if not is_batch(img):
            results = [column[0] for column in results]
        return tuple(results if landmarks else results[:2])

    def select_boxes(
        self,
        all_boxes: Any,
        all_probs: Any,
        all_points: Any,
        imgs: Any,
        method: str = "probability",
        threshold: float = 0.9,
        center_weight: float = 2.0,
    ) -> tuple[Any, Any, Any]:
        """Choose one face of each image from the results of `detect`.

        Args:
            all_boxes: Boxes, as `detect` returned them.
            all_probs: Probabilities, as `detect` returned them.
            all_points: Landmarks, as `detect` returned them.
            imgs: The images that were passed to `detect`.
            method: "probability": the highest. "largest": the largest area.
                "largest_over_threshold": the largest of those with a probability over `threshold`.
                "center_weighted_size": the largest after `center_weight` times the squared
                distance of the box's centre from the image's, in pixels, is subtracted.
            threshold: See `method`.
            center_weight: See `method`.

        Returns:
            Box ``(1, 4)``, probability and landmarks ``(1, 5, 2)``; None three times without a
            face. For a batch, arrays ``(B, 1, 4)``, ``(B, 1)`` and ``(B, 1, 5, 2)``, or, if a face
            is missing, of dtype object with None and ``[None]`` in its place.

        Raises:
            UsageError: The method is unknown.
        """
        method = selection.check_method(method)
        batch = is_batch(imgs)
        found = [(all_boxes, all_probs, all_points)]
        if batch:
            found = list(zip(all_boxes, all_probs, all_points, strict=True))
        chosen: list[tuple[Any, Any, Any]] = []
        for (boxes, probs, points), image in zip(found, as_list(imgs), strict=True):
            best = None
            if boxes is not None:
                boxes, probs, points = (np.array(part) for part in (boxes, probs, points))
                numbers = boxes.astype(np.float64), probs.astype(np.float64)
                best = selection.best_face(*numbers, image, method, threshold, center_weight)
            if best is None:
                chosen.append((None, [None], None))
            else:
                chosen.append((boxes[[best]], probs[[best]], points[[best]]))
        if not batch:
            box, prob, point = chosen[0]
            return box, prob[0], point
        columns = zip(*chosen, strict=True) if chosen else ((), (), ())
        box, prob, point = (_stack(list(column)) for column in columns)
        return box, prob, point

    def extract(
        self, img: Any, batch_boxes: Any, save_path: StrPath | Sequence[StrPath | None] | None
    ) -> Any:
        """Cut out the faces at `batch_boxes`, the boxes of `detect` or `select_boxes`.

        Arguments and results are those of `forward`.
        """
        found = list(batch_boxes) if is_batch(img) else [batch_boxes]
        kept = [() if boxes is None else boxes if self.keep_all else boxes[:1] for boxes in found]
        targets = number_paths(face_paths(img, save_path), [len(boxes) for boxes in kept])
        faces = [
            self._extract(image, boxes, paths) if len(boxes) else None
            for image, boxes, paths in zip(as_list(img), kept, targets, strict=True)
        ]
        return faces if is_batch(img) else faces[0]

    def _extract(self, image: Any, boxes: Any, paths: Sequence[Path | None]) -> Tensor:
        faces = []
        for box, path in zip(boxes, paths, strict=True):
            face = extract_face(image, box, self.image_size, self.margin, path)
            faces.append(fixed_image_standardization(face) if self.post_process else face)
        return torch.stack(faces) if self.keep_all else faces[0]

    @torch.inference_mode()
    def _find_faces(self, images: list[Any]) -> list[Faces]:
        nets = Nets(self.pnet, self.rnet, self.onet)
        return BACKENDS[self.backend](to_tensors(images, self.device), nets, self._settings())

    def _to_arrays(self, faces: Faces) -> tuple[Any, Any, Any]:
        """Order `faces`, and return them as `detect` does for one image."""
        if not len(faces.boxes):
            return None, [None], None
        if not self.select_largest:
            return faces.boxes, faces.scores, faces.points
        order = selection.argsort_descending(selection.box_areas(faces.boxes))
        boxes, scores, points = (part[order] for part in faces)
        return boxes, scores, points

    def _settings(self) -> Settings:
        """Return the present parameters, whose attributes may be set at any time.

        Raises:
            UsageError: One is out of range.
        """
        return Settings.checked(self.min_face_size, self.thresholds, self.factor)


def _stack(parts: list[Any]) -> np.ndarray:
    """Stack `parts` to one array, or, if a face is missing, to one of dtype object.

    facenet-pytorch raises ValueError then: https://github.com/timesler/facenet-pytorch/issues/224
    """
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.array(parts)
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    return array
