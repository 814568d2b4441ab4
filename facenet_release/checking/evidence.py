"""Whether a release's evidence bears out its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facenet_common.errors import FacenetError
from facenet_common.text import one_line
from facenet_release.building.inputs import CLASSES
from facenet_release.building.job import CONVERSION, judged
from facenet_release.documents import canonical_json as documents
from facenet_release.documents import file_names as names
from facenet_release.documents.manifest import Artifact, Manifest, Model
from facenet_release.errors import CheckFailedError
from parity_tests.model import ParityReport
from parity_tests.report.json_document import from_json

GATES: tuple[str, ...] = ("weights", "float64", "float32")  # of every network
_EMBEDDING_GATES: tuple[str, ...] = ("task",)  # of those that give embeddings
_ONNX_GATES: tuple[str, ...] = ("float32",)  # an ONNX file shows only its answers


def check_evidence(
    folder: Path, manifest: Manifest, model: Model, reports: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What a model's evidence does not bear out. `reports` are those that its artifacts name."""
    findings = []
    for artifact in model.artifacts:
        # Other formats and parts hold the very tensors that were judged: their digests say so, and
        # their names (`structure`) that this report is about them.
        if artifact.format != "onnx" and (artifact.part, artifact.format) != ("all", "pt"):
            continue
        sha256 = manifest.by_name()[artifact.file].sha256
        try:
            report = from_json(dict(reports[artifact.evidence]))
        except FacenetError as error:
            findings.append(f"{artifact.evidence}: {one_line(error)}")
            continue
        found = _unproved(model, artifact, report, sha256)
        findings += [f"{artifact.evidence}: {finding}" for finding in found]
    if not any((a.part, a.format) == ("all", "pt") for a in model.artifacts):
        findings.append(f"{model.name}: has no .pt file of all its weights, to be judged")
    return [*findings, *_conversion(folder, manifest, model)]


def _unproved(model: Model, artifact: Artifact, report: ParityReport, sha256: str) -> Iterator[str]:
    if report.candidate != judged(artifact.file, sha256):
        yield f"about {one_line(report.candidate)}, not about {artifact.file} of this release"
    if not report.passed:
        yield "it did not pass"
    if CLASSES.get(report.architecture) != model.architecture:
        yield f"about {one_line(report.architecture)}, not {model.architecture}"
    expected = {"embedding": model.embedding_size, "classes": model.classes}
    for dim in sorted(expected.keys() | report.dims.keys()):
        size, found = expected.get(dim), report.dims.get(dim)
        if found != size and not (found is None and artifact.format == "onnx"):
            yield f"about a network with {one_line(dim)} {found}, not {size}"
    needed = _ONNX_GATES if artifact.format == "onnx" else GATES
    needed += _EMBEDDING_GATES if model.embedding_size else ()
    passed = {gate.name for gate in report.gates if gate.status == "passed"}
    for name in needed:
        if name not in passed:
            yield f"the gate {name} was not passed"
    for gate in report.gates:
        # NaN is within no limit.
        if gate.name in passed and (gate.findings or not gate.measured <= gate.tolerance):
            yield f"the gate {one_line(gate.name)} passed, its own figures say it did not"


def _conversion(folder: Path, manifest: Manifest, model: Model) -> Iterator[str]:
    """What the record of the conversion says otherwise than the manifest."""
    name = names.conversion(model.name)
    if name not in manifest.by_name():  # said already
        return
    try:
        said = documents.read(documents.read_small(folder, name), name)
    except CheckFailedError as error:
        yield from (f"{name}: {finding}" for finding in error.findings)
        return
    if said.get("schema") != CONVERSION or said.get("model") != model.name:
        yield f"{name}: not the record of this model's conversion"
    if said.get("sources") != {source.name: source.sha256 for source in model.sources}:
        yield f"{name}: made from other sources than the manifest says"
    for artifact in model.artifacts:
        if artifact.format == "onnx":
            continue
        expected = (manifest.by_name()[artifact.file].sha256, artifact.tensor_digest)
        row = ("conversions", artifact.file)
        found = tuple(documents.at(said, *row, key) for key in ("sha256", "tensor_digest"))
        if found != expected:
            yield f"{name}: made another {artifact.file}"
