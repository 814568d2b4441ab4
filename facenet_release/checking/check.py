"""``facenet release check``: check a release against its manifest, without a network.

The check compares each file with the size and the hash in the manifest, each weight file with the
tensors listed there, and each parity report with the file that it judged. Whether the manifest
itself is genuine, only a signature can show, or its hash from a trusted place.
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

from facenet_common.errors import FacenetError, UsageError
from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_common.text import one_line
from facenet_release.checking.models import WeightFiles, check_evidence
from facenet_release.documents import manifest as documents
from facenet_release.documents.attestations import check_parity_attestation, check_provenance
from facenet_release.documents.bom import check_bom
from facenet_release.documents.canonical_json import parse_object, read_small_file
from facenet_release.documents.manifest import (
    BOM,
    COMMON_FILES,
    MANIFEST,
    PARITY,
    PROVENANCE,
    RECIPE,
    SIGNATURE,
    SUMS,
    UNNAMED,
    File,
    Manifest,
    Model,
)
from facenet_release.documents.recipe import read as read_recipe
from facenet_release.errors import CheckFailedError, RecipeError


@dataclass(frozen=True)
class CheckOptions:
    """Facts about a release from a trusted place.

    Args:
        public_key: The signer's key (PEM). With it the release must be signed by that key.
        manifest_sha256: The SHA-256 of the manifest, in lower-case hex.
    """

    public_key: Path | None = None
    manifest_sha256: str | None = None


@dataclass(frozen=True)
class Checked:
    """A release that passed its check.

    `size` is the sum of the sizes in the manifest, in bytes; `signature` is "good", "not checked"
    or "none".
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    size: int
    signature: str


def check(folder: Path, options: CheckOptions, progress: Progress | None = None) -> Checked:
    """Check the whole release in `folder`.

    Args:
        folder: The release.
        options: Facts about it from a trusted place.
        progress: Receives one stage, in bytes.

    Raises:
        CheckFailedError: Something is wrong with the release; it lists all findings.
        UsageError: The folder does not exist, or has no manifest.
        MissingPackageError: A package of the extra `release` is not installed.

    Examples:
        >>> check(Path("dist"), CheckOptions()).signature  # doctest: +SKIP
        'none'
    """
    progress = progress or Progress()
    data = read_small_file(folder, MANIFEST)
    digest = check_manifest_hash(data, options, folder / MANIFEST)
    manifest = documents.parse(data, folder / MANIFEST)
    size = sum(file.size for file in manifest.files)
    findings = [
        *_check_sums(folder, manifest, digest),
        *_unexpected_files(folder, manifest),
        *_check_names(manifest),
    ]
    progress.stage("checking", size)
    altered, wrong = _check_files(folder, manifest, progress.advance)
    findings += [*altered, *wrong]
    if not altered:  # the contents of an altered file need no findings of their own
        findings += _check_documents(folder, manifest, digest)
    signature = "none"
    if options.public_key is not None:
        findings += _check_signature(folder, options.public_key)
        signature = "good"
    elif os.path.lexists(folder / SIGNATURE):
        findings += _check_readable(folder, SIGNATURE)
        signature = "not checked"
    if findings:
        raise CheckFailedError("the release failed its check", findings, file=folder)
    return Checked(folder, manifest, digest, size, signature)


def check_manifest_hash(manifest: bytes, options: CheckOptions, file: Path | str) -> str:
    """Return the SHA-256 of the bytes of a manifest.

    Args:
        manifest: The bytes.
        options: The hash that they must have, if any.
        file: The path or address they are from, for the message.

    Raises:
        CheckFailedError: They have another hash than `options` requires.

    Examples:
        >>> check_manifest_hash(b"", CheckOptions(), "manifest.json")[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256(manifest).hexdigest()
    if options.manifest_sha256 not in (None, digest):
        raise CheckFailedError(
            "this is not the release that was asked for",
            [f"manifest: expected SHA-256 {options.manifest_sha256}, found {digest}"],
            file=file,
        )
    return digest


# --- the folder and the manifest


def _check_sums(folder: Path, manifest: Manifest, digest: str) -> Iterator[str]:
    try:
        if read_small_file(folder, SUMS) != manifest.sums(digest):
            yield f"{SUMS}: differs from the manifest"
    except (UsageError, CheckFailedError) as error:
        yield f"{SUMS}: {error.problem}"


def _check_readable(folder: Path, name: str) -> list[str]:
    try:
        read_small_file(folder, name)
    except (UsageError, CheckFailedError) as error:
        return [f"{name}: {error.problem}"]
    return []


def _unexpected_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    known = {file.name for file in manifest.files} | set(UNNAMED)
    for name in sorted({path.name for path in folder.iterdir()} - known):
        yield f"{one_line(name)}: not a file of this release"


def _check_names(manifest: Manifest) -> Iterator[str]:
    """Yield the files whose names or roles differ from those that a build gives them."""
    expected = dict(COMMON_FILES)
    for model in manifest.models:
        yield from _check_model_names(model)
        pairs = [(artifact.part, artifact.format) for artifact in model.artifacts]
        expected |= documents.model_files(model.name, pairs)
    files = manifest.by_name()
    for name in sorted(expected.keys() - files.keys()):
        yield f"{name}: missing from the manifest"
    for name in sorted(files.keys() - expected.keys()):
        yield f"{name}: in the manifest, but not part of a release"
    for name in sorted(files.keys() & expected.keys()):
        if files[name].role != expected[name]:
            yield f"{name}: expected role {expected[name]}, found {files[name].role}"


def _check_model_names(model: Model) -> Iterator[str]:
    name = model.name
    pairs = [
        (model.evidence, documents.report_file(name, "pt")),
        (model.card, documents.card_file(name)),
    ]
    for artifact in model.artifacts:
        weights = documents.weights_file(name, artifact.part, artifact.format)
        pairs.append((artifact.file, weights))
        pairs.append((artifact.evidence, documents.report_file(name, artifact.format)))
        if artifact.format == "onnx" and artifact.part != "all":
            yield f"{artifact.file}: an ONNX file of {artifact.part} only, which is never judged"
    for found, expected in dict.fromkeys(pairs):
        if found != expected:
            yield f"{name}: expected {expected}, found {found}"


# --- the files


def _check_files(
    folder: Path, manifest: Manifest, advance: Callable[[int], object]
) -> tuple[list[str], list[str]]:
    """Return the findings about hashes, and those about weight files whose hashes are right."""
    weights = WeightFiles(folder)
    artifacts = {a.file: (model, a) for model in manifest.models for a in model.artifacts}

    def examine(file: File) -> tuple[str | None, list[str]]:
        altered = _check_hash(folder, file, advance)
        if altered is not None or file.name not in artifacts:
            return altered, []
        return None, weights.check(*artifacts[file.name])

    largest_first = sorted(manifest.files, key=lambda file: -file.size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter lock
        found = list(pool.map(examine, largest_first))
    wrong = [finding for _, findings in found for finding in findings]
    wrong += [finding for model in manifest.models for finding in weights.compare(model)]
    return [altered for altered, _ in found if altered is not None], wrong


def _check_hash(folder: Path, file: File, advance: Callable[[int], object]) -> str | None:
    """Return the finding about the bytes of one file, or None."""
    path = folder / file.name
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{file.name}: not a regular file"
        if status.st_size != file.size:
            return f"{file.name}: expected {file.size} bytes, found {status.st_size}"
        sha256 = sha256_file(path)
    except OSError as error:
        return f"{file.name}: {error.strerror}"
    advance(file.size)
    if sha256 != file.sha256:
        return f"{file.name}: altered: expected SHA-256 {file.sha256}, found {sha256}"
    return None


# --- the documents


def _check_documents(folder: Path, manifest: Manifest, digest: str) -> list[str]:
    """Return the findings about evidence, recipe, attestations and bill of materials."""
    findings: list[str] = []
    reports: dict[str, Any] = {}
    for name in sorted({a.evidence for model in manifest.models for a in model.artifacts}):
        try:
            reports[name] = parse_object(read_small_file(folder, name), name)
        except CheckFailedError as error:
            findings += _prefixed(name, error.findings)
    if findings:
        return findings
    for model in manifest.models:
        findings += check_evidence(folder, manifest, model, reports)
    names = manifest.by_name()
    if RECIPE in names:
        findings += _prefixed(RECIPE, _check_recipe(folder, manifest))
    if PARITY in names:
        data = read_small_file(folder, PARITY)
        findings += _prefixed(PARITY, check_parity_attestation(data, manifest, reports))
    if BOM in names:
        findings += _prefixed(BOM, check_bom(read_small_file(folder, BOM), manifest))
    try:
        data = read_small_file(folder, PROVENANCE)
        findings += _prefixed(PROVENANCE, check_provenance(data, manifest, digest))
    except UsageError as error:
        findings.append(f"{PROVENANCE}: {error.problem}")
    return findings


def _check_recipe(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield how the recipe in the release differs from the manifest."""
    try:
        recipe = read_recipe(folder / RECIPE)
    except RecipeError as error:
        yield f"{error.problem}: {'; '.join(error.findings[:5])}"
        return
    except FacenetError as error:
        yield error.problem
        return
    if (recipe.name, recipe.version) != (manifest.name, manifest.version):
        yield f"it is the recipe of {recipe.name} {recipe.version}"
    if [model.name for model in recipe.models] != [model.name for model in manifest.models]:
        yield "its models differ from the manifest"
        return
    for entry, model in zip(recipe.models, manifest.models, strict=True):
        if dict(entry.sha256) != {source.name: source.sha256 for source in model.sources}:
            yield f"the sources of {model.name} differ from the manifest"


def _check_signature(folder: Path, public_key: Path) -> list[str]:
    from facenet_release.signing import verify

    try:
        verify(folder, public_key)
    except CheckFailedError as error:
        return [*_prefixed(SIGNATURE, error.findings)] or [str(error)]
    return []


def _prefixed(name: str, findings: Iterable[object]) -> Iterator[str]:
    return (f"{name}: {finding}" for finding in findings)
