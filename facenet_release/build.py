"""``facenet release build``: from a recipe to a release, all or nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from converter.errors import UsageError
from converter.sources.mapped import sha256_file
from facenet_release.assemble import assemble
from facenet_release.check import CheckOptions, check
from facenet_release.inputs import Input, find_inputs
from facenet_release.job import Job
from facenet_release.manifest import MANIFEST
from facenet_release.recipe import RECIPE, Recipe
from facenet_release.staging import Staging, staging
from facenet_release.workers import Done, Told, run


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
    _check_target(out)
    inputs = find_inputs(recipe)
    before = _existing(out, recipe)
    if before is not None:
        return before
    started = datetime.now(timezone.utc)
    with staging(out) as place:
        before = _existing(out, recipe)  # another build may just have finished
        if before is None:
            jobs = [_job(one, place) for one in inputs]
            done = run(jobs, _processes(processes, len(jobs)), place.logs, told)
            told("", "checking", False)
            assemble(place.release, recipe, [one.result for one in done], started)
            check(place.release, CheckOptions())
            place.become()
            before = Built(out, sha256_file(out / MANIFEST), tuple(done))
        place.remove()
    return before


def plan(recipe: Recipe, out: Path) -> list[tuple[Input, dict[str, bool]]]:
    """What a build would do: each input with its files, and whether each is made already."""
    _check_target(out)
    place = Staging(out.absolute())
    rows = []
    for one in find_inputs(recipe):
        steps = _job(one, place).conversions()
        rows.append((one, {step.outputs[0]: step.record() is not None for step in steps}))
    return rows


def _job(one: Input, place: Staging) -> Job:
    return Job(one, place.release, place.steps, place.failed)


def _processes(asked: int | None, jobs: int) -> int:
    return min(asked or os.cpu_count() or 1, jobs)


def _check_target(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise UsageError("the folder to build in does not exist", file=out.absolute().parent)
    if os.path.lexists(out) and not out.is_dir():
        raise UsageError("the release would be a folder, and a file has its name", file=out)


def _existing(out: Path, recipe: Recipe) -> Built | None:
    """What is in `out` if it is the recipe's release; None if there is nothing."""
    if not out.is_dir() or not any(out.iterdir()):
        return None
    try:
        same = (out / RECIPE).read_bytes() == recipe.data
    except OSError:
        same = False
    if not same:
        raise UsageError(
            "there is something else already; a release is never overwritten",
            file=out,
            next_step="give --out another folder, or delete this one",
        )
    check(out, CheckOptions())
    return Built(out, sha256_file(out / MANIFEST), None)
