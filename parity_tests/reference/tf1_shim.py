"""Run a module written for TensorFlow 1 and an old NumPy with the installed versions.

The module gets stand-ins for what it imports. Only its own ``import`` statements return them; they
are not entries of ``sys.modules``.
"""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from converter.sources import mtcnn_npy
from facenet_common.errors import ParityError
from facenet_common.optional import require
from parity_tests.frameworks import quiet_tensorflow, tensorflow


def load_source(path: Path, name: str, stand_ins: Mapping[str, object]) -> ModuleType:
    """Execute a file of Python source, and return it as a module that is not in ``sys.modules``.

    Args:
        path: The file; it is executed, so it must be trusted.
        name: The module's ``__name__``.
        stand_ins: What ``import NAME`` returns inside it, by full name; other modules are imported
            as usual.

    Raises:
        ParityError: The file can't be read, or running it fails.
    """

    def importer(
        wanted: str,
        names: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        parts: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> object:
        if wanted in stand_ins:
            return stand_ins[wanted]
        return builtins.__import__(wanted, names, local, parts or (), level)

    module = ModuleType(name)
    module.__file__ = str(path)
    # Python looks up __import__ in the namespace's own builtins.
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": importer}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old spellings, such as `is "text"`
            code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except OSError as error:
        raise ParityError(f"can't read {path}: {error.strerror}") from error
    except Exception as error:  # whatever foreign code raises
        raise ParityError(
            "this file can't be loaded", file=path, found=f"{type(error).__name__}: {error}"
        ) from error
    return module


class Numpy:
    """NumPy, whose ``load`` reads MTCNN's ``.npy`` files without unpickling them."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def load(path: str, **options: object) -> np.ndarray[Any, np.dtype[np.object_]]:
        """Return an object array without axes: ``{layer: {parameter: array}}``, arrays read-only.

        The options (encoding, allow_pickle) are ignored. The original calls
        ``np.load(path, encoding='latin1').item()``: ``src/align/detect_face.py`` at 096ed77.

        Raises:
            UsageError: The file can't be read.
            FormatError: It is damaged or of another format.
        """
        del options
        layers: dict[str, dict[str, Any]] = {}
        for tensor in mtcnn_npy.open(Path(path)).values():
            layer, _, parameter = tensor.name.rpartition("/")
            layers.setdefault(layer, {})[parameter] = tensor.load()
        return np.array(layers, dtype=object)


class OpenCV:
    """OpenCV, imported on first use.

    Raises:
        MissingPackageError: On first use, if it is not installed.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(require("cv2", "the original's detector"), name)


@contextmanager
def tf1_graph() -> Iterator[Any]:
    """Create a graph to build with TF1's code; it is the default graph inside the context.

    Sizes of shapes are ``Dimension`` objects inside (``shape[-1].value``), as in TF1. TensorFlow
    has one switch for that in the whole process: it is restored afterwards, and no other thread
    should use TensorFlow meanwhile. Variables are TF1's too (``VariableV2``, not resources), and
    nothing is eager; both are properties of the graph.
    """
    tf = tensorflow()
    v1 = tf.compat.v1
    plain_sizes = isinstance(tf.TensorShape((1,))[0], int)
    with tf.Graph().as_default() as graph, quiet_tensorflow():
        v1.disable_v2_tensorshape()
        try:
            with v1.variable_scope(v1.get_variable_scope(), use_resource=False):
                yield graph
        finally:
            if plain_sizes:
                v1.enable_v2_tensorshape()
