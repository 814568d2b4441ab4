"""Open the two sides of a comparison, and refuse sides that can't be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.architectures import ARCHITECTURES
from converter.catalog import Catalog
from converter.dtypes import BY_NAME
from converter.plan import make_plan
from converter.resolve import resolve
from converter.sources.keras import h5 as keras_h5
from facenet_common.errors import MappingError, UsageError
from facenet_common.text import check_path
from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.feeds import SEED, Edges, Feed, face_feed, fixed_size, standard_feeds
from parity_tests.reference.hdf5 import is_hdf5
from parity_tests.reference.live import LiveReference
from parity_tests.reference.protocol import Reference
from parity_tests.reference.recorded import RecordedReference

if TYPE_CHECKING:
    from parity_tests.candidate.onnx.runner import OnnxCandidate

STORES = (".h5", ".hdf5")
COUNT = 5  # images of noise, as in facenet-pytorch's own comparison


@dataclass(frozen=True)
class FeedOptions:
    """Options that choose the images; all None for a recorded reference, which contains its own.

    Attributes:
        count: Images of each kind of noise.
        seed: Seed of the noise.
        images: A folder of face images to add.
        kinds: Names of the feeds to keep, see `parity_tests.feeds.standard_feeds`; None: all.
    """

    count: int | None = None
    seed: int | None = None
    images: Path | None = None
    kinds: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Candidate:
    """The side that is judged.

    `weights` is None for an ONNX file, whose weights may be folded; `precision` is then the type in
    which it computes, see `OnnxCandidate`.
    """

    path: Path
    architecture: str
    dims: Mapping[str, int]
    weights: Catalog | None
    precision: str = "float32"

    def runner(
        self, dtype: str = "float32", device: str = "cpu", compile: bool = False
    ) -> CandidateRunner | OnnxCandidate:
        """Return its runner, not yet entered. The arguments do not apply to an ONNX file."""
        if self.weights is None:
            return self.onnx_runner()
        kind = "safetensors" if self.weights.format == "safetensors" else "torch"
        return CandidateRunner(
            self.path, kind, self.architecture, self.dims, dtype, device=device, compile=compile
        )

    def onnx_runner(self, *, quick: bool = False) -> OnnxCandidate:
        """Return the runner of an ONNX file, not yet entered; `quick`: for a few images."""
        from parity_tests.candidate.onnx.runner import OnnxCandidate

        return OnnxCandidate(self.path, self.architecture, self.dims, quick=quick)


def open_candidate(
    name: str, like: str | None = None, dims: Mapping[str, int] | None = None
) -> Candidate:
    """Open a ``.pt``, ``.safetensors`` or ``.onnx`` file.

    `like` and `dims` are the reference's architecture and sizes: an ONNX file without metadata is
    taken for it, if its outputs allow that.

    Raises:
        UsageError: There is no such file, or it has TensorFlow's names.
        FacenetError: It can't be read, or is of an unknown network.
    """
    path = Path(name).expanduser()
    if path.suffix == ".onnx" and path.is_file():
        from parity_tests.candidate.onnx.facts import onnx_facts

        architecture, sizes = onnx_facts(path, like, dims)
        return Candidate(path, architecture, sizes, None)
    source = resolve(name)
    weights = source.open()
    if weights.naming != "torch":
        raise UsageError(
            "the candidate must have PyTorch's weights",
            file=source.path,
            expected="a .pt, .safetensors or .onnx file",
            found=weights.format,
            next_step="convert it first: convert --checkpoint … --out weights.pt",
        )
    plan = make_plan(weights, to="tensorflow", strict=False)
    return Candidate(source.path, plan.architecture.name, {**plan.dims}, weights)


def open_reference(name: str, options: FeedOptions, step: int | None = None) -> Reference:
    """Open a recorded reference, or any file that `open_live` opens.

    Raises:
        UsageError: It is not a reference, or the options do not apply to it.
        FacenetError: It can't be read.
    """
    path = Path(name).expanduser()
    stored = path.suffix in STORES or (path.is_file() and is_hdf5(path))
    if not stored or (path.is_file() and keras_h5.holds_weights(path)):
        return open_live(name, options, step)
    if not path.is_file():
        raise UsageError(
            "the recorded reference does not exist", file=path, next_step=check_path(path)
        )
    if options != FeedOptions() or step is not None:
        raise UsageError(
            "a recorded reference contains its own images",
            file=path,
            next_step="omit --count, --seed, --images and --step, or give them to facenet capture",
        )
    return RecordedReference(path)


def open_live(
    name: str,
    options: FeedOptions,
    step: int | None = None,
    usage: str = "facenet verify CHECKPOINT WEIGHTS",
) -> LiveReference:
    """Open a checkpoint, a frozen graph or MTCNN's ``.npy``, to be run in TensorFlow.

    `usage` is the command that an error message suggests.

    Raises:
        UsageError: It is not a reference.
        FacenetError: It can't be read, or is of an unknown network.
    """
    source = resolve(name, step)
    catalog = source.open()
    if catalog.naming != "tensorflow":
        raise UsageError(
            "the reference must have TensorFlow's weights",
            file=source.path,
            expected="a checkpoint, a frozen graph, det1.npy, det2.npy, det3.npy, or a record made "
            "by facenet capture",
            found=catalog.format,
            next_step=f"give the TensorFlow side first: {usage}",
        )
    plan = make_plan(catalog, to="torch", strict=False)
    feeds = make_feeds(plan.architecture.name, options)
    return LiveReference(source, catalog, plan.architecture.name, {**plan.dims}, feeds)


def require_same_network(reference: Reference, candidate: Candidate) -> None:
    """Raise MappingError unless both are of one architecture and embedding size."""
    sides = [(s.architecture, s.dims.get("embedding", 0)) for s in (reference, candidate)]
    if sides[0] != sides[1]:
        expected, found = (f"{name}, embedding {size}" if size else name for name, size in sides)
        raise MappingError(
            "the two sides are different networks",
            file=str(candidate.path),
            expected=expected,
            found=found,
            next_step="check that both files belong to one model",
        )


def require_unrounded(reference: Reference, candidate: Candidate) -> None:
    """Raise UsageError if every kernel of the candidate has a narrower dtype than the reference's.

    Kernels are tensors of two or more dimensions: half-precision files may have the others in
    float32. A single tensor of another dtype is a defect, which the weights gate reports.
    """
    if candidate.weights is None:
        return
    dtypes = reference.dtypes()
    kernels = [
        (ref.dtype, BY_NAME.get(dtypes[name]))
        for name, ref in candidate.weights.items()
        if len(ref.shape) > 1 and name in dtypes
    ]
    if not kernels or not all(other and own.widens_to(other) for own, other in kernels):
        return
    narrow = ", ".join(sorted({own.name for own, _ in kernels}))
    raise UsageError(
        f"the candidate's weights are rounded to {narrow}: "
        "rounding and defects can't be distinguished",
        file=candidate.path,
        expected=", ".join(sorted({str(other) for _, other in kernels})),
        found=narrow,
        next_step="verify weights converted without --dtype; facenet verify --dtype float16 lets "
        "them compute in float16",
    )


def make_feeds(
    architecture: str, options: FeedOptions, edges: Edges = (None, None)
) -> tuple[Feed, ...]:
    """Return the feeds of a comparison; `edges`: sizes of the images that are fixed."""
    seed = SEED if options.seed is None else options.seed
    feeds = standard_feeds(architecture, options.count or COUNT, seed, edges)
    if options.kinds is not None:
        feeds = tuple(feed for feed in feeds if feed.name in options.kinds)
    if options.images is None:
        return feeds
    known = ARCHITECTURES[architecture]
    if not known.is_embedding:
        raise UsageError("--images are faces: they are for networks that give embeddings")
    return (*feeds, face_feed(options.images, fixed_size(known.feed_size, edges)))
