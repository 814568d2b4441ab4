"""``bom.cdx.json``: the bill of materials, CycloneDX 1.6 in JSON.

A component for each model (with its model card, its files nested in it, and the files that it was
converted from as ancestors), and one for each training set. cyclonedx-python-lib makes no model
cards, so the JSON is written here; that library brings the official schema to check it against.
There is no timestamp, and the serial number follows from the content: equal releases have equal
bills of materials.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from facenet_common.text import one_line
from facenet_release.documents import model_facts as about
from facenet_release.documents.attestations import Json
from facenet_release.documents.canonical_json import at, canonical, read
from facenet_release.documents.manifest import File, Manifest, Model, Source
from facenet_release.errors import CheckFailedError, ReleaseError
from parity_tests.model import ParityReport
from parity_tests.report.json_document import from_json

BOM = "bom.cdx.json"
SPEC = "1.6"
MAX_ERRORS = 40  # against the schema; a bill that is none can have any number
# Of serial numbers (UUID version 5, RFC 9562); any fixed one will do.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "facenet-parity:bom/v1")
_SPDX = ("Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0", "CC0-1.0", "ISC", "MIT")
_ROOT = "release"


def bom(manifest: Manifest, evidence: Mapping[str, Json]) -> bytes:
    """The bill of materials of a release, in canonical JSON.

    `manifest` may be a draft that lacks later files, the bill itself among them. `evidence` holds
    each parity report under its file's name.

    Raises ParityError for a report that is none, KeyError for one that is not there.
    """
    files = manifest.by_name()
    models = [_model(model, manifest, files, evidence) for model in manifest.models]
    sets = {model.training_set: model.licence for model in reversed(manifest.models)}
    data = [_data_set(name, licence) for name, licence in sorted(sets.items())]
    document: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {
            "tools": {"components": [_software(manifest.software)]},
            "component": {
                "type": "data",
                "bom-ref": _ROOT,
                "name": manifest.name,
                "version": manifest.version,
                "description": "Weights converted from TensorFlow to PyTorch, with evidence.",
            },
        },
        "components": [*models, *data],
        "dependencies": [
            {"ref": _ROOT, "dependsOn": [model["bom-ref"] for model in models]},
            *(
                {"ref": f"model:{model.name}", "dependsOn": [f"data:{model.training_set}"]}
                for model in manifest.models
            ),
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, canonical(document).decode("utf-8"))
    return canonical(document | {"serialNumber": serial.urn})


def check_bom(data: bytes, manifest: Manifest) -> list[str]:
    """What is wrong with a bill of materials: against CycloneDX's schema, and the manifest.

    Raises ReleaseError where the library that brings the schema is not installed.
    """
    try:
        said = read(data, BOM)
    except CheckFailedError as error:
        return list(error.findings)
    if said.get("specVersion") != SPEC:
        return [f"specVersion: not {SPEC!r}"]
    findings = _against_schema(data)
    if findings:
        return findings
    findings = [
        f"metadata.component.{field}: not the release's"
        for field in ("name", "version")
        if at(said, "metadata", "component", field) != getattr(manifest, field)
    ]
    return findings + _wrong_files(said, manifest)


def _against_schema(data: bytes) -> list[str]:
    try:
        from cyclonedx.exception import MissingOptionalDependencyException
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError as error:
        raise _absent(error) from error
    try:
        validator = JsonStrictValidator(SchemaVersion.V1_6)
        errors = validator.validate_str(data.decode("utf-8"), all_errors=True) or ()
        # The library passes jsonschema's errors on; their text would repeat the whole schema.
        rows = [error.data for error in islice(errors, MAX_ERRORS)]
    except MissingOptionalDependencyException as error:  # without [json-validation]
        raise _absent(error) from error
    except RecursionError:
        return ["schema: it is nested too deeply"]
    return [f"schema: {row.json_path}: {one_line(row.message)[:300]}" for row in rows]


def _absent(error: Exception) -> ReleaseError:
    return ReleaseError(
        "checking the bill of materials needs CycloneDX's schema, which is not installed",
        expected="cyclonedx-python-lib[json-validation]",
        found=one_line(error),
        next_step="pip install 'facenet-parity[release]'",
    )


def _wrong_files(said: Mapping[str, Any], manifest: Manifest) -> list[str]:
    """Models and files that the bill lacks, or says something else about than the manifest."""
    models = {
        row["name"]: {inner["name"]: _sha256(inner) for inner in row.get("components", [])}
        for row in said.get("components", [])
        if row["type"] == "machine-learning-model"
    }
    files = manifest.by_name()
    names = [row["name"] for row in said.get("components", [])]
    findings = [f"{name}: there twice" for name in models if names.count(name) > 1]
    for model in manifest.models:
        listed = models.pop(model.name, None)
        if listed is None:
            findings.append(f"{model.name}: the model is missing")
            continue
        for name in sorted(listed.keys() | set(model.files())):
            if name not in listed:
                findings.append(f"{model.name}: {name} is missing")
            elif name not in files or name not in model.files():
                findings.append(f"{model.name}: {one_line(name)[:200]} is no file of this model")
            elif listed[name] != files[name].sha256:
                findings.append(f"{model.name}: {name} has another SHA-256 than in the manifest")
    return findings + [f"{one_line(name)[:200]}: no model of this release" for name in models]


def _sha256(component: Mapping[str, Any]) -> str | None:
    hashes: Iterator[str] = (
        row["content"] for row in component.get("hashes", []) if row["alg"] == "SHA-256"
    )
    return next(hashes, None)


def _model(
    model: Model, manifest: Manifest, files: Mapping[str, File], evidence: Mapping[str, Json]
) -> dict[str, Any]:
    facts = about.ABOUT[model.architecture]
    artifacts = {artifact.file: artifact for artifact in model.artifacts}
    nested = []
    for name in model.files():
        properties: dict[str, str] = {"role": files[name].role}
        if artifact := artifacts.get(name):
            properties |= {"part": artifact.part, "format": artifact.format}
            if artifact.tensor_digest:
                properties["tensorDigest"] = artifact.tensor_digest
        nested.append(_file(files[name], f"file:{model.name}/{name}", properties))
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}",
        "name": model.name,
        "version": manifest.version,
        "description": " ".join(filter(None, [f"{facts.title}. {facts.summary}", model.notes])),
        "licenses": [_licence(model.licence)],
        "pedigree": {
            "ancestors": [
                _file(source, f"source:{model.name}/{source.name}", {}) for source in model.sources
            ],
            "notes": "Converted from these files.",
        },
        "externalReferences": [{"type": "documentation", "url": facts.paper}],
        "components": nested,
        "modelCard": _card(model, evidence),
    }


def _card(model: Model, evidence: Mapping[str, Json]) -> dict[str, Any]:
    facts = about.ABOUT[model.architecture]
    limits = [*facts.limits]
    if stated := about.stated_lfw(model):
        limits.append(stated)
    reports = [(name, from_json(evidence[name])) for name in model.reports()]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": facts.task,
            "architectureFamily": about.FAMILY,
            "modelArchitecture": model.architecture,
            "datasets": [{"ref": f"data:{model.training_set}"}],
            "inputs": [{"format": f"{facts.input}; {model.preprocessing}"}],
            "outputs": [{"format": output} for output in facts.outputs],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                metric for name, report in reports for metric in _metrics(name, report)
            ]
        },
        "considerations": {
            "useCases": [facts.use],
            "technicalLimitations": limits,
            "ethicalConsiderations": [
                {"name": risk, "mitigationStrategy": remedy} for risk, remedy in about.RISKS
            ],
        },
    }


def _metrics(evidence: str, report: ParityReport) -> Iterator[dict[str, str]]:
    """What the gates measured: distances from the original, not accuracy."""
    for gate in report.gates:
        if gate.status in ("passed", "failed"):
            yield {
                "type": f"parity with the original, gate {gate.name}: {gate.formula}",
                "value": repr(gate.measured),
                "slice": evidence,
            }


def _data_set(name: str, licence: str) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": f"data:{name}",
        "name": name,
        "description": "Training set of the original. No part of this release.",
        "data": [
            {
                "type": "dataset",
                "name": name,
                "description": licence,
                "sensitiveData": [about.SENSITIVE],
            }
        ],
    }


def _file(file: File | Source, reference: str, properties: Mapping[str, str]) -> dict[str, Any]:
    said = {"size": str(file.size), **properties}
    return {
        "type": "file",
        "bom-ref": reference,
        "name": file.name,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "properties": [{"name": f"facenet-parity:{k}", "value": v} for k, v in said.items()],
    }


def _licence(text: str) -> dict[str, Any]:
    return {"license": {"id": text} if text in _SPDX else {"name": text}}


def _software(software: str) -> dict[str, str]:
    name, _, version = software.partition(" ")
    return {"type": "application", "name": name} | ({"version": version} if version else {})
