"""The request to `parity_tests.first_parity.verify`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from facenet_common.errors import ParityError

ARCHITECTURES = ("inception_resnet_v1", "pnet", "rnet", "onet")
WEIGHTS_FORMATS = ("torch", "safetensors")
SOURCE_FORMATS = ("tensorflow-bundle", "frozen-graph", "mtcnn-npy")


@dataclass(frozen=True)
class VerifyRequest:
    """A candidate and the original to compare it with.

    Attributes:
        weights: The candidate's file; its name may be temporary.
        weights_format: "torch" or "safetensors".
        architecture: "inception_resnet_v1", "pnet", "rnet" or "onet".
        dims: ``{"embedding": 512, "classes": 8631}`` for InceptionResnetV1 (classes absent or 0:
            no classifier), empty for the others.
        source_format: "tensorflow-bundle", "frozen-graph" or "mtcnn-npy".
        source: The bundle's prefix (no ``.index``), the ``.pb`` or the ``.npy`` file.
        graph: The ``.meta`` file to run, or None: the project's own graph. Only for a bundle.
        count: Number of random inputs.
        seed: Seed of `numpy.random.default_rng`; by default the day of the published model.
        tolerance: A distance must be less. 1e-5: the project's contract (issue "Convert").

    Raises:
        ParityError: A value is of the wrong type or out of range.
    """

    weights: Path
    weights_format: str
    architecture: str
    dims: Mapping[str, int]
    source_format: str
    source: Path
    graph: Path | None = None
    count: int = 5
    seed: int = 20180402
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        choices = {
            "architecture": ARCHITECTURES,
            "weights_format": WEIGHTS_FORMATS,
            "source_format": SOURCE_FORMATS,
        }
        for name, allowed in choices.items():
            _require(getattr(self, name) in allowed, name, f"one of {', '.join(allowed)}", self)
        for name in ("weights", "source"):
            _require(isinstance(getattr(self, name), Path), name, "a path", self)
        _require(self.graph is None or isinstance(self.graph, Path), "graph", "a path", self)
        _require(isinstance(self.dims, Mapping), "dims", "a mapping of names to sizes", self)
        _require(
            all(_is_count(size, least=0) for size in self.dims.values()), "dims", "sizes", self
        )
        _require(_is_count(self.count, least=1), "count", "a number, 1 or more", self)
        _require(_is_count(self.seed, least=0), "seed", "a number, 0 or more", self)
        tolerance = self.tolerance
        _require(
            isinstance(tolerance, float) and math.isfinite(tolerance) and tolerance > 0,
            "tolerance",
            "a finite number above 0",
            self,
        )
        mtcnn = self.architecture != "inception_resnet_v1"
        _require(
            mtcnn == (self.source_format == "mtcnn-npy"),
            "source_format",
            "'mtcnn-npy' for P-, R- and O-Net, and for nothing else",
            self,
        )
        _require(
            self.graph is None or self.source_format == "tensorflow-bundle",
            "graph",
            "None unless the source is a bundle",
            self,
        )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> "VerifyRequest":
        """Create a request from plain values; paths may be strings.

        Raises:
            ParityError: A key is missing or unknown, or a value is invalid.
        """
        known = {field.name for field in fields(cls)}
        required = {"weights", "weights_format", "architecture", "dims", "source_format", "source"}
        problems = [f"{key!r} is missing" for key in sorted(required - values.keys())]
        problems += [f"{key!r} is unknown" for key in sorted(values.keys() - known)]
        if problems:
            raise ParityError(f"the request to verify is malformed: {'; '.join(problems)}")
        arguments: dict[str, Any] = dict(values)
        for name in ("weights", "source", "graph"):
            if isinstance(arguments.get(name), str):
                arguments[name] = Path(arguments[name])
        return cls(**arguments)


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _require(holds: bool, name: str, expected: str, request: VerifyRequest) -> None:
    if not holds:
        raise ParityError(
            f"can't verify: {name} should be {expected}, and is {getattr(request, name)!r}"
            f" (architecture {request.architecture!r})"
        )
