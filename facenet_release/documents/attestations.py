"""The two in-toto statements of a release: what its parity tests found, and how it was built.

Both are in-toto Statements v1, in canonical JSON, unsigned: the signature of the whole folder
covers them.

**Parity** has the predicate test-result v0.1 of in-toto rather than one of ours, so that policies
which know it can ask for ``result`` and ``passedTests`` without knowing this project. A test is
called ``REPORT/GATE``, with the file name of the parity report; a gate that could not be judged
counts as failed, one that does not apply is in neither list. What test-result has no place for,
such as values, limits, and which weight files were judged, is in the extension field
``facenetparity_reports``.

**Provenance** has the predicate SLSA provenance v1. `BUILD_TYPE` means: ``facenet release build``
was run on the recipe in ``externalParameters``, whose bytes are in the release. The sources that
the recipe names, the program and its libraries are ``resolvedDependencies``. It is the builder's
own word: of no higher SLSA level than 1 unless the builder's platform signs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from facenet_common.errors import FacenetError
from facenet_common.text import one_line
from facenet_release.building.builder import Builder
from facenet_release.documents.canonical_json import at, canonical, read
from facenet_release.documents.manifest import MANIFEST, PROVENANCE, Manifest, Model
from facenet_release.errors import CheckFailedError
from parity_tests.model import GateResult, ParityReport
from parity_tests.report.json_document import from_json, to_json

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "facenet-parity:release-build/v1"
PARITY = "parity.intoto.json"
REPORTS = "facenetparity_reports"

Json = Mapping[str, Any]
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # RFC 3339


def parity_statement(manifest: Manifest, evidence: Mapping[str, Json]) -> bytes:
    """What the parity tests of a release found, about its weight files.

    `manifest` may be a draft that does not name the statement itself yet. `evidence` holds each
    parity report, as `parity_tests.report.json_document.to_json` gives it, under its file's name.

    Raises ParityError for a report that is none, KeyError for one that is not there.
    """
    digests = _digests(manifest)
    reports = [
        (model, name, from_json(evidence[name]))
        for model in manifest.models
        for name in model.reports()
    ]
    gates = [(f"{name}/{gate.name}", gate) for _, name, r in reports for gate in r.gates]
    predicate = {
        "result": "PASSED" if all(report.passed for _, _, report in reports) else "FAILED",
        "configuration": [
            *_dependencies(manifest.models),
            *(_resource(name, digests[name]) for _, name, _ in reports),
        ],
        "passedTests": [name for name, gate in gates if gate.status == "passed"],
        "warnedTests": [],
        "failedTests": [name for name, gate in gates if gate.status in ("failed", "errored")],
        REPORTS: [
            {"evidence": _resource(name, digests[name])} | _found(model, name, report)
            for model, name, report in reports
        ],
    }
    weights = {file.name: file.sha256 for file in manifest.files if file.role == "weights"}
    return _statement(weights, TEST_RESULT, predicate)


def check_parity_statement(
    data: bytes, manifest: Manifest, evidence: Mapping[str, Json]
) -> list[str]:
    """What is wrong with a parity statement: all that the evidence does not bear out."""
    try:
        said = read(data, PARITY)
        expected = read(parity_statement(manifest, evidence), PARITY)
    except CheckFailedError as error:
        return list(error.findings)
    except KeyError as error:
        return [f"{one_line(error.args[0])}: there is no such parity report"]
    except FacenetError as error:
        return [one_line(error)]
    findings = _wrong_statement(said, expected)
    predicate = said.get("predicate")
    findings += [
        f"predicate.{field}: not what the parity reports say"
        for field, value in expected["predicate"].items()
        if at(predicate, field) != value
    ]
    if at(predicate, "result") != "PASSED":
        findings.append(f"predicate.result: {at(predicate, 'result')!r} is not 'PASSED'")
    return findings


def provenance(
    manifest: Manifest,
    manifest_sha256: str,
    *,
    started: datetime,
    finished: datetime,
    builder: Builder,
    versions: Mapping[str, str],
) -> bytes:
    """How a release was built, about each file that its manifest names and the manifest itself.

    `started` and `finished` must have a time zone. `versions` are those of the packages that took
    part, under their names (`facenet_release.building.builder.versions`).
    """
    run: dict[str, Any] = {"startedOn": _time(started), "finishedOn": _time(finished)}
    if builder.invocation:
        run["invocationId"] = builder.invocation
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": _parameters(manifest),
            "internalParameters": {"software": manifest.software, **builder.parameters},
            "resolvedDependencies": [
                *_dependencies(manifest.models),
                *([_commit(builder)] if builder.commit else []),
                *({"uri": _purl(name, version)} for name, version in sorted(versions.items())),
            ],
        },
        "runDetails": {"builder": {"id": builder.id}, "metadata": run},
    }
    subjects = _digests(manifest) | {MANIFEST: manifest_sha256}
    return _statement(subjects, SLSA_PROVENANCE, predicate)


def check_provenance(data: bytes, manifest: Manifest, manifest_sha256: str) -> list[str]:
    """What is wrong with a provenance: malformed, or of another release than this."""
    try:
        said = read(data, PROVENANCE)
    except CheckFailedError as error:
        return list(error.findings)
    subjects = _digests(manifest) | {MANIFEST: manifest_sha256}
    findings = _wrong_statement(said, read(_statement(subjects, SLSA_PROVENANCE, {}), PROVENANCE))
    definition, details = (
        at(said, "predicate", part) for part in ("buildDefinition", "runDetails")
    )
    where = "predicate.buildDefinition"
    if at(definition, "buildType") != BUILD_TYPE:
        found = one_line(repr(at(definition, "buildType")))
        findings.append(f"{where}.buildType: {found} is not {BUILD_TYPE!r}")
    # SLSA has verifiers refuse parameters that they don't know.
    if at(definition, "externalParameters") != _parameters(manifest):
        findings.append(f"{where}.externalParameters: not those of this release")
    listed = at(definition, "resolvedDependencies")
    for source in _dependencies(manifest.models):
        if not isinstance(listed, list) or source not in listed:
            findings.append(f"{where}.resolvedDependencies: {source['name']} is missing")
    builder = at(details, "builder", "id")
    if not isinstance(builder, str) or ":" not in builder:
        findings.append("predicate.runDetails.builder.id: there is no URI")
    return findings + _wrong_times(at(details, "metadata"))


def _statement(subjects: Mapping[str, str], kind: str, predicate: Mapping[str, Any]) -> bytes:
    return canonical(
        {
            "_type": STATEMENT,
            "subject": [_resource(name, sha256) for name, sha256 in sorted(subjects.items())],
            "predicateType": kind,
            "predicate": predicate,
        }
    )


def _wrong_statement(said: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """How type and subjects of a statement differ from those expected."""
    findings = [
        f"{field}: {one_line(repr(said.get(field)))[:200]} is not {expected[field]!r}"
        for field in ("_type", "predicateType")
        if said.get(field) != expected[field]
    ]
    subjects = said.get("subject")
    if not isinstance(subjects, list):
        return [*findings, "subject: there is no list"]
    found: dict[str, object] = {}
    for subject in subjects:
        name = at(subject, "name")
        if not isinstance(name, str) or name in found:
            findings.append(f"subject: {one_line(repr(name))[:200]} is no name, or is there twice")
        else:
            found[name] = at(subject, "digest", "sha256")
    wanted = {subject["name"]: subject["digest"]["sha256"] for subject in expected["subject"]}
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found:
            findings.append(f"subject: {name} is missing")
        elif name not in wanted:
            findings.append(f"subject: {one_line(name)[:200]} is no subject of this release")
        elif found[name] != wanted[name]:
            findings.append(f"subject: {name} has another SHA-256 than the manifest says")
    return findings


def _wrong_times(metadata: object) -> list[str]:
    times = []
    for field in ("startedOn", "finishedOn"):
        try:
            times.append(datetime.strptime(str(at(metadata, field)), _TIME))
        except ValueError:
            return [f"predicate.runDetails.metadata.{field}: no time such as 2026-01-31T23:59:59Z"]
    if times[1] < times[0]:
        return ["predicate.runDetails.metadata: finished before it started"]
    return []


def _time(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone means another one elsewhere")
    return moment.astimezone(timezone.utc).strftime(_TIME)


def _parameters(manifest: Manifest) -> dict[str, Any]:
    """The recipe is given by digest: it comes from the caller's disk, which has no address."""
    recipes = [file for file in manifest.files if file.role == "recipe"]
    return {
        "name": manifest.name,
        "version": manifest.version,
        "recipe": [_resource(file.name, file.sha256) for file in recipes],
    }


def _digests(manifest: Manifest) -> dict[str, str]:
    return {file.name: file.sha256 for file in manifest.files}


def _resource(name: str, sha256: str) -> dict[str, Any]:
    """in-toto's ResourceDescriptor of a file."""
    return {"name": name, "digest": {"sha256": sha256}}


def _dependencies(models: Sequence[Model]) -> list[dict[str, Any]]:
    """The files that the models were converted from, each once."""
    sources = {(source.name, source.sha256) for model in models for source in model.sources}
    return [_resource(name, sha256) for name, sha256 in sorted(sources)]


def _commit(builder: Builder) -> dict[str, Any]:
    return {"uri": builder.repository, "digest": {"gitCommit": builder.commit}}


def _purl(name: str, version: str) -> str:
    """A package URL. Python is in no package index, nor need this program be: it is generic."""
    kind = "generic" if name in ("python", "facenet-parity") else "pypi"
    return f"pkg:{kind}/{quote(name.lower(), safe='')}@{quote(version, safe='')}"


def _found(model: Model, evidence: str, report: ParityReport) -> dict[str, Any]:
    """What test-result has no place for. Leaves out durations, which differ from run to run."""
    said = to_json(report)  # has no NaN, unlike the report
    rows: list[tuple[GateResult, Any]] = list(zip(report.gates, said["gates"], strict=True))
    return {
        "model": model.name,
        "artifacts": [row.file for row in model.artifacts if row.evidence == evidence],
        "passed": report.passed,
        "architecture": model.architecture,
        "sources": [_resource(source.name, source.sha256) for source in model.sources],
        "feeds": said["feeds"],
        "environment": said["environment"],
        "gates": [
            {
                "name": gate.name,
                "status": gate.status,
                "formula": gate.formula,
                "value": row["measured"],
                "limit": row["tolerance"],
                "details": row["details"],
            }
            for gate, row in rows
        ],
    }
