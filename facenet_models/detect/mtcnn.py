"""MTCNN: finds faces, their landmarks, and cuts them out.

Takes facenet-pytorch's place: the same parameters, calls and answers (its version 2.6.0), without
its pins and twice as fast. Zhang et al., arXiv:1604.02878.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from facenet_common.errors import UsageError
from facenet_models.detect import cascade, reference, selection
from facenet_models.detect.crops import extract_face, fixed_image_standardization
from facenet_models.detect.images import as_list, is_batch, to_tensors
from facenet_models.detect.settings import Faces, Nets, Settings
from facenet_models.detect.types import Backend, SelectionMethod
from facenet_models.networks.onet import ONet
from facenet_models.networks.pnet import PNet
from facenet_models.networks.rnet import RNet
from facenet_models.weights.mtcnn import fill

BACKENDS = {"facenet-pytorch": cascade.detect, "reference": reference.detect}
assert set(BACKENDS) == set(get_args(Backend))

Path_ = str | os.PathLike[str]


class MTCNN(nn.Module):
    """Face detector.

    Args:
        image_size: Height and width of the faces that `forward` returns, in pixels.
        margin: Pixels of such a face, both sides together, to add around the box.
        min_face_size: Smallest face to look for, in pixels; a smaller image holds none.
        thresholds: Least probabilities of the three stages.
        factor: By which the image is shrunk from one size of faces to the next.
        post_process: Give faces as ``(pixel - 127.5) / 128``; else as 0 to 255.
        select_largest: List the largest face first, else the most probable.
        selection_method: Which face `forward` keeps, see `select_boxes`; overrides select_largest.
        keep_all: `forward` gives all faces of an image.
        device: Where to compute; `to` moves it too.
        backend: Whose arithmetic. "facenet-pytorch", or "reference": the original detector's of
            davidsandberg/facenet, which with the same weights puts boxes up to 5 pixels elsewhere.
        weights: Folder of ``pnet.pt``, ``rnet.pt`` and ``onet.pt`` (or .safetensors), held to its
            ``manifest.json`` or ``SHA256SUMS`` where it has them. By default the published ones,
            found or downloaded as `facenet_models.weights.pretrained` says.

    Images are RGB: one PIL image, array or tensor ``(H, W, 3)``, a list of such, of one size or
    several, or an array or tensor ``(N, H, W, 3)``. `facenet_models.detect.images` lists what else
    is accepted. A list or 4-dimensional array is a batch even if it holds one image.

    Raises:
        UsageError: A parameter makes no sense, or there are no weights in the folder.
        WeightsError: A weight file is damaged, another net's, or has another hash.
        DownloadError: The published weights are not here and can't be downloaded.
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
        weights: Path_ | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.margin = margin
        self.min_face_size = min_face_size
        self.thresholds = thresholds
        self.factor = factor
        self.post_process = post_process
        self.select_largest = select_largest
        self.keep_all = keep_all
        self.selection_method = selection_method or ("largest" if select_largest else "probability")
        self.backend = backend
        self._settings()  # refuses nonsense at once
        if backend not in BACKENDS:
            raise UsageError(f"there is no backend {backend!r}", expected=" or ".join(BACKENDS))
        selection.check_method(self.selection_method)
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        fill({"pnet": self.pnet, "rnet": self.rnet, "onet": self.onet}, weights)
        self.eval()
        if device is not None:
            self.to(device)

    @property
    def device(self) -> torch.device:
        """Where the nets are."""
        return next(self.pnet.parameters()).device

    def forward(
        self,
        img: Any,
        save_path: Path_ | Sequence[Path_ | None] | None = None,
        return_prob: bool = False,
    ) -> Any:
        """The faces in `img`, cut out.

        Args:
            img: One image or a batch.
            save_path: Where to write the face; for a batch a list of such. With `keep_all`, the
                second face of ``name.png`` goes to ``name_2.png`` and so on.
            return_prob: Give the probabilities too.

        Returns:
            For one image a float32 tensor ``(3, image_size, image_size)``, with `keep_all` ``(N,
            3, image_size, image_size)``, or None if there is no face; for a batch a list of such.
            With `return_prob`, a pair: this, and for one image its probability (None without a
            face), with `keep_all` an array ``(N,)`` (``[None]`` without); for a batch an array.
        """
        paths = _paths(img, save_path)  # before the work, so that a mistake costs none
        images = list(img) if is_batch(img) else img
        boxes, probs, points = self.detect(images, landmarks=True)
        if not self.keep_all:
            boxes, probs, points = self.select_boxes(
                boxes, probs, points, images, method=self.selection_method
            )
        faces = self.extract(images, boxes, paths if is_batch(img) else save_path)
        return (faces, probs) if return_prob else faces

    def detect(self, img: Any, landmarks: bool = False) -> tuple[Any, ...]:
        """The boxes of the faces in `img`.

        Returns:
            ``(boxes, probs)``, or ``(boxes, probs, points)`` if `landmarks`: for one image float32
            arrays ``(N, 4)``: left, top, right, bottom; ``(N,)``; and ``(N, 5, 2)``: x and y of
            left eye, right eye, nose, left and right mouth corner. Pixels, largest face first or
            by `select_largest` most probable first. Without a face: None, ``[None]``, None. For a
            batch, arrays of dtype object of such, one for each image.
        """
        images = as_list(img)
        rows = [self._listed(faces) for faces in self._find(images)]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
        answer = [np.array(column, dtype=object) for column in columns]
        if not is_batch(img):
            answer = [column[0] for column in columns]
        return tuple(answer if landmarks else answer[:2])

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
        """One face of each image, from what `detect` found.

        Args:
            method: "probability": the highest. "largest": the largest area.
                "largest_over_threshold": the largest of those with a probability over `threshold`.
                "center_weighted_size": the largest after `center_weight` times the squared
                distance of the box's centre from the image's, in pixels, is taken off its area.

        Returns:
            Box ``(1, 4)``, probability and landmarks ``(1, 5, 2)``; None three times without a
            face. For a batch, arrays ``(B, 1, 4)``, ``(B, 1)`` and ``(B, 1, 5, 2)``, or, if a face
            is missing, of dtype object with None and ``[None]`` in its place.
        """
        selection.check_method(method)
        batch = is_batch(imgs)
        found = [(all_boxes, all_probs, all_points)]
        if batch:
            found = list(zip(all_boxes, all_probs, all_points, strict=True))
        chosen: list[tuple[Any, Any, Any]] = []
        for (boxes, probs, points), image in zip(found, as_list(imgs), strict=True):
            best = None
            if boxes is not None:
                boxes, probs, points = (
                    np.stack(list(part)).astype(float_type(part)) for part in (boxes, probs, points)
                )
                best = selection.best(boxes, probs, image, method, threshold, center_weight)
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
        self, img: Any, batch_boxes: Any, save_path: Path_ | Sequence[Path_ | None] | None
    ) -> Any:
        """The faces in `batch_boxes` (what `detect` or `select_boxes` gave); see `forward`."""
        paths = _paths(img, save_path)
        found = list(batch_boxes) if is_batch(img) else [batch_boxes]
        faces = [
            self._extract(image, boxes, path)
            for image, boxes, path in zip(as_list(img), found, paths, strict=True)
        ]
        return faces if is_batch(img) else faces[0]

    def _extract(self, image: Any, boxes: Any, path: Path | None) -> Tensor | None:
        if boxes is None:
            return None
        faces = []
        for number, box in enumerate(boxes if self.keep_all else boxes[:1], start=1):
            own = path
            if path is not None and number > 1:
                own = path.with_name(f"{path.stem}_{number}{path.suffix}")
            face = extract_face(image, box, self.image_size, self.margin, own)
            faces.append(fixed_image_standardization(face) if self.post_process else face)
        return torch.stack(faces) if self.keep_all else faces[0]

    @torch.inference_mode()
    def _find(self, images: list[Any]) -> list[Faces]:
        nets = Nets(self.pnet, self.rnet, self.onet)
        return BACKENDS[self.backend](to_tensors(images, self.device), nets, self._settings())

    def _listed(self, faces: Faces) -> tuple[Any, Any, Any]:
        """`faces` as `detect` returns them for one image."""
        if not len(faces.boxes):
            return None, [None], None
        if not self.select_largest:
            return faces.boxes, faces.scores, faces.points
        order = selection.descending(selection.areas(faces.boxes))
        boxes, scores, points = (part[order] for part in faces)
        return boxes, scores, points

    def _settings(self) -> Settings:
        """The parameters as they are now: attributes may be set at any time."""
        return Settings.checked(self.min_face_size, self.thresholds, self.factor)


def float_type(part: Any) -> np.dtype:
    return np.result_type(np.asarray(part[0]).dtype if len(part) else np.float32, np.float32)


def _stack(parts: list[Any]) -> np.ndarray:
    """`parts` as one array, or, if a face is missing, one of dtype object with `parts` in it."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.array(parts)
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    return array


def _paths(img: Any, save_path: Any) -> list[Path | None]:
    """One path, or None, for each image.

    Raises:
        UsageError: A batch with one path, in which each face would overwrite the one before; or
            a list of another length.
    """
    if not is_batch(img):
        if isinstance(save_path, list | tuple) and len(save_path) == 1:
            save_path = save_path[0]
        return [None if save_path is None else Path(save_path)]
    if save_path is None:
        return [None] * len(img)
    if isinstance(save_path, str | os.PathLike) or len(save_path) != len(img):
        found = 1 if isinstance(save_path, str | os.PathLike) else len(save_path)
        raise UsageError(
            "a batch needs one save_path for each image, in a list",
            expected=f"{len(img)} paths",
            found=f"{found}: {save_path!r}" if found == 1 else found,
        )
    return [None if path is None else Path(path) for path in save_path]
