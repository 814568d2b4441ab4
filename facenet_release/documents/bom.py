"""``bom.cdx.json``: the bill of materials, CycloneDX 1.6 in JSON.

It has a component for each model (with its model card, its nested files, and its sources as
ancestors) and one for each training set. cyclonedx-python-lib can't write model cards, so this
module writes the JSON; that library has the official schema, which checks it. There is no
timestamp, and the serial number is a hash of the content: equal releases have equal bills.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from facenet_common.optional import missing_package, require
from facenet_common.text import one_line
from facenet_release.documents import model_facts
from facenet_release.documents.attestations import Json
from facenet_release.documents.canonical_json import canonical, parse_object, value_at
from facenet_release.documents.manifest import BOM, File, Manifest, Model, Source
from facenet_release.errors import CheckFailedError
from parity_tests.model import ParityReport
from parity_tests.report.json_document import from_json

SPEC = "1.6"
MAX_ERRORS = 40  # of the schema; a document of another kind can have any number
_PURPOSE = "a bill of materials"
# The namespace of the serial numbers (UUID version 5, RFC 9562); any fixed one will do.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "facenet-parity:bom/v1")
_SPDX = ("Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0", "CC0-1.0", "ISC", "MIT")
_ROOT = "release"


def bill_of_materials(manifest: Manifest, reports: Mapping[str, Json]) -> bytes:
    """Return the bill of materials of a release, in canonical JSON.

    Args:
        manifest: The manifest, or a draft without later files, such as the bill itself.
        reports: Each parity report under the name of its file.

    Raises:
        ParityError: A report is not valid.
        KeyError: A report is missing.

    Examples:
        >>> data = bill_of_materials(manifest, reports)  # doctest: +SKIP
    """
    files = manifest.by_name()
    models = [_model(model, manifest, files, reports) for model in manifest.models]
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
    """Return the findings about a bill of materials: by CycloneDX's schema, then the manifest.

    Raises:
        MissingPackageError: cyclonedx-python-lib, which has the schema, is not installed.

    Examples:
        >>> check_bom(b"{}", manifest)  # doctest: +SKIP
        ["specVersion: expected '1.6'"]
    """
    try:
        found = parse_object(data, BOM)
    except CheckFailedError as error:
        return list(error.findings)
    if found.get("specVersion") != SPEC:
        return [f"specVersion: expected {SPEC!r}"]
    findings = _check_schema(data)
    if findings:
        return findings
    findings = [
        f"metadata.component.{key}: differs from the manifest"
        for key in ("name", "version")
        if value_at(found, "metadata", "component", key) != getattr(manifest, key)
    ]
    return findings + _check_files(found, manifest)


def _check_schema(data: bytes) -> list[str]:
    missing = require("cyclonedx.exception", _PURPOSE).MissingOptionalDependencyException
    version = require("cyclonedx.schema", _PURPOSE).SchemaVersion.V1_6
    try:
        validator = require("cyclonedx.validation.json", _PURPOSE).JsonStrictValidator(version)
        errors = validator.validate_str(data.decode("utf-8"), all_errors=True) or ()
        # The library passes on jsonschema's errors, whose text would repeat the whole schema.
        rows = [error.data for error in islice(errors, MAX_ERRORS)]
    except missing as error:  # without its extra [json-validation]
        raise missing_package("cyclonedx", _PURPOSE) from error
    except RecursionError:
        return ["schema: it is nested too deeply"]
    return [f"schema: {row.json_path}: {one_line(row.message)[:300]}" for row in rows]


def _check_files(found: Mapping[str, Any], manifest: Manifest) -> list[str]:
    """Return the models and files that the bill lacks, or that differ from the manifest."""
    models = {
        row["name"]: {inner["name"]: _sha256(inner) for inner in row.get("components", [])}
        for row in found.get("components", [])
        if row["type"] == "machine-learning-model"
    }
    files = manifest.by_name()
    names = [row["name"] for row in found.get("components", [])]
    findings = [f"{name}: listed twice" for name in models if names.count(name) > 1]
    for model in manifest.models:
        listed = models.pop(model.name, None)
        if listed is None:
            findings.append(f"{model.name}: the model is missing")
            continue
        for name in sorted(listed.keys() | set(model.files())):
            if name not in listed:
                findings.append(f"{model.name}: {name} is missing")
            elif name not in files or name not in model.files():
                findings.append(f"{model.name}: {one_line(name)[:200]} is not a file of this model")
            elif listed[name] != files[name].sha256:
                findings.append(f"{model.name}: {name}: the SHA-256 differs from the manifest")
    return findings + [f"{one_line(name)[:200]}: not a model of this release" for name in models]


def _sha256(component: Mapping[str, Any]) -> str | None:
    hashes: Iterator[str] = (
        row["content"] for row in component.get("hashes", []) if row["alg"] == "SHA-256"
    )
    return next(hashes, None)


def _model(
    model: Model, manifest: Manifest, files: Mapping[str, File], reports: Mapping[str, Json]
) -> dict[str, Any]:
    facts = model_facts.network_facts()[model.architecture]
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
        "modelCard": _card(model, reports),
    }


def _card(model: Model, reports: Mapping[str, Json]) -> dict[str, Any]:
    facts = model_facts.network_facts()[model.architecture]
    limits = [*facts.limits]
    if stated := model_facts.stated_lfw(model):
        limits.append(stated)
    parsed = [(name, from_json(reports[name])) for name in model.reports()]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": facts.task,
            "architectureFamily": model_facts.FAMILY,
            "modelArchitecture": model.architecture,
            "datasets": [{"ref": f"data:{model.training_set}"}],
            "inputs": [{"format": f"{facts.input}; {model.preprocessing}"}],
            "outputs": [{"format": output} for output in facts.outputs],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                metric for name, report in parsed for metric in _metrics(name, report)
            ]
        },
        "considerations": {
            "useCases": [facts.use],
            "technicalLimitations": limits,
            "ethicalConsiderations": [
                {"name": risk, "mitigationStrategy": remedy} for risk, remedy in model_facts.RISKS
            ],
        },
    }


def _metrics(evidence: str, report: ParityReport) -> Iterator[dict[str, str]]:
    """Yield the figures of the gates: differences from the original, not accuracy."""
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
        "description": "Training set of the original. It is not part of this release.",
        "data": [
            {
                "type": "dataset",
                "name": name,
                "description": licence,
                "sensitiveData": [model_facts.SENSITIVE],
            }
        ],
    }


def _file(file: File | Source, reference: str, properties: Mapping[str, str]) -> dict[str, Any]:
    rows = {"size": str(file.size), **properties}
    return {
        "type": "file",
        "bom-ref": reference,
        "name": file.name,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "properties": [{"name": f"facenet-parity:{k}", "value": v} for k, v in rows.items()],
    }


def _licence(text: str) -> dict[str, Any]:
    return {"license": {"id": text} if text in _SPDX else {"name": text}}


def _software(software: str) -> dict[str, str]:
    name, _, version = software.partition(" ")
    return {"type": "application", "name": name} | ({"version": version} if version else {})
