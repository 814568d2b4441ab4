"""The TensorFlow side as `facenet capture` recorded it: no TensorFlow is needed to read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.architectures import ARCHITECTURES
from converter.catalog import Catalog
from converter.compare import tensors_by_name
from converter.findings import Finding
from facenet_common.errors import MappingError, MissingPackageError, ParityError
from parity_tests.batches import Batches
from parity_tests.feeds import Feed
from parity_tests.gates import Fingerprint, weights_gate_by_hash
from parity_tests.model import GateResult
from parity_tests.probes import Which, probes, require_tensors
from parity_tests.reference.hdf5 import Store, write
from parity_tests.reference.live import LiveReference

Array = npt.NDArray[Any]

ACTIVATIONS = "activations/"
ROUNDING = "rounding"
AT_A_TIME = 16  # activations in memory


def capture(
    reference: LiveReference, path: Path, which: Which | None, batches: Batches
) -> dict[str, Any]:
    """Run `reference` and record it in `path`.

    Args:
        reference: The reference to run.
        path: The HDF5 file to write; an existing one is replaced.
        which: The probes whose activations are recorded, for the first feed; None: none.
        batches: Batch size, progress and notes.

    Returns:
        A summary of the record for ``--json``: name, graph, sizes, versions, feeds, activations.

    Raises:
        MappingError: Its outputs may depend on tensors that no rule explains.
        ParityError: It can't be run.
        OutputError: The file can't be written.
    """
    _require_explained(reference)
    answers = {}
    total = sum(len(feed.images) for feed in reference.feeds)
    batches.progress.stage("TensorFlow", total)
    answers["float32"] = reference.answers(batches)
    batches.progress.stage("in float64", total)
    answers["float64"] = reference.oracle(batches)
    scale = _rounding(reference, batches)
    fingerprints = _fingerprints(reference.catalog)
    about = {
        "name": Path(reference.name).name,
        "graph": reference.graph,
        "architecture": reference.architecture,
        "dims": dict(reference.dims),
        "versions": dict(reference.versions),
        "weights": [[f.name, f.dtype, list(f.shape), f.sha256] for f in fingerprints],
        "feeds": [[f.name, f.description, list(f.samples)] for f in reference.feeds],
        "probes": which,
    }

    def arrays() -> Iterator[tuple[str, Array]]:
        for feed in reference.feeds:
            yield f"feeds/{feed.name}", feed.images
        for name, rows in answers.items():
            yield f"answers/{name}", rows
        if scale is not None:
            yield ROUNDING, scale
        if which is not None:
            yield from _activations(reference, which, batches)

    write(path, about, arrays())
    with Store(path) as store:  # check it as `facenet verify` will
        count = sum(name.startswith(ACTIVATIONS) for name in store.shapes)
    kept = ("name", "graph", "architecture", "dims", "versions", "feeds", "probes")
    return {key: about[key] for key in kept} | {"activations": count}


def _require_explained(reference: LiveReference) -> None:
    """Refuse weights that no candidate can be compared with: a record would not tell."""
    found = reference.unproven()
    if found:
        raise MappingError(
            "the outputs may depend on tensors that no rule explains; nothing was recorded",
            tuple(
                Finding(
                    "unexplained",
                    ref.name,
                    "only tensors of the network",
                    f"{ref.dtype} {list(ref.shape)}",
                )
                for ref in found
            ),
            file=reference.name,
            next_step="save the network's variables alone, or put the checkpoint's .meta file "
            "beside it, which shows what outside the network changes no output",
        )


def _rounding(reference: LiveReference, batches: Batches) -> Array | None:
    """Return the scale of rounding; without torch add a note and return None."""
    batches.progress.note("estimating rounding")
    try:
        return reference.rounding()
    except (MissingPackageError, ParityError) as error:
        why = str(error).partition("\n")[0]
        batches.notes.append(f"the scale of rounding is not recorded: {why}")
        return None


def _activations(
    reference: LiveReference, which: Which, batches: Batches
) -> Iterator[tuple[str, Array]]:
    """Yield the tensors of the probes; the network runs once for every `AT_A_TIME` of them."""
    images = reference.feeds[0].images
    with reference.activations() as runner:
        table = require_tensors(probes(reference.architecture, which), runner.tensors)
        tensors = list(dict.fromkeys(probe.tensor for probe in table))
        batches.progress.stage("activations", len(tensors))
        for start in range(0, len(tensors), AT_A_TIME):
            names = tensors[start : start + AT_A_TIME]
            for name, array in zip(names, runner.fetch(images, names), strict=True):
                yield f"{ACTIVATIONS}{name}", array
                batches.progress.advance(1)


def _fingerprints(catalog: Catalog) -> tuple[Fingerprint, ...]:
    rows = []
    for ref in tensors_by_name(catalog, "torch").values():
        rows.append(Fingerprint.of(ref))
        catalog.release(ref.nbytes)
    return tuple(rows)


class RecordedReference:
    """A recorded reference; implements `parity_tests.reference.protocol.Reference`.

    Raises:
        ParityError: The file is damaged, foreign, or of another version.
    """

    has_float64 = False
    is_recorded = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        with Store(path) as store:
            about = store.about
            try:
                self.architecture = _text(about["architecture"])
                self.dims: Mapping[str, int] = {
                    _text(key): _size(size) for key, size in about["dims"].items()
                }
                self.versions: Mapping[str, str] = {
                    _text(key): _text(value) for key, value in about["versions"].items()
                }
                self.probes = _which(about["probes"])
                known = ARCHITECTURES[self.architecture]
                if self.probes and known.blocks == known.layers:
                    self.probes = "all"
                self._title = f"{_text(about['name'])}, {_text(about['graph'])}"
                self._weights = tuple(
                    Fingerprint(_text(n), _text(d), tuple(map(_size, s)), _text(h))
                    for n, d, s, h in about["weights"]
                )
                rows = [(_text(n), _text(d), tuple(map(_text, s))) for n, d, s in about["feeds"]]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ParityError(
                    "the recorded reference is damaged: its manifest can't be read",
                    file=path,
                    found=f"{type(error).__name__}: {error}",
                    next_step="record it again: facenet capture CHECKPOINT --out reference.h5",
                ) from error
            self.feeds: tuple[Feed, ...] = tuple(
                Feed(name, store.read(f"feeds/{name}"), description, samples)
                for name, description, samples in rows
            )
            self._recorded = self.feeds
            self._require_rows(store)

    @property
    def description(self) -> str:
        return f"{self.name} (recorded: {self._title})"

    def dtypes(self) -> Mapping[str, str]:
        return {row.name: row.dtype for row in self._weights}

    def weights_gate(self, candidate: Catalog) -> GateResult:
        return weights_gate_by_hash(self._weights, candidate)

    def use(self, feeds: tuple[Feed, ...]) -> None:
        self.feeds = feeds

    def answers(self, batches: Batches) -> Array:
        return self._answers("float32", batches)

    def oracle(self, batches: Batches) -> Array:
        return self._answers("float64", batches)

    @contextmanager
    def activations(self, *, float64: bool = False) -> Iterator[_RecordedActivations]:
        if float64:
            raise ParityError("activations are recorded in float32 only", file=self._path)
        with Store(self._path) as store:
            yield _RecordedActivations(store, self._recorded[0].images)

    def rounding(self) -> Array:
        with Store(self._path) as store:
            if ROUNDING not in store.shapes:
                raise ParityError(
                    "the recorded reference lacks the scale of rounding",
                    file=self._path,
                    next_step="record it again where torch is installed: "
                    "facenet capture CHECKPOINT --out reference.h5",
                )
            return self._used(store.read(ROUNDING))

    def _answers(self, dtype: str, batches: Batches) -> Array:
        with Store(self._path) as store:
            rows = self._used(store.read(f"answers/{dtype}"))
        batches.progress.advance(len(rows))
        return rows

    def _used(self, rows: Array) -> Array:
        """Return those of the recorded rows that belong to the feeds in use."""
        names = {feed.name for feed in self.feeds}
        used = [feed.name in names for feed in self._recorded for _ in feed.images]
        return rows[used]

    def _require_rows(self, store: Store) -> None:
        """Require as many outputs as there are samples."""
        samples = sum(len(feed.samples) for feed in self.feeds)
        images = sum(len(feed.images) for feed in self.feeds)
        answers = [
            store.shapes.get(f"answers/{dtype}", (0,))[0] for dtype in ("float32", "float64")
        ]
        answers.append(store.shapes.get(ROUNDING, (samples,))[0])
        if not samples or {samples, images} != {*answers}:
            raise ParityError(
                "the recorded reference is damaged: samples, images and answers do not match",
                file=self._path,
                expected=f"{samples} of each",
                found=f"{images} images, {answers} answers",
            )


class _RecordedActivations:
    """The recorded activations, for the images with which they were recorded."""

    def __init__(self, store: Store, images: Array) -> None:
        self._store = store
        self._images = images

    @property
    def tensors(self) -> frozenset[str]:
        names = (name for name in self._store.shapes if name.startswith(ACTIVATIONS))
        return frozenset(name.removeprefix(ACTIVATIONS) for name in names)

    def fetch(self, images: Array, tensors: Sequence[str]) -> tuple[Array, ...]:
        """Return the rows of each tensor for `images`, the first of the recorded ones."""
        if not np.array_equal(images, self._images[: len(images)]):
            raise ParityError("activations are recorded for the images of the first feed only")
        return tuple(self._store.read(f"{ACTIVATIONS}{name}", len(images)) for name in tensors)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _which(value: object) -> Which | None:
    if value == "blocks" or value == "all" or value is None:
        return value
    raise TypeError(f"{value!r} is not a set of probes")


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is not a size")
    return value
