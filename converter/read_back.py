"""Read a written file back, map it back to the source's layout, and compare it bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from converter.batches import batches
from converter.catalog import Catalog, TensorRef
from converter.digest import Digest, tensor_sha256
from converter.dtypes import Array, DType, as_bits
from converter.execute import source_values, target_tensors
from converter.plan import Edge, Fill, Plan
from facenet_common.errors import FacenetError, RoundTripError
from facenet_common.progress import Progress

_WORKERS = 2  # threads; each holds three copies of the largest tensor of a batch


def read_back(
    open_output: Callable[[], Catalog],
    source: Catalog,
    plan: Plan,
    *,
    dtype: DType | None,
    progress: Progress,
) -> str:
    """Compare an output with its source.

    Args:
        open_output: Open the file that was written.
        source: The source.
        plan: The mapping that was carried out.
        dtype: The type that floating-point tensors were cast to; None: each kept its own.
        progress: Called as tensors are compared.

    Returns:
        The tensor digest of the output (see `converter.digest`).

    Raises:
        RoundTripError: The output differs from the source, or can't be read.
    """
    try:
        return _compare(open_output(), source, plan, dtype, progress)
    except RoundTripError:
        raise
    except FacenetError as error:
        raise RoundTripError(
            "the output can't be read back: the disk or memory may be faulty",
            found=str(error),
            next_step="run it again; if the error persists, write to another disk",
        ) from error


def _compare(
    output: Catalog, source: Catalog, plan: Plan, dtype: DType | None, progress: Progress
) -> str:
    expected = target_tensors(plan, dtype=dtype, allow_nonfinite=True)
    _check_equal(sorted(ref.name for ref in expected), sorted(output), "names")
    progress.stage("checking", output.nbytes)

    steps = {step.target: step for step in plan.steps}

    def check(batch: list[TensorRef]) -> list[tuple[TensorRef, str]]:
        checked = [(ref, _check_tensor(steps[ref.name], ref, output[ref.name])) for ref in batch]
        size = sum(ref.nbytes for ref in batch)
        source.release(size)
        output.release(size)
        return checked

    digest = Digest()
    # Hashing, checksums and copies release the interpreter lock.
    with ThreadPoolExecutor(_WORKERS) as pool:
        # The largest tensor, the classifier, is the last: it goes first, so that both threads work.
        for batch in pool.map(check, reversed(list(batches(expected)))):
            for ref, sha256 in batch:
                digest.add(ref, sha256)
                progress.advance(ref.nbytes)
    return digest.hexdigest()


def _check_tensor(step: Edge | Fill, expected: TensorRef, found: TensorRef) -> str:
    """Compare a tensor of the output with its source; return the SHA-256 of its bytes."""
    name = expected.name
    types = (expected.dtype, expected.shape), (found.dtype, found.shape)
    _check_equal(*types, "type and shape", name)
    array = found.load()
    if isinstance(step, Edge):
        values = source_values(step, expected.dtype, allow_nonfinite=True)
        _check_equal(True, _bits_equal(step.layout.invert(array), values), "bits", name)
    else:
        _check_equal(True, _bits_equal(array, expected.load()), "bits", name)
    return tensor_sha256(array)


def _bits_equal(one: Array, other: Array) -> bool:
    """Return whether two arrays have equal shapes and bits: NaN equals itself, -0 is not 0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return np.array_equal(as_bits(one), as_bits(other))


def _check_equal(expected: object, found: object, what: str, tensor: str | None = None) -> None:
    if expected != found:
        raise RoundTripError(
            f"the output differs from the source in its {what}",
            tensor=tensor,
            expected=expected,
            found=found,
            next_step="run it again; if the error persists, report it: it is a bug",
        )
