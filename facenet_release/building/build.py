"""``facenet release build``: from a recipe to a release, all or nothing."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from facenet_common.atomic import output_error
from facenet_common.errors import UsageError
from facenet_release.building.assemble import assemble
from facenet_release.building.inputs import Input, find_inputs
from facenet_release.building.job import Job
from facenet_release.building.staging import Staging, staging
from facenet_release.building.workers import Done, Told, run
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.manifest import MANIFEST
from facenet_release.documents.recipe import RECIPE, Recipe


@dataclass(frozen=True)
class Built:
    """A release that is there. `jobs` is None if it was there before."""

    folder: Path
    manifest_sha256: str
    jobs: tuple[Done, ...] | None


def build(
    recipe: Recipe,
    out: Path,
    processes: int | None = None,
    told: Told = lambda _model, _what, _minor: None,
) -> Built:
    """Make the release in the folder `out`, which must not exist, or be empty.

    `processes` is how many models are worked on at a time, by default as many as there are cores.
    If `out` holds the release of this recipe already, it is checked and left alone. A build that
    was broken off goes on.

    Raises RecipeError, UsageError, and what converting, judging and checking raise; then `out` is
    as it was.
    """
    target = _target(out)
    if _holds(target, recipe):
        return _existing(target, out)
    inputs = find_inputs(recipe)
    started = datetime.now(timezone.utc)
    with staging(target) as place:
        if _holds(target, recipe):  # another build has just finished
            place.remove()
            return _existing(target, out)
        jobs = [_job(one, place) for one in inputs]
        done = run(jobs, _processes(processes, len(jobs)), place.logs, told)
        told("", "checking", False)
        assemble(place.release, recipe, [one.result for one in done], started)
        digest = check(place.release, CheckOptions()).manifest_sha256
        place.become()
        place.remove()
    return Built(out, digest, tuple(done))


def plan(recipe: Recipe, out: Path) -> list[tuple[Input, dict[str, bool]]]:
    """What a build would do: each input with its files, and whether each is made already."""
    target = _target(out)
    whole = _holds(target, recipe)
    rows = []
    for one in find_inputs(recipe):
        steps = _job(one, Staging(target)).conversions()
        made = {step.outputs[0]: whole or step.record() is not None for step in steps}
        rows.append((one, made))
    return rows


def _job(one: Input, place: Staging) -> Job:
    return Job(one, place.release, place.steps, place.failed)


def _processes(asked: int | None, jobs: int) -> int:
    return min(asked or os.cpu_count() or 1, jobs)


def _target(out: Path) -> Path:
    """The folder that is meant by `out`, which may be a link to it. UsageError if it can't be."""
    try:
        target = out.resolve()
    except (OSError, RuntimeError):  # links in a circle
        target = out.absolute()
    if not target.parent.is_dir():
        raise UsageError("the folder to build in does not exist", file=target.parent)
    if os.path.lexists(target) and not target.is_dir():
        raise UsageError("the release would be a folder, and a file has its name", file=out)
    return target


def _holds(target: Path, recipe: Recipe) -> bool:
    """Whether `target` has a release of the recipe; UsageError if nothing could be built there."""
    try:
        empty = not target.is_dir() or not any(target.iterdir())
    except OSError as error:
        raise output_error(target, error) from error
    if empty and target.is_mount():
        raise UsageError(
            "the folder is where a disk is mounted, so nothing can be renamed to it",
            file=target,
            next_step=f"name a folder in it: --out {shlex.quote(str(target / 'release'))}",
        )
    if empty:
        return False
    try:
        # A folder in which the recipe lies beside its checkpoints has no manifest.
        same = (target / MANIFEST).is_file() and (target / RECIPE).read_bytes() == recipe.data
    except OSError:
        same = False
    if not same:
        raise UsageError(
            "there is something else already; a release is never overwritten",
            file=target,
            next_step="give --out another folder, or delete this one",
        )
    return True


def _existing(target: Path, out: Path) -> Built:
    """The release that is there, checked; of the build that made it nothing is left."""
    digest = check(target, CheckOptions()).manifest_sha256
    if Staging(target).root.exists():  # it was killed after it had finished
        with staging(target) as place:
            place.remove()
    return Built(out, digest, None)
