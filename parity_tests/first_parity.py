"""Compare converted weights with the original on a few images: the work of ``convert --verify``.

That command calls `verify` through the entry point ``first_parity`` of the group ``facenet.hooks``,
after writing the candidate and before giving it its final name. The original runs in TensorFlow,
the candidate in PyTorch, both on a CPU in float32, on the same random inputs; each pair of outputs
must be closer than the tolerance.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.sources import mtcnn_npy
from facenet_common.errors import ParityError
from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.frameworks import tensorflow, torch
from parity_tests.reference.original import GraphValues, original
from parity_tests.reference.runner import ReferenceRunner
from parity_tests.verify_request import VerifyRequest

Array = npt.NDArray[Any]
Progress = Callable[[str], None]

# NHWC without N. P-Net takes any size: one that is not square, and odd, so that an exchange of
# height and width or of floor and ceil shows; and small, since its answer grows with it: 168
# numbers here, all of which add to the distance.
_INPUT_SHAPES = {
    "inception_resnet_v1": (160, 160, 3),
    "pnet": (17, 23, 3),
    "rnet": (24, 24, 3),
    "onet": (48, 48, 3),
}


@dataclass(frozen=True)
class FirstParity:
    """The result of `verify`.

    Attributes:
        architecture: As requested.
        distances: L2 distance of each pair of outputs, computed in float64. For InceptionResnetV1
            an output is an embedding, of length 1. For MTCNN it is all outputs for one image,
            joined: box edges and landmarks as fractions of the window's size, and probabilities.
        tolerance: Each distance must be less.
        graph: The graph that ran: a file's name, or "the project's own graph".
        seed: Seed of the inputs.
        weights_dtypes: Floating point types in the candidate's file; it was run in float32.
        torch_version: Version of the library that ran the candidate.
        tensorflow_version: Version of the library that ran the original.
    """

    architecture: str
    distances: tuple[float, ...]
    tolerance: float
    graph: str
    seed: int
    weights_dtypes: tuple[str, ...]
    torch_version: str
    tensorflow_version: str

    @property
    def passed(self) -> bool:
        """Whether there are distances, and each is less than the tolerance; NaN is not."""
        return bool(self.distances) and all(d < self.tolerance for d in self.distances)

    def to_json(self) -> dict[str, object]:
        """Return all attributes for `json.dumps`; a distance that is NaN or infinite is None."""
        return {
            "architecture": self.architecture,
            "passed": self.passed,
            "distances": [d if math.isfinite(d) else None for d in self.distances],
            "tolerance": self.tolerance,
            "graph": self.graph,
            "seed": self.seed,
            "weights_dtypes": list(self.weights_dtypes),
            "torch_version": self.torch_version,
            "tensorflow_version": self.tensorflow_version,
        }

    def summary(self) -> str:
        """Describe the result in a sentence; a second one if weights were not stored in float32."""
        within = sum(d < self.tolerance for d in self.distances)
        what = "embeddings" if self.architecture == "inception_resnet_v1" else "answers"
        largest = float(np.max(self.distances)) if self.distances else math.nan  # keeps NaN
        text = (
            f"{'passed' if self.passed else 'FAILED'}: {within} of {len(self.distances)} "
            f"{what} closer than {self.tolerance:g} (L2), the farthest {largest:.3g}; "
            f"{self.graph} in TensorFlow {self.tensorflow_version} against torch "
            f"{self.torch_version}, seed {self.seed}"
        )
        if self.weights_dtypes == ("float32",):
            return text
        return (
            f"{text}. The weights are stored as {', '.join(self.weights_dtypes)} and were run in "
            "float32: the distance includes what rounding them has changed"
        )


def verify(
    request: VerifyRequest | Mapping[str, object], progress: Progress | None = None
) -> FirstParity:
    """Run original and candidate on random inputs and measure the distance of their outputs.

    Args:
        request: What to compare; as a mapping it has the fields of `VerifyRequest` as keys.
        progress: Called with a description of each step; the imports alone take seconds.

    Raises:
        ParityError: No verdict could be reached. A candidate that differs raises nothing: see
            `FirstParity.passed`.
        MissingPackageError: TensorFlow or torch is not installed.
    """
    if not isinstance(request, VerifyRequest):
        request = VerifyRequest.from_mapping(request)
    note = progress or (lambda _: None)
    note("starting TensorFlow and torch")
    versions = {"tensorflow": tensorflow().__version__, "torch": torch().__version__}
    inputs = random_inputs(request.architecture, request.count, request.seed)
    candidate = CandidateRunner(
        request.weights, request.weights_format, request.architecture, request.dims
    )
    with candidate, _reference(request) as reference:
        note(f"running {reference.name} in TensorFlow")
        expected = reference.run(inputs)
        note("running the converted weights in torch")
        found = candidate.run(inputs)
    return FirstParity(
        architecture=request.architecture,
        distances=l2_distances(expected, found),
        tolerance=request.tolerance,
        graph=reference.name,
        seed=request.seed,
        weights_dtypes=candidate.dtypes,
        torch_version=versions["torch"],
        tensorflow_version=versions["tensorflow"],
    )


def random_inputs(architecture: str, count: int, seed: int) -> Array:
    """Return `count` images of standard normal noise, float32 NHWC, like standardised images."""
    shape = (count, *_INPUT_SHAPES[architecture])
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def l2_distances(expected: Sequence[Array], found: Sequence[Array]) -> tuple[float, ...]:
    """Return the L2 distance of each sample's outputs, all joined; NaN where a value is NaN.

    Raises:
        ParityError: The two sides differ in the number, shape or dtype of their outputs.
    """
    signatures = [[(a.shape, str(a.dtype)) for a in side] for side in (expected, found)]
    if signatures[0] != signatures[1]:
        raise ParityError(
            "the outputs of original and candidate can't be compared",
            expected=_describe(expected),
            found=_describe(found),
        )
    differences = [
        (a.astype(np.float64) - b.astype(np.float64)).reshape(len(a), -1)
        for a, b in zip(expected, found, strict=True)
    ]
    joined = np.concatenate(differences, axis=1)
    return tuple(float(distance) for distance in np.linalg.norm(joined, axis=1))


def _describe(arrays: Sequence[Array]) -> str:
    return ", ".join(f"{a.dtype} {a.shape}" for a in arrays)


def _reference(request: VerifyRequest) -> ReferenceRunner:
    """Return the runner of the original that `request` names."""
    values: Mapping[str, Array] = {}
    if request.source_format == mtcnn_npy.FORMAT:
        values = GraphValues(mtcnn_npy.open(request.source), request.architecture)
    graph, weights = original(
        request.architecture,
        request.dims,
        request.source_format,
        request.source,
        request.graph,
        values,
    )
    return ReferenceRunner(graph, weights)
