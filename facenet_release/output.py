"""The output of ``facenet release``: results on standard output, progress on standard error."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facenet_common.commands import print_json
from facenet_common.text import count

if TYPE_CHECKING:
    from facenet_release.building.build import Built, PlannedModel
    from facenet_release.building.rebuild import Rebuilt
    from facenet_release.checking.check import Checked, CheckOptions


class BuildProgress:
    """Show the progress of a build: a live line for each model on a terminal, else log lines.

    Args:
        names: The models' names.

    Examples:
        >>> with BuildProgress(["pnet"]) as progress:  # doctest: +SKIP
        ...     build(recipe, out, on_progress=progress.update)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._live: Any = None
        self._rows: dict[str, Any] = {}
        self._started = time.monotonic()

    def __enter__(self) -> BuildProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._live = Progress(
                SpinnerColumn(finished_text=" "),
                TextColumn("{task.description}", markup=False),
                TextColumn("{task.fields[what]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._live.start()
            for name in self._names:
                self._row(name)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, name: str, task: str, minor: bool) -> None:
        """Show the present task of a model, or of the whole release if it has no name.

        Log lines leave out minor tasks.
        """
        name = name or "release"
        if self._live is None:
            if not minor:
                seconds = time.monotonic() - self._started
                click.echo(f"[{seconds:6.1f} s] {name}: {task}", err=True)
            return
        row = self._row(name)
        self._live.start_task(row)
        self._live.update(row, what=task)
        if task == "done":
            self._live.stop_task(row)

    def _row(self, name: str) -> Any:
        if name not in self._rows:
            self._rows[name] = self._live.add_task(name, total=None, start=False, what="waiting")
        return self._rows[name]


def show_plan(planned: Sequence[PlannedModel], out: Path, as_json: bool) -> None:
    """Print what a build would make."""
    if as_json:
        print_json({"out": str(out), "models": [_plan_json(model) for model in planned]})
        return
    click.echo(f"Would build {out}; all inputs exist and have the recipe's hashes")
    for model in planned:
        given = model.input
        sizes = "".join(f", {name} {size}" for name, size in given.dims.items())
        click.echo(f"{given.model.name}  ({given.architecture}{sizes})")
        click.echo(f"  source   {given.source}")
        for output in given.outputs:
            state = "  finished" if model.finished.get(output.file) else ""
            click.echo(f"  file     {output.file}{state}")
        compared = f"; compared with {given.published.name}" if given.published else ""
        click.echo(f"  then     every gate of facenet verify{compared}")


def _plan_json(model: PlannedModel) -> dict[str, object]:
    given = model.input
    files = [{"name": o.file, "made": model.finished.get(o.file, False)} for o in given.outputs]
    return {
        "name": given.model.name,
        "source": str(given.source),
        "architecture": given.architecture,
        "dimensions": dict(given.dims),
        "files": files,
    }


def show_built(built: Built, as_json: bool = False) -> None:
    """Print the result of a build."""
    if as_json:
        print_json(_built_json(built))
        return
    if built.jobs is None:
        click.echo(f"{built.folder} is this release already; its check passed")
    else:
        files = sum(len(job.result.files) for job in built.jobs)
        click.echo(
            f"{built.folder}: {count(len(built.jobs), 'model')} in {files} files, all gates passed"
        )
        for job in built.jobs:
            if job.result.comparison:
                name = job.result.input.model.name
                click.echo(f"  published  {name}: {job.result.comparison}")
    click.echo(f"  manifest   {built.manifest_sha256} (SHA-256)")
    folder = shlex.quote(str(built.folder))
    click.echo(f"  next       facenet release sign {folder} --private-key key.pem")


def _built_json(built: Built) -> dict[str, object]:
    return {
        "folder": str(built.folder),
        "manifest_sha256": built.manifest_sha256,
        "built": built.jobs is not None,
        "models": [
            {
                "name": job.result.input.model.name,
                "seconds": round(job.seconds, 3),
                "published": job.result.comparison,
                "files": {made.output.file: made.sha256 for made in job.result.files},
            }
            for job in built.jobs or ()
        ],
    }


def show_checked(checked: Checked, options: CheckOptions, place: str, as_json: bool) -> None:
    """Print the result of a check, at a folder or an address."""
    manifest = checked.manifest
    if as_json:
        print_json(
            {
                "place": place,
                "name": manifest.name,
                "version": manifest.version,
                "manifest_sha256": checked.manifest_sha256,
                "bytes": checked.size,
                "signature": checked.signature,
                "files": {file.name: file.sha256 for file in manifest.files},
            }
        )
        return
    click.echo(f"{place}: {manifest.name} {manifest.version} passed all checks")
    click.echo(f"  models     {', '.join(model.name for model in manifest.models)}")
    click.echo(f"  files      {len(manifest.files)}, {checked.size / 1e6:,.1f} MB: hashes, tensors")
    click.echo("  evidence   these files passed every gate")
    click.echo(f"  manifest   {checked.manifest_sha256} (SHA-256)")
    click.echo(f"  signature  {_signature(checked, options)}")


def _signature(checked: Checked, options: CheckOptions) -> str:
    if checked.signature == "good":
        return f"good, by {options.public_key}"
    if checked.signature == "not checked":
        return "not checked; give --public-key to check it"
    if options.manifest_sha256:
        return "none; the manifest has the requested hash"
    return "none; nothing shows who made this release"


def show_rebuilt(rebuilt: Rebuilt, folder: Path, as_json: bool) -> None:
    """Print the result of a rebuild."""
    if as_json:
        lists = {key: list(getattr(rebuilt, key)) for key in ("same", "different", "gone", "new")}
        print_json({"reproduced": rebuilt.reproduced, **lists})
        return
    verdict = "are the same" if rebuilt.reproduced else "are NOT the same"
    click.echo(f"{folder}: the rebuilt weights {verdict}")
    click.echo(f"  same       {len(rebuilt.same)} files, byte for byte")
    rows = (("DIFFERENT", rebuilt.wrong), ("GONE", rebuilt.gone), ("NEW", rebuilt.new))
    for label, names in rows:
        for name in names:
            click.echo(f"  {label:<9}  {name}")
    measured = [name for name in rebuilt.different if name not in rebuilt.wrong]
    if measured:
        click.echo(f"  differing  {', '.join(measured)}")
        click.echo("             (they have figures and versions of libraries; all gates passed)")
