"""``facenet doctor``: list installed and missing packages, and run a self-check."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from converter import __version__
from converter.selfcheck import self_check
from facenet_common.commands import json_option, print_json, reports_errors
from facenet_common.installed import Requirement, extras, metadata
from facenet_common.text import one_line

SCHEMA = "facenet-parity/doctor/1"
FOR_DEVELOPERS = ("dev", "docs", "notebooks")  # extras that are left out of the libraries

REFERENCE = "FACENET_REFERENCE_DIR"
ORIGINAL = "FACENET_ORIGINAL_DIR"
_SUBMODULE = Path(__file__).parents[2] / "third_party" / "davidsandberg_facenet"
SUBMODULE_HINT = "in a clone: git submodule update --init"
_DETECTOR = Path("src", "align", "detect_face.py")  # the module of the original that is run

# All variables that the program reads; any other FACENET_… is marked as unknown, as a typo may be.
VARIABLES = (
    "FACENET_CHECKPOINTS",
    "FACENET_EXAMPLES_DATA",
    "FACENET_MIRROR",
    "FACENET_OFFLINE",
    ORIGINAL,
    REFERENCE,
    "FACENET_SIGNING_PASSWORD",
    "FACENET_WEIGHTS",
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "OCI_PASSWORD",
    "OCI_USERNAME",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
)
_SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")

Facts = dict[str, object]
Row = tuple[str, str]


@click.command(
    "doctor",
    short_help="Show what is installed and missing, and check that it works.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@json_option
@reports_errors
def command(as_json: bool) -> None:
    """Show what is installed and what is missing, and check that it works.

    The check converts a small network, reads it back and, if PyTorch is installed, runs it. It
    takes a few seconds and no network access. Missing packages are not a failure.

    \b
    Examples:
      facenet doctor
      facenet doctor --json

    Exit codes: 0 it works; 1 the check failed.
    """
    facts = installation() | surroundings()
    checks = [vars(check) for check in self_check()]
    healthy = all(check["status"] != "failed" for check in checks)
    facts |= {"checks": checks, "healthy": healthy}
    if as_json:
        print_json(facts)
    else:
        click.echo(as_text(facts))
    if not healthy:
        sys.exit(1)


# --- the facts ------------------------------------------------------------------------------------


def installation() -> Facts:
    """Return the versions, and for each extra the missing packages. Nothing is imported."""
    own = metadata()
    asked = {} if own is None else extras(own)
    libraries = {
        requirement.name: requirement.found
        for extra, requirements in asked.items()
        if extra not in FOR_DEVELOPERS
        for requirement in requirements
    }
    return {
        "schema": SCHEMA,
        "version": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "package": str(Path(__file__).parents[1]),
        "installed": own is not None,
        "libraries": dict(sorted(libraries.items())),
        "extras": {extra or "base": _extra(wanted) for extra, wanted in asked.items()},
    }


def _extra(wanted: tuple[Requirement, ...]) -> Facts:
    lacks = [requirement for requirement in wanted if not requirement.met]
    install = [sys.executable, "-m", "pip", "install", *map(str, lacks)]
    return {
        "complete": not lacks,
        "lacks": [{"package": str(lack), "found": lack.found} for lack in lacks],
        "install": shlex.join(install) if lacks else None,
    }


def surroundings() -> Facts:
    """Return the folders and environment variables that the program uses, without secrets."""
    return {
        "reference": _folder(os.environ.get(REFERENCE), "README.md"),
        "original": _folder(os.environ.get(ORIGINAL) or str(_SUBMODULE), str(_DETECTOR)),
        "cache": _cache(),
        "environment": {
            name: _without_secrets(name, os.environ[name])
            for name in sorted(os.environ)
            if name in VARIABLES or name.startswith("FACENET_")
        },
        "unknown": sorted(n for n in os.environ if n.startswith("FACENET_") and n not in VARIABLES),
    }


def _folder(path: str | None, file: str) -> Facts:
    return {"path": path, "found": bool(path) and Path(path or "", file).is_file()}


def _cache() -> Facts:
    """Return the folder of `facenet_models.weights.cache.cache_folder`; a test compares the two."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    folder = Path(home).expanduser() / "checkpoints"
    return {"path": str(folder), "found": folder.is_dir()}


def _without_secrets(name: str, value: str) -> str:
    return "(set, not shown)" if _SECRET.search(name) else _USERINFO.sub("…", value)


# --- the text -------------------------------------------------------------------------------------


def as_text(facts: Mapping[str, Any]) -> str:
    """Return the facts as text: sections with one row for each fact."""
    sections = {
        f"facenet-parity {facts['version']}": _about(facts),
        "Libraries": [
            (name, found or "not installed") for name, found in facts["libraries"].items()
        ],
        "Extras": [row for name, extra in facts["extras"].items() for row in _lacks(name, extra)],
        "Data": _data(facts),
        "Environment": _environment(facts),
        "Check": [
            (check["name"], f"{check['status']}: {check['text']}") for check in facts["checks"]
        ],
    }
    rows = [row for section in sections.values() for row in section]
    width = max(len(label) for label, _ in rows)
    lines = []
    for title, section in sections.items():
        lines.append(title)
        lines += [f"  {label:<{width}}  {one_line(value)}" for label, value in section]
    return "\n".join([*lines, "It works." if facts["healthy"] else "A check failed: see Check."])


def _about(facts: Mapping[str, Any]) -> list[Row]:
    rows = [
        ("Python", f"{facts['python']}  {facts['executable']}"),
        ("platform", facts["platform"]),
        ("package", facts["package"]),
    ]
    if not facts["installed"]:
        rows.append(("note", "not installed by pip: the packages of the extras are unknown"))
    return rows


def _lacks(name: str, extra: Mapping[str, Any]) -> list[Row]:
    if extra["complete"]:
        return [(name, "complete")]
    lacks = [
        lack["package"] + (f" ({lack['found']} is installed)" if lack["found"] else "")
        for lack in extra["lacks"]
    ]
    return [(name, "missing " + ", ".join(lacks)), ("", extra["install"])]


def _data(facts: Mapping[str, Any]) -> list[Row]:
    reference, original, cache = facts["reference"], facts["original"], facts["cache"]
    return [
        ("reference", _place(reference) if reference["path"] else f"{REFERENCE} is not set"),
        ("original", _place(original) + ("" if original["found"] else f"; {SUBMODULE_HINT}")),
        ("cache", _place(cache)),
    ]


def _place(folder: Mapping[str, Any]) -> str:
    return f"{'found' if folder['found'] else 'not found'}: {folder['path']}"


def _environment(facts: Mapping[str, Any]) -> list[Row]:
    unknown = facts["unknown"]
    rows = [
        (name, value + ("  (unknown variable)" if name in unknown else ""))
        for name, value in facts["environment"].items()
    ]
    return rows or [("", "no variables of the program are set")]
