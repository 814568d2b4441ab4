"""The commands ``facenet release``: build, check, sign, publish, rebuild."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from facenet_common.commands import INTERRUPTED, json_option, reports_errors
from facenet_common.errors import UsageError
from facenet_common.optional import missing, missing_package
from facenet_common.progress import TerminalProgress
from facenet_release.output import (
    BuildProgress,
    show_built,
    show_checked,
    show_plan,
    show_rebuilt,
)

PATH = click.Path(path_type=Path)
# The packages of the extra `release` that every command needs.
_PACKAGES = ("cyclonedx", "filelock", "jinja2", "jsonschema", "requests", "rfc8785")
_SETTINGS = {"help_option_names": ["-h", "--help"]}
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Number of models to build in parallel; each takes up to 3 GB. Default: one per core.",
)
_TRUST_OPTIONS = (
    click.option(
        "--public-key",
        type=PATH,
        help="The signer's key (PEM). With it the release must be signed by that key.",
    ),
    click.option(
        "--manifest-sha256",
        metavar="HEX",
        help="The SHA-256 that manifest.json must have.",
    ),
)


def trust_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options with facts about a release from a trusted place."""
    for option in reversed(_TRUST_OPTIONS):
        command = option(command)
    return command


def skip_iri_grammar(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hide rfc3987_syntax from jsonschema while a command runs, which saves a second.

    jsonschema imports it where it is installed, to check IRIs, and it builds a grammar while it is
    imported. No schema of this package has an IRI.
    """
    grammar = "rfc3987_syntax"

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        modules: dict[str, Any] = sys.modules  # None makes an import fail
        hidden = modules.setdefault(grammar, None) is None
        try:
            return command(*args, **kwargs)
        finally:
            if hidden:
                del modules[grammar]

    return run


def needs_extra(command: Callable[..., Any]) -> Callable[..., Any]:
    """Raise MissingPackageError, before any work, if the extra `release` is not installed."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        for module in missing(_PACKAGES):
            raise missing_package(module, "facenet release")
        return command(*args, **kwargs)

    return run


@click.group(
    "release",
    short_help="Build, check, sign and publish releases of weights.",
    context_settings=_SETTINGS,
)
def release() -> None:
    """Build weights from a recipe, with evidence; sign, publish and check them.

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
@click.option("--out", type=PATH, required=True, help="The folder to make. It must not exist.")
@click.option("--dry-run", is_flag=True, help="Show what would be built, and build nothing.")
@jobs_option
@json_option
@reports_errors
@needs_extra
def build_command(recipe: Path, out: Path, dry_run: bool, jobs: int | None, as_json: bool) -> None:
    """Build the release that RECIPE describes: convert, judge, compare, document, check.

    Each model is converted, judged by every gate of `facenet verify`, and compared with published
    weights where the recipe names them. The release gets its name when everything has passed. If
    the build is interrupted, the same command continues it.

    \b
    Examples:
      facenet release build release.toml --out dist/
      facenet release build release.toml --out dist/ --dry-run
      facenet release build release.toml --out dist/ --jobs 1

    Exit codes: 0 built, or built before; 1 something failed; 2 wrong usage or a wrong recipe;
    130 interrupted.
    """
    from facenet_release.building.build import build, plan
    from facenet_release.documents.recipe import read

    parsed = read(recipe)
    if dry_run:
        show_plan(plan(parsed, out), out, as_json)
        return
    try:
        with BuildProgress([model.name for model in parsed.models]) as progress:
            built = build(parsed, out, jobs, progress.update)
    except KeyboardInterrupt:
        click.echo("\nInterrupted; the same command continues this build", err=True)
        raise SystemExit(INTERRUPTED) from None
    show_built(built, as_json)


@release.command("check", context_settings=_SETTINGS, no_args_is_help=True)
@click.argument("place")
@trust_options
@json_option
@skip_iri_grammar
@reports_errors
@needs_extra
def check_command(
    place: str, public_key: Path | None, manifest_sha256: str | None, as_json: bool
) -> None:
    """Check the release at PLACE: a folder, or an address, from which it is downloaded first.

    The sizes, hashes, tensors and evidence are compared with the manifest. The check of a folder
    needs no network. Without a key or a hash from a trusted place, a check shows that a release is
    complete, not who made it.

    \b
    Examples:
      facenet release check dist/
      facenet release check dist/ --public-key key.pub
      facenet release check oci://host/name:tag --manifest-sha256 5f0c…
      facenet release check github:owner/repo@v1.0

    Exit codes: 0 all checks passed; 1 a check failed, or a file can't be read; 2 wrong usage.
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
    """Check the release in FOLDER and sign it: add the file model.sig.

    Signing needs no network. If the key is encrypted, its password is read from
    FACENET_SIGNING_PASSWORD.

    \b
    Examples:
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out key.pub
      facenet release sign dist/ --private-key key.pem

    Exit codes: 0 signed; 1 the release failed its check; 2 wrong usage or no usable key.
    """
    from facenet_release.checking.check import CheckOptions, check
    from facenet_release.signing import password, sign

    with TerminalProgress() as progress:
        check(folder, CheckOptions(), progress)
    sign(folder, private_key, password())
    click.echo(f"{folder}: signed")
    click.echo(
        "  next     publish the public key; users pass it to facenet release check --public-key"
    )


@release.command("publish", context_settings=_SETTINGS, no_args_is_help=True)
@click.argument("folder", type=PATH)
@click.option("--to", "address", required=True, help="The address to publish at; see below.")
@trust_options
@json_option
@reports_errors
@needs_extra
def publish_command(
    folder: Path, address: str, public_key: Path | None, manifest_sha256: str | None, as_json: bool
) -> None:
    """Check the release in FOLDER, publish it, download it again and check the download.

    A published release is never overwritten. After an interruption the same command continues.

    \b
    Addresses, and the variables with their tokens:
      github:owner/repo@tag   GITHUB_TOKEN or GH_TOKEN
      oci://host/name:tag     OCI_USERNAME and OCI_PASSWORD, or Docker's configuration
      hf:owner/repo           HF_TOKEN
      some/folder

    \b
    Examples:
      facenet release publish dist/ --to github:owner/repo@v1.0
      facenet release publish dist/ --to oci://ghcr.io/owner/name:1.0 --public-key key.pub
      facenet release publish dist/ --to /srv/weights/1.0

    Exit codes: 0 published, or published before; 1 not published; 2 wrong usage or no valid token.
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
    """Build the release in FOLDER again, from its own recipe, and compare the bytes.

    The weights must be equal. Evidence has figures and versions of libraries: with the same
    libraries on the same kind of machine it is equal too; otherwise the output lists it.

    \b
    Examples:
      facenet release rebuild dist/
      facenet release rebuild dist/ --inputs /data/checkpoints

    Exit codes: 0 the same weights; 1 other weights, or the build failed; 2 wrong usage.
    """
    from facenet_release.building.rebuild import rebuild

    with BuildProgress([]) as progress:
        rebuilt = rebuild(folder, inputs, jobs, progress.update)
    show_rebuilt(rebuilt, folder, as_json)
    raise SystemExit(0 if rebuilt.reproduced else 1)


def _sha256(text: str | None) -> str | None:
    """Return a hash in lower case, without the prefix ``sha256:``. Raises UsageError."""
    if text is None:
        return None
    text = text.strip().lower().removeprefix("sha256:")
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise UsageError(
            "the SHA-256 hash is not valid", expected="64 hexadecimal digits", found=text
        )
    return text
