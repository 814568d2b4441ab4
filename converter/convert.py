"""The main job, one straight line: resolve, open, plan, write, read back, verify, rename."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from converter.batches import batches
from converter.catalog import Catalog, TensorRef
from converter.digest import Digest, tensor_sha256
from converter.dtypes import FLOAT32, Array, DType, as_words
from converter.execute import check_dropped, source_values, targets
from converter.plan import Edge, Fill, PartChoice, Plan, make_plan
from converter.receipt import FileRecord, Receipt
from converter.resolve import Source, resolve
from converter.sources import FORMATS
from converter.writers import Writer, bundle, writer_for
from facenet_common.atomic import atomic_file, atomic_folder, check_target, output_error
from facenet_common.errors import (
    FacenetError,
    ParityFailedError,
    RoundTripError,
    UsageError,
    ValueCheckError,
)
from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress

_WORKERS = 2  # threads that check; each holds a batch's largest tensor, three times over


class ParityResult(Protocol):
    """The verdict of a parity hook."""

    @property
    def passed(self) -> bool: ...

    def to_json(self) -> dict[str, object]: ...

    def summary(self) -> str: ...


class ParityHook(Protocol):
    """Runs a TensorFlow source and the PyTorch weights made of it, and compares their answers.

    `checkpoint` and `step` name the source as the request does. `weights` is the file as written,
    under a temporary name; `output` is the name that it gets if the verdict is good.
    """

    def __call__(
        self,
        checkpoint: str,
        weights: Path,
        *,
        step: int | None,
        output: Path,
        progress: Progress,
    ) -> ParityResult: ...


@dataclass(frozen=True)
class Request:
    """A conversion as a user asks for it. `dtype` None keeps each tensor's own type; `hash_source`
    adds the SHA-256 of the source's files to the receipt.
    """

    checkpoint: str
    out: str
    part: PartChoice = "all"
    dtype: DType | None = None
    strict: bool = True
    overwrite: bool = False
    allow_nonfinite: bool = False
    step: int | None = None
    parity: ParityHook | None = None
    hash_source: bool = False


def convert(request: Request, progress: Progress | None = None) -> Receipt:
    """Convert a source to the file or folder `request.out`, and prove it.

    Before the output gets its name it is read back, inverted and compared with the source bit for
    bit; with `request.parity`, the hook must pass too. Raises FacenetError; then nothing is left.
    """
    progress = progress or Progress()
    _check_options(request)
    writer = writer_for(request.out)
    out = Path(request.out)
    is_folder = not writer.SUFFIXES
    check_target(out, overwrite=request.overwrite, folder=is_folder)
    source = resolve(request.checkpoint, request.step)
    catalog = source.open()
    _check_direction(request, catalog, writer)
    plan = make_plan(catalog, to=writer.NAMING, part=request.part, strict=request.strict)
    hashes = _Hashes(catalog.files if request.hash_source else ())
    with _naming(source.path), (atomic_folder if is_folder else atomic_file)(out) as partial:
        complete = threading.Event()
        written_hashes = _Hashes([partial], complete) if not is_folder else None
        try:
            _write(writer, partial, out, request, plan, catalog, progress)
        finally:
            complete.set()
        written_hashes = written_hashes or _Hashes(sorted(partial.iterdir()))
        digest = _read_back(writer, partial, request, plan, catalog, progress)
        parity = _parity(request, source, partial, progress)
        return Receipt(
            plan=plan,
            source=source.path,
            source_format=catalog.format,
            source_files=hashes.records(),
            output=out,
            output_format=writer.FORMAT,
            output_files=tuple(
                replace(record, path=out / record.path.name if is_folder else out)
                for record in written_hashes.records()
            ),
            digest=digest,
            part=request.part,
            dtype=request.dtype,
            parity=parity.to_json() if parity else None,
            parity_summary=parity.summary() if parity else None,
        )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say in every error about a value which source it came from."""
    try:
        yield
    except ValueCheckError as error:
        error.file = error.file or str(path)
        raise


def _write(
    writer: Writer,
    partial: Path,
    out: Path,
    request: Request,
    plan: Plan,
    catalog: Catalog,
    progress: Progress,
) -> None:
    refs = targets(plan, dtype=request.dtype, allow_nonfinite=request.allow_nonfinite)

    def written(ref: TensorRef) -> None:
        catalog.release(ref.nbytes)
        progress.advance(ref.nbytes)

    progress.stage("converting", sum(ref.nbytes for ref in refs))
    for dropped in plan.dropped:
        check_dropped(dropped)
        catalog.release(dropped.source.nbytes)
    try:
        writer.write(partial, refs, written)
    except OSError as error:
        raise output_error(out, error) from error


def _read_back(
    writer: Writer,
    partial: Path,
    request: Request,
    plan: Plan,
    catalog: Catalog,
    progress: Progress,
) -> str:
    """Compare what is on disk with the source; return its tensor digest."""
    (module,) = (module for module in FORMATS if module.FORMAT == writer.FORMAT)
    try:
        back = module.open(partial / bundle.PREFIX if not writer.SUFFIXES else partial)
        return _compare(back, request, plan, catalog, progress)
    except FacenetError as error:
        if isinstance(error, RoundTripError):
            raise
        raise RoundTripError(
            "what was written can't be read back: the disk or memory may be faulty",
            found=str(error),
            next_step="run it again, to another disk if it persists",
        ) from error


def _compare(
    back: Catalog, request: Request, plan: Plan, catalog: Catalog, progress: Progress
) -> str:
    expected = targets(plan, dtype=request.dtype, allow_nonfinite=True)
    _same(sorted(ref.name for ref in expected), sorted(back), "names")
    progress.stage("checking", back.nbytes)

    steps = {step.target: step for step in plan.steps}

    def check(batch: list[TensorRef]) -> list[tuple[TensorRef, str]]:
        checked = [(ref, _check_tensor(steps[ref.name], ref, back[ref.name])) for ref in batch]
        size = sum(ref.nbytes for ref in batch)
        catalog.release(size)
        back.release(size)
        return checked

    digest = Digest()
    # Hashing, checksums and copies release the interpreter lock.
    with ThreadPoolExecutor(_WORKERS) as pool:
        # The large classifier comes last; started first, it leaves no thread without work.
        for batch in pool.map(check, reversed(list(batches(expected)))):
            for ref, sha256 in batch:
                digest.add(ref, sha256)
                progress.advance(ref.nbytes)
    return digest.hexdigest()


def _check_tensor(step: Edge | Fill, expected: TensorRef, found: TensorRef) -> str:
    """Compare one tensor as read back with its source; return the SHA-256 of its bytes."""
    name = expected.name
    _same((expected.dtype, expected.shape), (found.dtype, found.shape), "type and shape", name)
    array = found.load()
    if isinstance(step, Edge):
        values = source_values(step, expected.dtype, allow_nonfinite=True)
        _same(True, _bits_equal(step.layout.invert(array), values), "bits", name)
    else:
        _same(True, _bits_equal(array, expected.load()), "bits", name)
    return tensor_sha256(array)


def _bits_equal(one: Array, other: Array) -> bool:
    """Whether two arrays have the same shape and bits: NaN equals itself, -0 is not 0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return np.array_equal(as_words(one), as_words(other))


def _same(expected: object, found: object, what: str, tensor: str | None = None) -> None:
    if expected != found:
        raise RoundTripError(
            f"what was read back differs from the source in {what}",
            tensor=tensor,
            expected=expected,
            found=found,
            next_step="run it again; if it persists, report it: this must not happen",
        )


def _check_options(request: Request) -> None:
    if request.parity is None:
        return
    if request.dtype is not None and request.dtype is not FLOAT32:
        raise UsageError(
            "--verify can't tell a wrong weight from a rounded one",
            found=f"--dtype {request.dtype}",
            next_step="verify a conversion without --dtype first, then convert again with it",
        )
    if request.part == "logits":
        raise UsageError("--verify needs the network itself: --part logits can't be run alone")


def _check_direction(request: Request, catalog: Catalog, writer: Writer) -> None:
    if request.parity is None or (catalog.naming, writer.NAMING) == ("tensorflow", "torch"):
        return
    raise UsageError(
        "--verify compares a TensorFlow source with PyTorch weights",
        found=f"a conversion from {catalog.format} to {writer.FORMAT}",
        next_step="leave out --verify: the result is compared bit for bit all the same",
    )


def _parity(
    request: Request,
    source: Source,
    partial: Path,
    progress: Progress,
) -> ParityResult | None:
    if request.parity is None:
        return None
    result = request.parity(
        request.checkpoint,
        partial,
        step=request.step,
        output=Path(request.out),
        progress=progress,
    )
    if not result.passed:
        raise ParityFailedError(
            "the converted model does not compute what the TensorFlow graph does; "
            "nothing was written",
            file=source.path,
            found=result.summary(),
            next_step="report this with the checkpoint's name: the mapping or the graph is wrong",
        )
    return result


class _Hashes:
    """SHA-256 of files, computed beside the main work: hashing releases the interpreter lock.

    With `complete`, the files are still being written until that is set.
    """

    def __init__(self, files: Sequence[Path], complete: threading.Event | None = None) -> None:
        self._files = files
        self._complete = complete
        self._made: list[FileRecord] | Exception = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            hashes = [sha256_file(path, self._complete) for path in self._files]
            self._made = [
                FileRecord(path, path.stat().st_size, sha256)
                for path, sha256 in zip(self._files, hashes, strict=True)
            ]
        except OSError as error:
            self._made = error

    def records(self) -> tuple[FileRecord, ...]:
        """The finished records. UsageError where a file vanished meanwhile."""
        self._thread.join()
        if isinstance(self._made, Exception):
            raise UsageError("a file vanished while it was read", found=self._made)
        return tuple(self._made)
