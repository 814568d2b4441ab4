"""Convert weights: resolve, open, plan, write, read back, run the networks (--verify), rename."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from converter.catalog import Catalog, TensorRef
from converter.dtypes import FLOAT32, DType
from converter.execute import settle, target_tensors
from converter.plan import PartChoice, Plan, make_plan
from converter.published import remark
from converter.read_back import read_back
from converter.receipt import FileRecord, Receipt
from converter.resolve import Source, resolve
from converter.sources import FORMATS, archive
from converter.writers import Writer, bundle, writer_for
from facenet_common.atomic import atomic_file, atomic_folder, check_target, output_error
from facenet_common.errors import ParityFailedError, UsageError, ValueCheckError
from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress


class ParityResult(Protocol):
    """The result of a parity hook."""

    @property
    def passed(self) -> bool: ...

    def to_json(self) -> dict[str, object]: ...

    def summary(self) -> str: ...


class ParityHook(Protocol):
    """Runs a TensorFlow source and the PyTorch weights made of it, and compares their outputs.

    `checkpoint` and `step` name the source as the request does. `weights` is the file as written,
    under a temporary name; `output` is its final name.
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
    """The arguments of a conversion.

    Args:
        checkpoint: The source: a folder, a prefix, a file or a bare name (see `converter.resolve`).
        out: The output: NAME.pt, NAME.safetensors, or FOLDER/ for a TensorFlow checkpoint.
        part: The tensors to convert: all, the network without its classifier, or the classifier.
        dtype: The type to cast floating-point tensors to; None keeps each tensor's own.
        strict: Refuse tensors that no rule explains; False drops them, and lists them as unproven.
        overwrite: Replace an existing output.
        allow_nonfinite: Accept NaN and infinity.
        step: The training step, for a folder with checkpoints of several steps.
        parity: Runs both networks and compares them, for ``--verify``.
        hash_source: Add the SHA-256 of the source's files to the receipt.
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


@dataclass(frozen=True)
class _Job:
    """A request with all that it resolves to."""

    request: Request
    out: Path
    writer: Writer
    source: Source
    catalog: Catalog
    plan: Plan
    progress: Progress

    @property
    def writes_folder(self) -> bool:
        return not self.writer.SUFFIXES


def convert(request: Request, progress: Progress | None = None) -> Receipt:
    """Convert a source to the file or folder `request.out`, and prove the result.

    The output is written under a temporary name, read back, mapped back to the source's layout and
    compared with the source bit for bit. With `request.parity`, both networks are run as well. Only
    then is it renamed.

    Args:
        request: The source, the output and the options.
        progress: Called as tensors are written and compared.

    Returns:
        A record of the conversion, with hashes.

    Raises:
        UsageError: The source was not found, the output can't be created, or options conflict.
        FormatError: The source is damaged, or its format is unknown.
        MappingError: The source's tensors don't fit the architecture.
        ValueCheckError: A tensor holds NaN or infinity, or overflows `request.dtype`.
        OutputError: The output can't be written.
        RoundTripError: The output differs from the source.
        ParityFailedError: The networks' outputs differ.

    On an error, nothing is written, and an existing output stays as it was.

    Examples:
        >>> from tempfile import mkdtemp
        >>> from converter.demo import write_demo
        >>> folder = Path(mkdtemp())
        >>> write_demo(folder / "faces", embedding=4, classes=0)
        >>> receipt = convert(Request(str(folder / "faces"), str(folder / "faces.pt")))
        >>> len(receipt.plan.edges), receipt.output.name
        (490, 'faces.pt')
    """
    job = _prepare(request, progress or Progress())
    source_hashes = _Hashes(job.catalog.files if request.hash_source else ())
    create = atomic_folder if job.writes_folder else atomic_file
    with _file_in_errors(job.source.path), create(job.out) as partial:
        output_hashes = _write(job, partial)
        digest = read_back(
            lambda: _open_output(job.writer, partial),
            job.catalog,
            job.plan,
            dtype=request.dtype,
            progress=job.progress,
        )
        parity = _run_parity(job, request.parity, partial) if request.parity else None
        source_files = source_hashes.records()
        return Receipt(
            plan=_with_remark(job, source_files),
            source=job.source.path,
            source_format=job.catalog.format,
            source_files=source_files,
            output=job.out,
            output_format=job.writer.FORMAT,
            output_files=tuple(
                replace(record, path=job.out / record.path.name if job.writes_folder else job.out)
                for record in output_hashes.records()
            ),
            digest=digest,
            part=request.part,
            dtype=request.dtype,
            parity=parity.to_json() if parity else None,
            parity_summary=parity.summary() if parity else None,
        )


def _prepare(request: Request, progress: Progress) -> _Job:
    """Check everything that can be checked before tensors are read."""
    _check_options(request)
    writer = writer_for(request.out)
    out = Path(request.out)
    check_target(out, overwrite=request.overwrite, folder=not writer.SUFFIXES)
    source = resolve(request.checkpoint, request.step)
    catalog = source.open()
    _check_direction(request, catalog, writer)
    plan = make_plan(catalog, to=writer.NAMING, part=request.part, strict=request.strict)
    plan = settle(plan)
    return _Job(request, out, writer, source, catalog, plan, progress)


def _with_remark(job: _Job, source_files: Sequence[FileRecord]) -> Plan:
    """Return the plan with a note on a source that is published, or named so."""
    hashes = {record.path: record.sha256 for record in source_files}
    published = remark(job.catalog.files, hashes or None)
    return replace(job.plan, notes=(*job.plan.notes, published)) if published else job.plan


@contextmanager
def _file_in_errors(path: Path) -> Iterator[None]:
    """Add the source's path to errors about values."""
    try:
        yield
    except ValueCheckError as error:
        error.file = error.file or str(path)
        raise


def _write(job: _Job, partial: Path) -> _Hashes:
    """Write the output to `partial`. A single file is hashed while it is written."""
    complete = threading.Event()
    hashes = None if job.writes_folder else _Hashes([partial], complete)
    try:
        _write_tensors(job, partial)
    finally:
        complete.set()
    return hashes or _Hashes(sorted(partial.iterdir()))


def _write_tensors(job: _Job, partial: Path) -> None:
    request, catalog, progress = job.request, job.catalog, job.progress
    refs = target_tensors(job.plan, dtype=request.dtype, allow_nonfinite=request.allow_nonfinite)

    def on_written(ref: TensorRef) -> None:
        catalog.release(ref.nbytes)
        progress.advance(ref.nbytes)

    progress.stage("converting", sum(ref.nbytes for ref in refs))
    for dropped in job.plan.dropped:
        dropped.source.verify()
        catalog.release(dropped.source.nbytes)
    try:
        job.writer.write(partial, refs, on_written)
    except OSError as error:
        raise output_error(job.out, error) from error


def _open_output(writer: Writer, partial: Path) -> Catalog:
    (module,) = (module for module in FORMATS if module.FORMAT == writer.FORMAT)
    return module.open(partial if writer.SUFFIXES else partial / bundle.PREFIX)


def _check_options(request: Request) -> None:
    if request.parity is None:
        return
    if request.dtype is not None and request.dtype is not FLOAT32:
        raise UsageError(
            "--verify can't distinguish a wrong weight from a rounded one",
            found=f"--dtype {request.dtype}",
            next_step="verify a conversion without --dtype first, then convert again with it",
        )
    if request.part == "logits":
        raise UsageError("--verify needs the whole network, and --part logits leaves it out")


def _check_direction(request: Request, catalog: Catalog, writer: Writer) -> None:
    if request.parity is None or (catalog.naming, writer.NAMING) == ("tensorflow", "torch"):
        return
    raise UsageError(
        "--verify compares a TensorFlow source with PyTorch weights",
        found=f"a conversion from {catalog.format} to {writer.FORMAT}",
        next_step="leave out --verify: the output is compared with the source bit for bit anyway",
    )


def _run_parity(job: _Job, hook: ParityHook, partial: Path) -> ParityResult:
    result = hook(
        job.request.checkpoint,
        partial,
        step=job.request.step,
        output=job.out,
        progress=job.progress,
    )
    if not result.passed:
        raise ParityFailedError(
            "the converted model fails the comparison with the TensorFlow graph; "
            "nothing was written",
            file=job.source.path,
            found=result.summary(),
            next_step="report this with the checkpoint's name, if no tensor of it is at fault: "
            "the mapping or the graph is wrong",
        )
    return result


class _Hashes:
    """The SHA-256 of files, computed in a thread: hashing releases the interpreter lock.

    Until the event `complete` is set, the files are still being written.
    """

    def __init__(self, files: Sequence[Path], complete: threading.Event | None = None) -> None:
        self._files = files
        self._complete = complete
        self._result: list[FileRecord] | OSError = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            hashes = [self._sha256(path) for path in self._files]
            self._result = [
                FileRecord(path, archive.size(path), sha256)
                for path, sha256 in zip(self._files, hashes, strict=True)
            ]
        except OSError as error:
            self._result = error

    def _sha256(self, path: Path) -> str:
        return sha256_file(path, self._complete) if self._complete else archive.sha256(path)

    def records(self) -> tuple[FileRecord, ...]:
        """Wait for the hashes and return them. Raises UsageError if a file was removed."""
        self._thread.join()
        if isinstance(self._result, OSError):
            raise UsageError("a file was removed while it was read", found=self._result)
        return tuple(self._result)
