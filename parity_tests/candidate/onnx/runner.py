"""Run a candidate that is an ONNX file, by onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from facenet_common.errors import ParityError
from facenet_common.text import printable
from parity_tests.candidate.onnx.file import make_session, read, weight_types
from parity_tests.candidate.onnx.interface import Images, Outputs, match_outputs, plain, run_once

Array = npt.NDArray[Any]


class OnnxCandidate:
    """Runs an ONNX file, ours or any other of the same network; a context manager.

    Args:
        path: The file. How it may take images: `parity_tests.candidate.onnx.interface`.
        architecture: A name of `converter.architectures.ARCHITECTURES`.
        dims: Its ``required_dims``.
        quick: Load it faster and run it slower, for a few images.

    Entering loads the file and runs it on one image. It raises `ParityError` if it can't be run or
    lacks an output of the architecture. Afterwards `precision` is the type in which it computes, a
    key of `candidate.precision.COARSENESS`; `edges` are the fixed sizes of the images' axes 1 and
    2, None where they are free; `notes` has a line for each thing that was assumed. `model` is
    None: there is no torch module.
    """

    model = None

    def __init__(
        self, path: Path, architecture: str, dims: Mapping[str, int], *, quick: bool = False
    ) -> None:
        self.name = path.name
        self.precision = "float32"
        self.edges: tuple[int | None, int | None] = (None, None)
        self.notes: tuple[str, ...] = ()
        self._path = path
        self._architecture = architecture
        self._dims = dims
        self._quick = quick
        self._session: Any = None
        self._images: Images | None = None
        self._outputs = Outputs((), ())

    def __enter__(self) -> OnnxCandidate:
        proto, data = read(self._path)
        weights = weight_types(proto)
        del proto  # as large as the weights
        session = make_session(self._path, data, quick=self._quick)
        self._images, shapes = run_once(self._path, session, self._architecture)
        self._outputs = self._matched(self._images, shapes)
        self.edges = self._images.edges
        self.precision, self.notes = _precision(self._images, weights)
        self.notes += tuple(
            f"the candidate's input {printable(name)!r} is set to {value.item()}"
            for name, value in self._images.switches.items()
        )
        self._session = session
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session = None

    @property
    def architecture(self) -> str:
        return self._architecture

    def run(self, images: Array) -> tuple[Array, ...]:
        """Return the outputs for `images`, both in TensorFlow's layout; float32 in any case.

        A file with a fixed batch size is run several times.

        Raises:
            ParityError: The file does not take images of this size, or failed on them.
        """
        why = self.refuses_size(images)
        if why:
            raise ParityError(
                "the ONNX file takes images of another size",
                file=self._path,
                expected=why,
                found=" by ".join(map(str, images.shape[1:3])),
                next_step="export it with free height and width",
            )
        assert self._images is not None
        parts = [self._run(part) for part in _split(images, self._images.batch)]
        arrays = [np.concatenate(column)[: len(images)] for column in zip(*parts, strict=True)]
        arrays = [np.asarray(array, np.float32) for array in arrays]
        return tuple(a.transpose(self._outputs.order) if a.ndim == 4 else a for a in arrays)

    def refuses_size(self, images: Array) -> str:
        """Return the only size of images that the file takes, if theirs is another; else ""."""
        pairs = zip(self.edges, images.shape[1:3], strict=True)
        if all(fixed in (None, size) for fixed, size in pairs):
            return ""
        return " by ".join(str(edge or "any") for edge in self.edges)

    def _run(self, images: Array) -> list[Array]:
        assert self._images is not None
        feed = self._images.feed(images)
        try:
            answers: list[Array] = self._session.run(list(self._outputs.names), feed)
        except Exception as error:  # onnxruntime's errors have no common base
            raise ParityError(
                "onnxruntime failed on the images",
                file=self._path,
                expected=f"outputs for an input of shape {feed[self._images.name].shape}",
                found=printable(error),
                next_step="if it takes images of one size only, export it with that size fixed",
            ) from error
        return answers

    def _matched(self, images: Images, shapes: Mapping[str, tuple[int, ...]]) -> Outputs:
        """Return the file's outputs that are the architecture's, or raise ParityError."""
        found = match_outputs(images, shapes, self._architecture, self._dims)
        if len(found) == 1:
            return found[0]
        wanted = ", ".join(
            f"{output.name} with {self._dims.get(str(output.size), output.size)} numbers"
            for output in ARCHITECTURES[self._architecture].outputs
        )
        listed = printable(", ".join(f"{key} {list(shape)}" for key, shape in shapes.items()))
        if found:
            raise ParityError(
                "the axes of the ONNX file's maps are ambiguous",
                file=self._path,
                expected=f"{wanted}, as (N, numbers, H, W) or (N, H, W, numbers)",
                found=f"{listed}, which fit both",
            )
        logits = any(plain(name) == "logits" for name in shapes)
        raise ParityError(
            f"the ONNX file does not give the outputs of {self._architecture}",
            file=self._path,
            expected=f"{wanted} for each image; of several that fit, one of that name",
            found=listed or "none",
            next_step="export it without --classify" if logits else None,
        )


def _precision(images: Images, weights: Mapping[str, int]) -> tuple[str, tuple[str, ...]]:
    """Return the type in which the file computes, by its input and most of its weights, and notes.

    A few numbers in a narrower type do not widen the limits.
    """
    most = max(weights, key=lambda name: weights[name], default="float32")
    if images.dtype is np.float16:
        most = "float16"
    if most == "float64":
        return "float32", ("the candidate computes in float64: its outputs are rounded to float32",)
    narrow = {name: count for name, count in weights.items() if name.endswith("float16")}
    if not narrow or most in narrow:
        return most, ()
    share = sum(narrow.values()) / sum(weights.values())
    listed = " and ".join(sorted(narrow))
    return most, (f"{share:.2g} of the candidate's weights are {listed}: judged as {most}",)


def _split(images: Array, fixed: int | None) -> list[Array]:
    """Split `images` into parts of `fixed` images, if that is a number; pad the last part."""
    if fixed is None:
        return [images]
    missing = -len(images) % fixed
    filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
    return [filled[start : start + fixed] for start in range(0, len(filled), fixed)]
