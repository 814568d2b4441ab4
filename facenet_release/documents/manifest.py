"""``manifest.json``: the files of a release, with their names, hashes and roles.

The manifest is the root of all trust in a release. It names every file with its size and SHA-256,
except itself, ``SHA256SUMS`` (which repeats the hashes for ``sha256sum -c``), and the files that
are written later or differ from build to build: the provenance, which has timestamps, and the
signature. It is canonical JSON (RFC 8785): equal releases have equal manifests, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from converter.architectures import ARCHITECTURES
from facenet_models.weights import manifest as weights_manifest
from facenet_release.documents.canonical_json import canonical, schema_validator
from facenet_release.errors import CheckFailedError

# Programs that only load weights use these too, without this package.
SCHEMA, MANIFEST, SUMS = weights_manifest.SCHEMA, weights_manifest.MANIFEST, weights_manifest.SUMS
MAX_BYTES = weights_manifest.MAX_MANIFEST  # of each of UNNAMED

RECIPE, README = "release.toml", "README.md"
PARITY, BOM = "parity.intoto.json", "bom.cdx.json"
PROVENANCE, SIGNATURE = "provenance.intoto.json", "model.sig"
# The files that a manifest can't name.
UNNAMED = (MANIFEST, SUMS, PROVENANCE, SIGNATURE)

CONVERSION_SCHEMA = "facenet-parity/conversion/1"  # of NAME.conversion.json
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")  # also safe on GitHub and in a URL

Role = Literal["weights", "evidence", "card", "recipe", "bom", "statement"]
# The files that every release has besides those of its models.
COMMON_FILES: dict[str, Role] = {RECIPE: "recipe", README: "card", PARITY: "statement", BOM: "bom"}


def weights_file(model: str, part: str, format: str) -> str:
    """Return the name of a weight file.

    Examples:
        >>> weights_file("pnet", "all", "pt"), weights_file("face", "logits", "safetensors")
        ('pnet.pt', 'face-logits.safetensors')
    """
    stem = model if part == "all" else f"{model}-{part}"
    return f"{stem}.{format}"


def report_file(model: str, format: str) -> str:
    """Return the name of the parity report, as JSON, of a model's weight files in `format`.

    An ONNX file has its own report; the files of all other formats share one.

    Examples:
        >>> report_file("pnet", "pt"), report_file("pnet", "onnx")
        ('pnet.parity.json', 'pnet.onnx.parity.json')
    """
    return f"{model}.onnx.parity.json" if format == "onnx" else f"{model}.parity.json"


def report_page(report: str) -> str:
    """Return the name of the HTML page of a parity report.

    Examples:
        >>> report_page("pnet.parity.json")
        'pnet.parity.html'
    """
    return report.removesuffix(".json") + ".html"


def conversion_file(model: str) -> str:
    """Return the name of the conversion record of a model."""
    return f"{model}.conversion.json"


def judged_file(file: str, sha256: str) -> str:
    """Return how a parity report names the weight file that it judged.

    Examples:
        >>> judged_file("pnet.pt", "5f0c")
        'pnet.pt (SHA-256 5f0c)'
    """
    return f"{file} (SHA-256 {sha256})"


def card_file(model: str) -> str:
    """Return the name of the card of a model."""
    return f"{model}.md"


def model_files(model: str, weight_files: Iterable[tuple[str, str]]) -> dict[str, Role]:
    """Return the names and roles of all files of a model.

    Args:
        model: The model's name.
        weight_files: The part and the format of each of its weight files.

    Examples:
        >>> sorted(model_files("pnet", [("all", "pt")]))
        ['pnet.conversion.json', 'pnet.md', 'pnet.parity.html', 'pnet.parity.json', 'pnet.pt']
    """
    roles: dict[str, Role] = {conversion_file(model): "evidence", card_file(model): "card"}
    for part, format_ in weight_files:
        report = report_file(model, format_)
        roles[weights_file(model, part, format_)] = "weights"
        roles[report] = roles[report_page(report)] = "evidence"
    return roles


@dataclass(frozen=True)
class File:
    """One file: its name in the release, size in bytes, SHA-256 in lower-case hex, and role."""

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
    """One network: its sizes, its sources, and the files that hold it."""

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
        """Return the names of the files of this model: weights, parity reports, card."""
        artifacts = [artifact.file for artifact in self.artifacts]
        return [*artifacts, *sorted(self.reports()), self.card]

    def reports(self) -> list[str]:
        """Return the names of the parity reports of this model, the main one first."""
        others = {artifact.evidence for artifact in self.artifacts} - {self.evidence}
        return [self.evidence, *sorted(others)]


@dataclass(frozen=True)
class Manifest:
    """A whole release. `software` is the name and version of the program that built it."""

    name: str
    version: str
    software: str
    models: tuple[Model, ...]
    files: tuple[File, ...]

    def by_name(self) -> dict[str, File]:
        """Return the files by their names."""
        return {file.name: file for file in self.files}

    def to_bytes(self) -> bytes:
        """Return the manifest as canonical JSON."""
        return canonical({"schema": SCHEMA, **json.loads(json.dumps(asdict(self)))})

    def sums(self, manifest_sha256: str) -> bytes:
        """Return the text of ``SHA256SUMS``, in the form that sha256sum reads."""
        rows = [(file.name, file.sha256) for file in self.files]
        rows.append((MANIFEST, manifest_sha256))
        return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(rows)).encode("ascii")


def parse(data: bytes, file: Path | str = MANIFEST) -> Manifest:
    """Parse the bytes of a manifest.

    Args:
        data: The bytes.
        file: The path or address they are from, for messages.

    Raises:
        CheckFailedError: They are not canonical JSON of this schema, a name is unsafe or used
            twice, or an artifact is not a file of the release. It lists all such findings.

    Examples:
        >>> parse(Path("dist/manifest.json").read_bytes()).version  # doctest: +SKIP
        '1.0.0'
    """
    if len(data) > MAX_BYTES:
        raise _invalid(file, [f"{len(data)} bytes; at most {MAX_BYTES} are allowed"])
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid(file, [f"not JSON: {error}"]) from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise _invalid(file, [f"expected schema {SCHEMA!r}, found {found!r}"])
    problems = [
        f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}"
        for error in schema_validator("manifest-1.schema.json").iter_errors(value)
    ]
    if problems:
        raise _invalid(file, problems)
    manifest = _from_json(value)
    problems = _inconsistencies(manifest)
    if not problems and not _is_canonical(manifest, data):
        problems = ["not in canonical form (RFC 8785); another program has rewritten it"]
    if problems:
        raise _invalid(file, problems)
    return manifest


def _is_canonical(manifest: Manifest, data: bytes) -> bool:
    try:
        return manifest.to_bytes() == data
    except ValueError:  # canonical JSON has no such text or number
        return False


def _inconsistencies(manifest: Manifest) -> list[str]:
    names = [file.name for file in manifest.files]
    folded = Counter(name.lower() for name in names)
    problems = [f"{name}: named twice" for name in names if folded[name.lower()] > 1]
    folded = Counter(model.name.lower() for model in manifest.models)
    problems += [
        f"{model.name}: two models have this name"
        for model in manifest.models
        if folded[model.name.lower()] > 1
    ]
    problems += [f"{name}: a reserved name" for name in names if name in UNNAMED]
    classes = [known.class_name for known in ARCHITECTURES.values()]
    problems += [
        f"{model.name}: expected an architecture among {', '.join(classes)}, "
        f"found {model.architecture}"
        for model in manifest.models
        if model.architecture not in classes
    ]
    if names != sorted(names):
        problems.append("files: not sorted by name")
    known = set(names)
    used = [(model.name, name) for model in manifest.models for name in model.files()]
    problems += [
        f"{model}: {name} is not among the files" for model, name in used if name not in known
    ]
    weights = {file.name for file in manifest.files if file.role == "weights"}
    owned = Counter(name for _, name in used if name in weights)
    problems += [f"{name}: belongs to no model" for name in sorted(weights - owned.keys())]
    problems += [f"{name}: belongs to two models" for name in sorted(owned) if owned[name] > 1]
    return problems


def _from_json(value: Mapping[str, Any]) -> Manifest:
    def rows(kind: type, values: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        return tuple(kind(**{f.name: row[f.name] for f in fields(kind)}) for row in values)

    models = [
        {
            **model,
            "image_size": tuple(model["image_size"]),
            "sources": rows(Source, model["sources"]),
            "artifacts": rows(Artifact, model["artifacts"]),
        }
        for model in value["models"]
    ]
    return Manifest(
        name=value["name"],
        version=value["version"],
        software=value["software"],
        models=rows(Model, models),
        files=rows(File, value["files"]),
    )


def _invalid(file: Path | str, findings: Sequence[str]) -> CheckFailedError:
    return CheckFailedError("the manifest is not valid", findings, file=file)
