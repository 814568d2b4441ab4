"""Run the original's own MTCNN, unmodified: davidsandberg/facenet ``src/align/detect_face.py``.

https://github.com/davidsandberg/facenet/blob/096ed77/src/align/detect_face.py

The file is searched in the checkout that the environment variable ``FACENET_ORIGINAL_DIR`` names,
else in the submodule of an editable installation, ``third_party/davidsandberg_facenet``. It is
Python code that is executed, so name only a checkout that you trust; weights are never unpickled
(see `parity_tests.reference.tf1_shim`). Nothing in the folder is changed.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from facenet_common.errors import FacenetError, ParityError
from parity_tests.frameworks import tensorflow
from parity_tests.reference.tf1_shim import Numpy, OpenCV, load_source, tf1_graph
from parity_tests.tf_graphs import MTCNN_NETS
from parity_tests.tf_graphs.serving import ServingGraph, cut

Array = npt.NDArray[Any]

FOLDER_VARIABLE = "FACENET_ORIGINAL_DIR"
ORIGINAL_GRAPH = "the original's own detect_face"
_SUBMODULE = Path(__file__).parents[2] / "third_party" / "davidsandberg_facenet"
_SOURCE = Path("src", "align", "detect_face.py")
_OTHER_WEIGHTS = "give det1.npy, det2.npy and det3.npy of davidsandberg/facenet (src/align)"
_NAMES = (*(net.original for net in MTCNN_NETS.values()), "create_mtcnn", "detect_face")


def original_available() -> Path | None:
    """Return the folder of the original; None if there is none and `FOLDER_VARIABLE` is unset.

    Raises:
        ParityError: `FOLDER_VARIABLE` names a folder without the original.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named) if named else _SUBMODULE
    if (folder / _SOURCE).is_file():
        return folder
    if named:
        raise ParityError(
            f"{FOLDER_VARIABLE} doesn't name a checkout of davidsandberg/facenet",
            expected=folder / _SOURCE,
            found="no such file",
            next_step="unset it; the submodule or the project's own graph is then used",
        )
    return None


def load_detect_face(folder: Path) -> ModuleType:
    """Load the original's module, with TF1 as its ``tensorflow``, outside ``sys.modules``.

    Call its functions that build graphs inside `parity_tests.reference.tf1_shim.tf1_graph`.

    Raises:
        ParityError: It can't be read or loaded, or is another module.
        MissingPackageError: TensorFlow is not installed.
    """
    path = folder / _SOURCE
    stand_ins = {"tensorflow": tensorflow().compat.v1, "numpy": Numpy(), "cv2": OpenCV()}
    module = load_source(path, "_original_detect_face", stand_ins)
    missing = [name for name in _NAMES if not hasattr(module, name)]
    if missing:
        raise ParityError(
            "this is not davidsandberg/facenet's detect_face.py",
            file=path,
            expected=", ".join(_NAMES),
            found=f"no {', no '.join(missing)}",
        )
    return module


def original_graph(net: str, folder: Path) -> ServingGraph:
    """Return P-, R- or O-Net as the original's own code builds it; `net` is a key of `MTCNN_NETS`.

    Raises:
        ParityError: As `load_detect_face`; the code fails; or the graph is refused (see
            `parity_tests.tf_graphs.serving`).
    """
    tf = tensorflow().compat.v1
    module = load_detect_face(folder)
    known = MTCNN_NETS[net]
    with tf1_graph() as graph, tf.variable_scope(net):
        images = tf.placeholder(tf.float32, (None, known.size, known.size, 3), "input")
        try:
            getattr(module, known.original)({"data": images})
        except Exception as error:  # foreign code may raise anything
            raise _failed(f"build {net}", folder, error) from error
    outputs = tuple(known.outputs.values())
    return cut(graph.as_graph_def(), ORIGINAL_GRAPH, images=known.images, outputs=outputs)


class OriginalDetector:
    """Runs the original's detector, end to end, on a CPU; a context manager around its session.

    Args:
        folder: The folder of ``src/align/detect_face.py``; see `original_available`.
        weights: The folder of ``det1.npy``, ``det2.npy`` and ``det3.npy``.

    Entering raises:
        UsageError: A weight file is missing or can't be read.
        FormatError: It is damaged or of another format.
        ParityError: As `load_detect_face`, or the weights don't fit the three nets.
    """

    def __init__(self, folder: Path, weights: Path) -> None:
        self._folder = folder
        self._weights = weights
        self._module: Any = None
        self._session: Any = None
        self._nets: tuple[Any, ...] = ()

    def __enter__(self) -> OriginalDetector:
        tf = tensorflow().compat.v1
        self._module = load_detect_face(self._folder)
        with tf1_graph() as graph:
            # A CPU: a GPU may round float32 products to 10 bits.
            session = tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0}))
            try:
                self._nets = self._load(session)
            except BaseException:
                session.close()
                raise
        self._session = session
        return self

    def _load(self, session: Any) -> tuple[Any, ...]:
        """Return the three nets as functions; their weights are in `session`."""
        try:
            nets = tuple(self._module.create_mtcnn(session, str(self._weights)))
        except FacenetError:
            raise
        except Exception as error:  # foreign code may raise anything
            what = f"load the weights in {self._weights}"
            raise _failed(what, self._folder, error, _OTHER_WEIGHTS) from error
        unset = session.run(tensorflow().compat.v1.report_uninitialized_variables())
        if len(unset):
            raise ParityError(
                "the weights lack variables of the original's nets",
                file=self._weights,
                found=f"no {unset[0].decode()}, {len(unset)} missing in all",
                next_step=_OTHER_WEIGHTS,
            )
        return nets

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()
        self._session, self._nets = None, ()

    def detect(
        self,
        image: Array,
        minsize: int = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
    ) -> tuple[Array, Array]:
        """Detect faces in `image`; defaults are those of the original's ``align_dataset_mtcnn.py``.

        Args:
            image: ``(H, W, 3)`` uint8, RGB.
            minsize: Smallest face to find, pixels.
            thresholds: Least probability after P-, R- and O-Net.
            factor: Ratio of one image of the pyramid to the one before; above 0 and below 1.

        Returns:
            Boxes ``(N, 5)``, float64: x1, y1, x2, y2, score; and points ``(10, N)``, float32: five
            x, then five y. Pixels, in the original's own order; N may be 0.

        Raises:
            ValueError: An argument is invalid: the original would not terminate, or return wrong
                boxes.
            ParityError: The original fails on this image.
            MissingPackageError: OpenCV is not installed.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        if minsize <= 0 or not 0 < factor < 1 or len(thresholds) != 3:
            raise ValueError(
                "minsize must be above 0, factor between 0 and 1, thresholds three; "
                f"they are {minsize}, {factor}, {thresholds}"
            )
        find = self._module.detect_face
        try:
            boxes, points = find(image, minsize, *self._nets, list(thresholds), factor)
        except FacenetError:
            raise
        except Exception as error:  # foreign code may raise anything
            raise _failed("run on this image", self._folder, error) from error
        if not len(boxes):  # the original then returns 9 columns, or points with one axis
            return np.empty((0, 5)), np.empty((10, 0), np.float32)
        return boxes, points


def _failed(
    what: str,
    folder: Path,
    error: Exception,
    next_step: str = "check that it is an unmodified checkout of davidsandberg/facenet",
) -> ParityError:
    return ParityError(
        f"{ORIGINAL_GRAPH} can't {what}",
        file=folder / _SOURCE,
        found=f"{type(error).__name__}: {error}",
        next_step=next_step,
    )
