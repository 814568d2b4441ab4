"""``facenet release``: build, check, sign, publish, rebuild."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from facenet_common.commands import INTERRUPTED, json_option, print_json, reports_errors
from facenet_common.progress import TerminalProgress
from facenet_release.errors import ReleaseError
from facenet_release.output import (
    built_json,
    planned,
    rebuilt_json,
    show_built,
    show_checked,
    show_plan,
    show_rebuilt,
)

PATH = click.Path(path_type=Path)
# Of the extra `release`, what every command imports; the rest is asked for where it is needed.
_PACKAGES = ("cyclonedx", "filelock", "jinja2", "jsonschema", "requests", "rfc8785")
_SETTINGS = {"help_option_names": ["-h", "--help"]}
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Models worked on at a time; each takes up to 3 GB. Default: one for each core.",
)
_KNOWN = (
    click.option(
        "--public-key",
        type=PATH,
        help="The signer's key (PEM). With it a release must be signed, and by that key.",
    ),
    click.option(
        "--manifest-sha256",
        metavar="HEX",
        help="Which release it must be: manifest.json's SHA-256.",
    ),
)


def known_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is known of the release from elsewhere."""
    for option in reversed(_KNOWN):
        command = option(command)
    return command


def spares_iris(command: Callable[..., Any]) -> Callable[..., Any]:
    """Save a second of a short command's time.

    Where rfc3987_syntax is installed, jsonschema has it build a grammar of IRIs while it is
    imported. No schema that is checked here asks for IRIs.
    """
    grammar = "rfc3987_syntax"

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        known: dict[str, Any] = sys.modules  # None stands for a module that isn't there
        absent = known.setdefault(grammar, None) is None
        try:
            return command(*args, **kwargs)
        finally:
            if absent:
                del known[grammar]

    return run


def needs_extra(command: Callable[..., Any]) -> Callable[..., Any]:
    """Say, before anything is done, which packages of the extra `release` are missing."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        missing = [name for name in _PACKAGES if find_spec(name) is None]
        if missing:
            raise ReleaseError(
                "releases need packages that are not installed",
                found=f"no {', no '.join(missing)}",
                next_step='pip install "facenet-parity[release]"',
            )
        return command(*args, **kwargs)

    return run


@click.group(
    "release",
    short_help="Build, check, sign and publish releases of weights.",
    context_settings=_SETTINGS,
)
def release() -> None:
    """Regenerate weights from a recipe, with the evidence; sign, publish and check them.

    \b
    Examples:
      facenet release build release.toml --out dist/
      facenet release sign dist/ --private-key key.pem
      facenet release check dist/ --public-key key.pub
      facenet release publish dist/ --to github:owner/repo@v1.0
      facenet release check github:owner/repo@v1.0
      facenet release rebuild dist/
    """


@release.command("build", context_settings=_SETTINGS, no_args_is_help=True)
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, required=True, help="The folder to make; must not exist.")
@click.option("--dry-run", is_flag=True, help="Show what would be made, and make nothing.")
@jobs_option
@json_option
@reports_errors
@needs_extra
def build_command(recipe: Path, out: Path, dry_run: bool, jobs: int | None, as_json: bool) -> None:
    """Make the release that RECIPE describes: convert, judge, compare, write down, check.

    Each model is converted, judged through every gate of `facenet verify`, and compared with
    published weights where the recipe names them. Nothing gets its name before everything passed.
    Broken off at any moment, the same command goes on where it was.

    \b
    Examples:
      facenet release build release.toml --out dist/
      facenet release build release.toml --out dist/ --dry-run
      facenet release build release.toml --out dist/ --jobs 1

    Exit codes: 0 built, or built before; 1 something failed; 2 wrong usage or a wrong recipe;
    130 interrupted.
    """
    from facenet_release.building.build import build, plan
    from facenet_release.building.progress import BuildProgress
    from facenet_release.documents.recipe import read

    said = read(recipe)
    if dry_run:
        rows = plan(said, out)
        if as_json:
            print_json({"out": str(out), "models": [planned(*row) for row in rows]})
        else:
            show_plan(rows, out)
        return
    try:
        with BuildProgress([model.name for model in said.models]) as progress:
            built = build(said, out, jobs, progress.told)
    except KeyboardInterrupt:
        click.echo("\nInterrupted; the same command goes on where this one was", err=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        print_json(built_json(built))
    else:
        show_built(built)


@release.command("check", context_settings=_SETTINGS, no_args_is_help=True)
@click.argument("place")
@known_options
@json_option
@spares_iris
@reports_errors
@needs_extra
def check_command(
    place: str, public_key: Path | None, manifest_sha256: str | None, as_json: bool
) -> None:
    """Check the release at PLACE: a folder, or an address, from which it is downloaded first.

    Held to the manifest are sizes, hashes, the contents of every weight file, and the evidence. A
    folder is checked without network. Without a key or a hash that you know from elsewhere, this
    tells whether a release is whole, not who made it.

    \b
    Examples:
      facenet release check dist/
      facenet release check dist/ --public-key key.pub
      facenet release check oci://host/name:tag --manifest-sha256 5f0c…
      facenet release check github:owner/repo@v1.0

    Exit codes: 0 it is what it says; 1 it isn't, or can't be read; 2 wrong usage.
    """
    from facenet_release.channels import is_remote
    from facenet_release.checking.check import CheckOptions, check
    from facenet_release.publish import check_address

    options = CheckOptions(public_key, _sha256(manifest_sha256))
    with TerminalProgress() as progress:
        if is_remote(place):
            checked = check_address(place, options, progress)
        else:
            checked = check(Path(place), options, progress)
    show_checked(checked, options, place, as_json)


@release.command("sign", context_settings=_SETTINGS, no_args_is_help=True)
@click.argument("folder", type=PATH)
@click.option("--private-key", type=PATH, required=True, help="An elliptic-curve key (PEM).")
@reports_errors
@needs_extra
def sign_command(folder: Path, private_key: Path) -> None:
    """Check the release in FOLDER, and sign it: adds model.sig.

    The key stays on this machine, and nothing needs a network. If it is encrypted, its password is
    read from FACENET_SIGNING_PASSWORD.

    \b
    Examples:
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out key.pub
      facenet release sign dist/ --private-key key.pem

    Exit codes: 0 signed; 1 the release is not what it says; 2 wrong usage or no usable key.
    """
    from facenet_release.checking.check import CheckOptions, check
    from facenet_release.signing import password, sign

    with TerminalProgress() as progress:
        check(folder, CheckOptions(), progress)
    sign(folder, private_key, password())
    click.echo(f"{folder}: signed")
    click.echo(
        "  next     give the public key to those who check: facenet release check --public-key"
    )


@release.command("publish", context_settings=_SETTINGS, no_args_is_help=True)
@click.argument("folder", type=PATH)
@click.option("--to", "address", required=True, help="Where to; see below.")
@known_options
@json_option
@reports_errors
@needs_extra
def publish_command(
    folder: Path, address: str, public_key: Path | None, manifest_sha256: str | None, as_json: bool
) -> None:
    """Check the release in FOLDER, publish it, download it again and check what users will get.

    A published release is never overwritten. After a break the same command goes on.

    \b
    Addresses, and where tokens come from:
      github:owner/repo@tag   GITHUB_TOKEN or GH_TOKEN
      oci://host/name:tag     OCI_USERNAME and OCI_PASSWORD, or Docker's configuration
      hf:owner/repo           HF_TOKEN
      some/folder

    \b
    Examples:
      facenet release publish dist/ --to github:owner/repo@v1.0
      facenet release publish dist/ --to oci://ghcr.io/owner/name:1.0 --public-key key.pub
      facenet release publish dist/ --to /srv/weights/1.0

    Exit codes: 0 published, or published before; 1 not; 2 wrong usage, or no token that works.
    """
    from facenet_release.checking.check import CheckOptions
    from facenet_release.publish import publish

    options = CheckOptions(public_key, _sha256(manifest_sha256))
    with TerminalProgress() as progress:
        checked = publish(folder, address, options, progress)
    show_checked(checked, options, address, as_json)


@release.command("rebuild", context_settings=_SETTINGS, no_args_is_help=True)
@click.argument("folder", type=PATH)
@click.option(
    "--inputs",
    type=PATH,
    default=Path(),
    help="The folder that the recipe's paths start from. Default: the current folder.",
)
@jobs_option
@json_option
@reports_errors
@needs_extra
def rebuild_command(folder: Path, inputs: Path, jobs: int | None, as_json: bool) -> None:
    """Build the release in FOLDER once more, from its own recipe: do the same bytes come out?

    The weights must. Evidence holds figures and versions of libraries: with the same libraries on
    the same kind of machine it comes out the same too, and if not, this says so.

    \b
    Examples:
      facenet release rebuild dist/
      facenet release rebuild dist/ --inputs /data/checkpoints

    Exit codes: 0 the same weights; 1 other ones, or it can't be built; 2 wrong usage.
    """
    from facenet_release.building.progress import BuildProgress
    from facenet_release.building.rebuild import rebuild

    with BuildProgress([]) as progress:
        rebuilt = rebuild(folder, inputs, jobs, progress.told)
    if as_json:
        print_json(rebuilt_json(rebuilt))
    else:
        show_rebuilt(rebuilt, folder)
    raise SystemExit(0 if rebuilt.reproduced else 1)


def _sha256(text: str | None) -> str | None:
    """A hash as the user gave it. UsageError if it is none."""
    from facenet_common.errors import UsageError

    if text is None:
        return None
    text = text.strip().lower().removeprefix("sha256:")
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise UsageError("this is no SHA-256", expected="64 hexadecimal digits", found=text)
    return text
