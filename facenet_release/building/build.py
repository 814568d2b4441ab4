"""``facenet release build``: build a whole release from a recipe, or nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from facenet_common.atomic import output_error
from facenet_common.errors import UsageError
from facenet_release.building.assemble import assemble
from facenet_release.building.inputs import ModelInput, find_inputs
from facenet_release.building.job import Job
from facenet_release.building.staging import Staging, staging
from facenet_release.building.workers import FinishedJob, OnProgress, run_jobs
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.manifest import MANIFEST, RECIPE
from facenet_release.documents.recipe import Recipe


@dataclass(frozen=True)
class Built:
    """A release. `jobs` is None if the release existed before."""

    folder: Path
    manifest_sha256: str
    jobs: tuple[FinishedJob, ...] | None


@dataclass(frozen=True)
class PlannedModel:
    """A model that a build would make. `finished` maps its files to whether they exist already."""

    input: ModelInput
    finished: Mapping[str, bool]


def build(
    recipe: Recipe,
    out: Path,
    processes: int | None = None,
    on_progress: OnProgress = lambda _model, _task, _minor: None,
) -> Built:
    """Build a release.

    If `out` is the release of this recipe already, it is checked and returned. An interrupted
    build continues.

    Args:
        recipe: The recipe.
        out: The folder to make. It must not exist, or be empty.
        processes: The number of models to build in parallel; by default the number of cores.
        on_progress: Called with the model's name, its task, and whether the task is a part of the
            one before; without a model's name for the whole release.

    Raises:
        RecipeError: The recipe's files are missing or differ from it.
        UsageError: `out` can't become a release.
        ReleaseError: Another build is running, or a source changed during this one.
        ParityFailedError: A model failed a gate.
        FacenetError: Any other error of the conversion, the gates or the check. After each error,
            `out` is as it was.

    Examples:
        >>> build(read(Path("release.toml")), Path("dist")).folder  # doctest: +SKIP
        PosixPath('dist')
    """
    target = _resolve_target(out)
    if _is_release_of(recipe, target):
        return _check_existing(target, out)
    inputs = find_inputs(recipe)
    started = datetime.now(timezone.utc)
    with staging(target) as work:
        if _is_release_of(recipe, target):  # another build has just finished
            work.remove()
            return _check_existing(target, out)
        jobs = [Job(model_input, work) for model_input in inputs]
        processes = min(processes or os.cpu_count() or 1, len(jobs))
        finished = run_jobs(jobs, processes, work.logs, on_progress)
        on_progress("", "checking", False)
        assemble(work.release, recipe, [job.result for job in finished], started)
        digest = check(work.release, CheckOptions()).manifest_sha256
        work.finish()
    return Built(out, digest, tuple(finished))


def plan(recipe: Recipe, out: Path) -> list[PlannedModel]:
    """Return what `build` would make, without making anything.

    Raises:
        RecipeError, UsageError: As `build`.

    Examples:
        >>> plan(read(Path("release.toml")), Path("dist"))[0].finished  # doctest: +SKIP
        {'pnet.pt': False, 'pnet.safetensors': False}
    """
    target = _resolve_target(out)
    exists = _is_release_of(recipe, target)
    planned = []
    for model_input in find_inputs(recipe):
        steps = Job(model_input, Staging(target)).conversions()
        finished = {s.outputs[0]: exists or s.finished_result() is not None for s in steps}
        planned.append(PlannedModel(model_input, finished))
    return planned


def _resolve_target(out: Path) -> Path:
    """Return the absolute path of the release, links resolved. Raises UsageError."""
    try:
        target = out.resolve()
    except (OSError, RuntimeError):  # a circle of links
        target = out.absolute()
    if not target.parent.is_dir():
        raise UsageError("the output's folder does not exist", file=target.parent)
    if os.path.lexists(target) and not target.is_dir():
        raise UsageError("the output is a file, not a folder", file=out)
    return target


def _is_release_of(recipe: Recipe, target: Path) -> bool:
    """Return whether `target` is a release of the recipe. Raises UsageError if it can't be."""
    try:
        empty = not target.is_dir() or not any(target.iterdir())
    except OSError as error:
        raise output_error(target, error) from error
    if empty and target.is_mount():
        raise UsageError(
            "the output is a mount point, which can't be renamed",
            file=target,
            next_step=f"name a folder in it: --out {shlex.quote(str(target / 'release'))}",
        )
    if empty:
        return False
    try:
        # A folder with a recipe beside its checkpoints has no manifest.
        same = (target / MANIFEST).is_file() and (target / RECIPE).read_bytes() == recipe.data
    except OSError:
        same = False
    if not same:
        raise UsageError(
            "the output folder holds other files; a release is never overwritten",
            file=target,
            next_step="give --out another folder, or delete this one",
        )
    return True


def _check_existing(target: Path, out: Path) -> Built:
    """Check the release that exists, and remove what a killed build left beside it."""
    digest = check(target, CheckOptions()).manifest_sha256
    if Staging(target).root.exists():
        with staging(target) as work:
            work.remove()
    return Built(out, digest, None)
