"""What ``facenet release`` prints, for people and as JSON."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facenet_common.commands import print_json
from facenet_common.text import count

if TYPE_CHECKING:
    from facenet_release.building.build import Built
    from facenet_release.building.inputs import Input
    from facenet_release.building.rebuild import Rebuilt
    from facenet_release.checking.check import Checked, CheckOptions


def planned(one: Input, made: dict[str, bool]) -> dict[str, object]:
    return {
        "name": one.model.name,
        "source": str(one.source),
        "architecture": one.architecture,
        "dimensions": dict(one.dims),
        "files": [
            {"name": output.file, "made": made.get(output.file, False)} for output in one.outputs
        ],
    }


def show_plan(rows: list[tuple[Input, dict[str, bool]]], out: Path) -> None:
    click.echo(f"Would make {out}; all inputs are there, with the right hashes")
    for one, made in rows:
        sizes = "".join(f", {name} {size}" for name, size in one.dims.items())
        click.echo(f"{one.model.name}  ({one.architecture}{sizes})")
        click.echo(f"  source   {one.source}")
        for output in one.outputs:
            state = "  made already" if made.get(output.file) else ""
            click.echo(f"  file     {output.file}{state}")
        click.echo("  then     every gate of facenet verify" + _comparing(one))


def _comparing(one: Input) -> str:
    return f"; compared with {one.published.name}" if one.published else ""


def built_json(built: Built) -> dict[str, object]:
    return {
        "folder": str(built.folder),
        "manifest_sha256": built.manifest_sha256,
        "built": built.jobs is not None,
        "models": [
            {
                "name": job.result.input.model.name,
                "seconds": round(job.seconds, 3),
                "published": job.result.comparison,
                "files": {made.output.file: made.sha256 for made in job.result.made},
            }
            for job in built.jobs or ()
        ],
    }


def show_built(built: Built) -> None:
    if built.jobs is None:
        click.echo(f"{built.folder} holds this release already; it was checked")
    else:
        files = sum(len(job.result.made) for job in built.jobs)
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


def show_checked(checked: Checked, options: CheckOptions, place: str, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "place": place,
                "name": checked.manifest.name,
                "version": checked.manifest.version,
                "manifest_sha256": checked.manifest_sha256,
                "bytes": checked.size,
                "signature": checked.signature,
                "files": {file.name: file.sha256 for file in checked.manifest.files},
            }
        )
        return
    manifest = checked.manifest
    click.echo(f"{place}: {manifest.name} {manifest.version} is what it says it is")
    click.echo(f"  models     {', '.join(model.name for model in manifest.models)}")
    click.echo(f"  files      {len(manifest.files)}, {checked.size / 1e6:,.1f} MB: hashes, tensors")
    click.echo("  evidence   every gate was passed, by these very files")
    click.echo(f"  manifest   {checked.manifest_sha256} (SHA-256)")
    click.echo(f"  signature  {_signature(checked, options)}")


def _signature(checked: Checked, options: CheckOptions) -> str:
    if checked.signature == "good":
        return f"good, by {options.public_key}"
    if checked.signature == "not checked":
        return "there is one; give --public-key to check it"
    if options.manifest_sha256:
        return "none; the manifest is the one that was asked for"
    return "none; who made this release can't be told"


def rebuilt_json(rebuilt: Rebuilt) -> dict[str, object]:
    return {
        "reproduced": rebuilt.reproduced,
        "same": list(rebuilt.same),
        "different": list(rebuilt.different),
        "gone": list(rebuilt.gone),
        "new": list(rebuilt.new),
    }


def show_rebuilt(rebuilt: Rebuilt, folder: Path) -> None:
    verdict = "came out the same" if rebuilt.reproduced else "DID NOT come out the same"
    click.echo(f"{folder}: the weights {verdict}")
    click.echo(f"  same       {len(rebuilt.same)} files, byte for byte")
    rows = (("DIFFERENT", rebuilt.wrong), ("GONE", rebuilt.gone), ("NEW", rebuilt.new))
    for label, names in rows:
        for name in names:
            click.echo(f"  {label:<9}  {name}")
    measured = [name for name in rebuilt.different if name not in rebuilt.wrong]
    if measured:
        click.echo(f"  otherwise  {', '.join(measured)}")
        click.echo("             (evidence names versions and figures; the new one passed too)")
