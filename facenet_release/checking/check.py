"""``facenet release check``: whether a release is what it says it is. Uses no network.

The manifest stands for everything: each file is held to its size and hash there, each weight file
to what is said of its contents, each report to the file that it judged. Whether the manifest
itself is the right one, only a signature can tell, or its hash, learned from elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_common.text import one_line
from facenet_release.checking.contents import Contents
from facenet_release.checking.evidence import check_evidence
from facenet_release.checking.structure import check_recipe, check_structure
from facenet_release.documents import canonical_json as documents
from facenet_release.documents.attestations import PARITY, check_parity_statement, check_provenance
from facenet_release.documents.bom import BOM, check_bom
from facenet_release.documents.canonical_json import read_small
from facenet_release.documents.manifest import (
    MANIFEST,
    PROVENANCE,
    SIGNATURE,
    SUMS,
    UNNAMED,
    File,
    Manifest,
    parse,
)
from facenet_release.documents.recipe import RECIPE
from facenet_release.errors import CheckFailedError


@dataclass(frozen=True)
class CheckOptions:
    """What is known of the release from elsewhere: the signer's key, the manifest's SHA-256."""

    public_key: Path | None = None
    manifest_sha256: str | None = None


@dataclass(frozen=True)
class Checked:
    """A release that is what it says. `signature` is "good", "not checked" or "none"."""

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    size: int
    signature: str


def check(folder: Path, options: CheckOptions, progress: Progress | None = None) -> Checked:
    """Check the release in `folder`, whole.

    Raises CheckFailedError with everything that is wrong with it; UsageError if there is no such
    folder, or no manifest in it.
    """
    progress = progress or Progress()
    data = read_small(folder, MANIFEST)
    digest = require_asked(data, options, folder / MANIFEST)
    manifest = parse(data, folder / MANIFEST)
    size = sum(file.size for file in manifest.files)
    findings = [
        *_sums(folder, manifest, digest),
        *_strangers(folder, manifest),
        *check_structure(manifest),
    ]
    progress.stage("checking", size)
    altered, wrong = _files(folder, manifest, progress.advance)
    findings += [*altered, *wrong]
    if not altered:  # of what is altered, nothing more needs to be said
        findings += _documents(folder, manifest, digest)
    signature = "none"
    if options.public_key is not None:
        findings += _signature(folder, options.public_key)
        signature = "good"
    elif os.path.lexists(folder / SIGNATURE):
        findings += _unreadable(folder, SIGNATURE)
        signature = "not checked"
    if findings:
        raise CheckFailedError("the release is not what it says it is", findings, file=folder)
    return Checked(folder, manifest, digest, size, signature)


def require_asked(manifest: bytes, options: CheckOptions, file: Path | str) -> str:
    """The manifest's SHA-256. CheckFailedError if it is another release's than was asked for."""
    digest = hashlib.sha256(manifest).hexdigest()
    if options.manifest_sha256 not in (None, digest):
        raise CheckFailedError(
            "this is another release than the one that was asked for",
            [f"the manifest's SHA-256 is {digest}, not {options.manifest_sha256}"],
            file=file,
        )
    return digest


def _sums(folder: Path, manifest: Manifest, digest: str) -> Iterator[str]:
    try:
        if read_small(folder, SUMS) != manifest.sums(digest):
            yield f"{SUMS}: not what the manifest says"
    except (UsageError, CheckFailedError) as error:
        yield f"{SUMS}: {error.problem}"


def _unreadable(folder: Path, name: str) -> list[str]:
    try:
        read_small(folder, name)
    except (UsageError, CheckFailedError) as error:
        return [f"{name}: {error.problem}"]
    return []


def _strangers(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What is in the folder and should not be."""
    known = {file.name for file in manifest.files} | set(UNNAMED)
    for name in sorted({path.name for path in folder.iterdir()} - known):
        yield f"{one_line(name)}: no file of this release"


def _files(
    folder: Path, manifest: Manifest, advance: Callable[[int], object]
) -> tuple[list[str], list[str]]:
    """Which files are not those that the manifest names; what is wrong with weights that are."""
    contents = Contents(folder)
    weights = {a.file: (model, a) for model in manifest.models for a in model.artifacts}

    def examine(file: File) -> tuple[str | None, list[str]]:
        altered = _hashed(folder, file, advance)
        looks = altered is None and file.name in weights
        return altered, contents.look(*weights[file.name]) if looks else []

    largest_first = sorted(manifest.files, key=lambda file: -file.size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter lock
        found = list(pool.map(examine, largest_first))
    wrong = [row for _, rows in found for row in rows]
    wrong += [row for model in manifest.models for row in contents.compare(model)]
    return [altered for altered, _ in found if altered is not None], wrong


def _hashed(folder: Path, file: File, advance: Callable[[int], object]) -> str | None:
    """What is wrong with the bytes of one file."""
    path = folder / file.name
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{file.name}: no plain file"
        if status.st_size != file.size:
            return f"{file.name}: {file.size} bytes were expected, has {status.st_size}"
        sha256 = sha256_file(path)
    except OSError as error:
        return f"{file.name}: {error.strerror}"
    advance(file.size)
    if sha256 != file.sha256:
        return f"{file.name}: altered: SHA-256 {file.sha256} was expected, is {sha256}"
    return None


def _documents(folder: Path, manifest: Manifest, digest: str) -> list[str]:
    """What is wrong with evidence, statements and bill of materials, whose hashes are right."""
    findings: list[str] = []
    reports: dict[str, Any] = {}
    for name in sorted({a.evidence for model in manifest.models for a in model.artifacts}):
        try:
            reports[name] = documents.read(read_small(folder, name), name)
        except CheckFailedError as error:
            findings += _about(name, error.findings)
    if findings:
        return findings
    for model in manifest.models:
        findings += check_evidence(folder, manifest, model, reports)
    names = manifest.by_name()
    if RECIPE in names:
        findings += check_recipe(folder, manifest)
    if PARITY in names:
        data = read_small(folder, PARITY)
        findings += _about(PARITY, check_parity_statement(data, manifest, reports))
    if BOM in names:
        findings += _about(BOM, check_bom(read_small(folder, BOM), manifest))
    try:
        data = read_small(folder, PROVENANCE)
        findings += _about(PROVENANCE, check_provenance(data, manifest, digest))
    except UsageError as error:
        findings.append(f"{PROVENANCE}: {error.problem}")
    return findings


def _about(name: str, findings: Iterable[object]) -> list[str]:
    return [f"{name}: {finding}" for finding in findings]


def _signature(folder: Path, public_key: Path) -> list[str]:
    from facenet_release.signing import verify

    try:
        verify(folder, public_key)
    except CheckFailedError as error:
        return [f"{SIGNATURE}: {finding}" for finding in error.findings] or [str(error)]
    return []
