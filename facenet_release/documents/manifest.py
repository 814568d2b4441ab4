"""``manifest.json``: what a release holds. The root of all trust in it.

It names every file of the release with size and SHA-256, but for itself, ``SHA256SUMS`` (which
repeats it for ``sha256sum -c``) and what is written later or differs from build to build: the
provenance, which has timestamps, and the signature. It is canonical JSON (RFC 8785): equal
releases have equal manifests, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from facenet_models.weights import manifest as weights_manifest
from facenet_release.documents.canonical_json import canonical, validator
from facenet_release.errors import CheckFailedError

# What those who load weights go by too.
SCHEMA, MANIFEST, SUMS = weights_manifest.SCHEMA, weights_manifest.MANIFEST, weights_manifest.SUMS
PROVENANCE = "provenance.intoto.json"
SIGNATURE = "model.sig"
# Files of a release that its manifest can't name.
UNNAMED = (MANIFEST, SUMS, PROVENANCE, SIGNATURE)
MAX_BYTES = weights_manifest.MAX_MANIFEST  # of each of UNNAMED

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")  # also safe on GitHub and in a URL

Role = Literal["weights", "evidence", "card", "recipe", "bom", "statement"]


@dataclass(frozen=True)
class File:
    """One file: its name in the release, size in bytes, SHA-256 in lower-case hex, and use."""

    name: str
    size: int
    sha256: str
    role: Role


@dataclass(frozen=True)
class Source:
    """One of the files that a model was converted from. `name` has no folder."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """One weight file, and the parity report that judged these weights.

    `tensor_digest` is that of `converter.digest`; None for ONNX.
    """

    file: str
    part: str
    format: str
    tensor_digest: str | None
    evidence: str


@dataclass(frozen=True)
class Model:
    """One network: what it is, what it came from, and the files that hold it."""

    name: str
    architecture: str
    embedding_size: int | None
    classes: int | None
    image_size: tuple[int, int]
    preprocessing: str
    training_set: str
    licence: str
    notes: str
    sources: tuple[Source, ...]
    artifacts: tuple[Artifact, ...]
    evidence: str
    card: str

    def files(self) -> list[str]:
        """The names of all files that are this model's."""
        artifacts = [artifact.file for artifact in self.artifacts]
        return [*artifacts, *sorted(self.reports()), self.card]

    def reports(self) -> list[str]:
        """The names of the parity reports about it, its own first."""
        others = {artifact.evidence for artifact in self.artifacts} - {self.evidence}
        return [self.evidence, *sorted(others)]


@dataclass(frozen=True)
class Manifest:
    """The whole release, as its maker says it is. `software` made it."""

    name: str
    version: str
    software: str
    models: tuple[Model, ...]
    files: tuple[File, ...]

    def by_name(self) -> dict[str, File]:
        """The files under their names."""
        return {file.name: file for file in self.files}

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical({"schema": SCHEMA, **json.loads(json.dumps(asdict(self)))})

    def sums(self, manifest_sha256: str) -> bytes:
        """``SHA256SUMS``: every named file and the manifest, as sha256sum writes them."""
        rows = [(file.name, file.sha256) for file in self.files]
        rows.append((MANIFEST, manifest_sha256))
        return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(rows)).encode("ascii")


def parse(data: bytes, file: Path | str = MANIFEST) -> Manifest:
    """The manifest that these bytes are.

    Raises CheckFailedError, with everything that is wrong: no canonical JSON, another schema, a
    name that is unsafe or used twice, an artifact that is no file of the release.
    """
    if len(data) > MAX_BYTES:
        raise _damaged(file, [f"it has {len(data)} bytes; {MAX_BYTES} are the most allowed"])
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, [f"it is no JSON: {error}"]) from error
    if not isinstance(said, dict) or said.get("schema") != SCHEMA:
        found = said.get("schema") if isinstance(said, dict) else type(said).__name__
        raise _damaged(file, [f"schema {SCHEMA!r} was expected, {found!r} was found"])
    problems = [
        f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}"
        for error in validator("manifest-1.schema.json").iter_errors(said)
    ]
    if problems:
        raise _damaged(file, problems)
    manifest = _build(said)
    problems = _inconsistencies(manifest)
    if not problems and not _canonical(manifest, data):
        problems = ["it is not in canonical form (RFC 8785): something has rewritten it"]
    if problems:
        raise _damaged(file, problems)
    return manifest


def _canonical(manifest: Manifest, data: bytes) -> bool:
    try:
        return manifest.to_bytes() == data
    except ValueError:  # a text or a number that canonical JSON can't say
        return False


def _inconsistencies(manifest: Manifest) -> list[str]:
    names = [file.name for file in manifest.files]
    folded = Counter(name.lower() for name in names)
    problems = [f"{name}: named twice" for name in names if folded[name.lower()] > 1]
    folded = Counter(model.name.lower() for model in manifest.models)
    problems += [
        f"{model.name}: two models of this name"
        for model in manifest.models
        if folded[model.name.lower()] > 1
    ]
    problems += [f"{name}: a name that is taken" for name in names if name in UNNAMED]
    if names != sorted(names):
        problems.append("files: not in the order of their names")
    known = set(names)
    used = [(model.name, name) for model in manifest.models for name in model.files()]
    problems += [
        f"{model}: {name} is not among the files" for model, name in used if name not in known
    ]
    weights = {file.name for file in manifest.files if file.role == "weights"}
    owned = Counter(name for _, name in used if name in weights)
    problems += [f"{name}: weights of no model" for name in sorted(weights - owned.keys())]
    problems += [f"{name}: weights of two models" for name in sorted(owned) if owned[name] > 1]
    return problems


def _build(said: Mapping[str, Any]) -> Manifest:
    def rows(kind: type, values: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        return tuple(kind(**{f.name: row[f.name] for f in fields(kind)}) for row in values)

    models = [
        {
            **model,
            "image_size": tuple(model["image_size"]),
            "sources": rows(Source, model["sources"]),
            "artifacts": rows(Artifact, model["artifacts"]),
        }
        for model in said["models"]
    ]
    return Manifest(
        name=said["name"],
        version=said["version"],
        software=said["software"],
        models=rows(Model, models),
        files=rows(File, said["files"]),
    )


def _damaged(file: Path | str, findings: Sequence[str]) -> CheckFailedError:
    return CheckFailedError("the manifest is not one that was built here", findings, file=file)
