"""Check the models of a release: the tensors in the weight files, and the evidence for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.architectures import ARCHITECTURES
from converter.digest import Digest, tensor_sha256
from converter.plan import make_plan
from converter.sources import open_source
from facenet_common.errors import FacenetError
from facenet_common.optional import missing
from facenet_common.text import one_line
from facenet_release.documents.canonical_json import parse_object, read_small_file, value_at
from facenet_release.documents.manifest import (
    CONVERSION_SCHEMA,
    Artifact,
    Manifest,
    Model,
    conversion_file,
    judged_file,
)
from facenet_release.errors import CheckFailedError
from parity_tests.model import ParityReport
from parity_tests.report.json_document import from_json

FORMATS = {"torch-zip": "pt", "safetensors": "safetensors"}  # the converter's names, and ours
GATES: tuple[str, ...] = ("weights", "float64", "float32")  # of every network
EMBEDDING_GATES: tuple[str, ...] = ("task",)  # of networks that compute embeddings
ONNX_GATES: tuple[str, ...] = ("float32",)  # an ONNX file shows only its outputs

Hashes = dict[str, str]  # SHA-256 of each tensor, by its name


class WeightFiles:
    """The weight files of a release; each is read once.

    Args:
        folder: The folder of the release.

    Examples:
        >>> files = WeightFiles(folder)  # doctest: +SKIP
        >>> files.check(model, model.artifacts[0]), files.compare(model)  # doctest: +SKIP
        ([], [])
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes: dict[str, Hashes] = {}

    def check(self, model: Model, artifact: Artifact) -> list[str]:
        """Return the findings about one weight file: format, network, sizes and tensors.

        Of an ONNX file, the hash alone is checked if the package onnx is not installed.
        """
        check = self._check_onnx if artifact.format == "onnx" else self._check_tensors
        try:
            return [f"{artifact.file}: {finding}" for finding in check(model, artifact)]
        except FacenetError as error:
            return [f"{artifact.file}: {one_line(error)}"]

    def compare(self, model: Model) -> list[str]:
        """Return how the checked files of a model differ from each other in their weights."""
        findings = []
        first: dict[str, tuple[str, Hashes]] = {}
        for artifact in model.artifacts:
            hashes = self._hashes.get(artifact.file)
            if hashes is None:
                continue
            name, expected = first.setdefault(artifact.part, (artifact.file, hashes))
            if hashes != expected:
                findings.append(f"{artifact.file}: its tensors differ from those of {name}")
        if "all" not in first:
            return findings
        whole, all_hashes = first.pop("all")
        for part, (name, hashes) in first.items():
            if not hashes.items() <= all_hashes.items():
                findings.append(f"{name}: its tensors differ from those of {whole}")
            if len(hashes) == len(all_hashes):
                findings.append(f"{name}: holds all tensors of {whole}, expected only {part}")
        return findings

    def _check_tensors(self, model: Model, artifact: Artifact) -> Iterator[str]:
        catalog = open_source(self._folder / artifact.file)
        if FORMATS.get(catalog.format) != artifact.format:
            yield f"expected format {artifact.format}, found {catalog.format}"
            return
        plan = make_plan(catalog, to="tensorflow")
        yield from _check_network(model, artifact, plan.architecture.name, plan.dims)
        digest, hashes = Digest(), {}
        for ref in catalog.values():
            hashes[ref.name] = tensor_sha256(ref.load())
            digest.add(ref, hashes[ref.name])
            catalog.release(ref.nbytes)
        self._hashes[artifact.file] = hashes
        found = digest.hexdigest()
        if found != artifact.tensor_digest:
            yield f"expected tensor digest {artifact.tensor_digest}, found {found}"

    def _check_onnx(self, model: Model, artifact: Artifact) -> Iterator[str]:
        if artifact.tensor_digest is not None:
            yield "it has a tensor digest; ONNX files have none"
        if missing(["onnx"]):
            return
        from parity_tests.candidate.onnx.facts import onnx_facts

        architecture, dims = onnx_facts(self._folder / artifact.file, _architecture(model))
        yield from _check_network(model, artifact, architecture, dims)


def _architecture(model: Model) -> str | None:
    """Return the name of the architecture of a model's class."""
    names = (name for name, a in ARCHITECTURES.items() if a.class_name == model.architecture)
    return next(names, None)


def _check_network(
    model: Model, artifact: Artifact, architecture: str, dims: Mapping[str, int]
) -> Iterator[str]:
    known = ARCHITECTURES.get(architecture)
    found = known.class_name if known else one_line(architecture)
    if found != model.architecture:
        yield f"expected {model.architecture}, found {found}"
    # Every part has the embedding's size, but `features` has no classifier.
    expected = {"embedding": model.embedding_size, "classes": model.classes}
    if artifact.part == "features":
        expected["classes"] = None
    for dim in sorted(expected.keys() | dims.keys()):
        size = dims.get(dim)
        if size != expected.get(dim) and not (size is None and artifact.format == "onnx"):
            yield f"expected {one_line(dim)} {expected.get(dim)}, found {size}"


def check_evidence(
    folder: Path, manifest: Manifest, model: Model, reports: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the findings about the evidence of a model: parity reports and conversion record.

    Args:
        folder: The folder of the release.
        manifest: Its manifest.
        model: One of the manifest's models.
        reports: The parity reports that its artifacts name, by the names of their files.

    Examples:
        >>> check_evidence(folder, manifest, manifest.models[0], reports)  # doctest: +SKIP
        []
    """
    findings = []
    for artifact in model.artifacts:
        # The other formats and parts hold the tensors that were judged, as their digests show.
        if artifact.format != "onnx" and (artifact.part, artifact.format) != ("all", "pt"):
            continue
        sha256 = manifest.by_name()[artifact.file].sha256
        try:
            report = from_json(dict(reports[artifact.evidence]))
        except FacenetError as error:
            findings.append(f"{artifact.evidence}: {one_line(error)}")
            continue
        found = _check_report(model, artifact, report, sha256)
        findings += [f"{artifact.evidence}: {finding}" for finding in found]
    if not any((a.part, a.format) == ("all", "pt") for a in model.artifacts):
        findings.append(f"{model.name}: no .pt file of the whole network, which must be judged")
    return [*findings, *_check_conversion(folder, manifest, model)]


def _check_report(
    model: Model, artifact: Artifact, report: ParityReport, sha256: str
) -> Iterator[str]:
    if report.candidate != judged_file(artifact.file, sha256):
        found = one_line(report.candidate)
        yield f"it judged {found}, not {artifact.file} of this release"
    if not report.passed:
        yield "the report did not pass"
    yield from _check_network(model, artifact, report.architecture, report.dims)
    needed = ONNX_GATES if artifact.format == "onnx" else GATES
    needed += EMBEDDING_GATES if model.embedding_size else ()
    passed = {gate.name for gate in report.gates if gate.status == "passed"}
    for name in needed:
        if name not in passed:
            yield f"the gate {name} did not pass"
    for gate in report.gates:
        # A comparison with NaN is always false.
        if gate.name in passed and (gate.findings or not gate.measured <= gate.tolerance):
            yield f"the gate {one_line(gate.name)} is marked as passed, but its figures fail"


def _check_conversion(folder: Path, manifest: Manifest, model: Model) -> Iterator[str]:
    """Yield how the conversion record differs from the manifest."""
    name = conversion_file(model.name)
    if name not in manifest.by_name():  # which is a finding about the manifest
        return
    try:
        record = parse_object(read_small_file(folder, name), name)
    except CheckFailedError as error:
        yield from (f"{name}: {finding}" for finding in error.findings)
        return
    if record.get("schema") != CONVERSION_SCHEMA or record.get("model") != model.name:
        yield f"{name}: not the conversion record of this model"
    if record.get("sources") != {source.name: source.sha256 for source in model.sources}:
        yield f"{name}: its sources differ from the manifest"
    for artifact in model.artifacts:
        if artifact.format == "onnx":
            continue
        expected = (manifest.by_name()[artifact.file].sha256, artifact.tensor_digest)
        row = value_at(record, "conversions", artifact.file)
        if (value_at(row, "sha256"), value_at(row, "tensor_digest")) != expected:
            yield f"{name}: {artifact.file} differs from the manifest"
