"""The two in-toto attestations of a release: its parity tests, and how it was built.

Both are in-toto Statements v1, in canonical JSON, unsigned: the signature of the whole folder
covers them.

**Parity** uses in-toto's predicate test-result v0.1, so that policies which support it can read
``result`` and ``passedTests`` without support for this project. A test is named ``REPORT/GATE``,
after the file of the parity report. A gate that could not be judged counts as failed; one that
does not apply is in neither list. Values, limits and the judged weight files have no field in
test-result; they are in the extension field ``facenetparity_reports``.

**Provenance** uses the predicate SLSA provenance v1. `BUILD_TYPE` means: ``facenet release build``
ran on the recipe in ``externalParameters``, whose bytes are in the release. The recipe's sources,
the program and its libraries are ``resolvedDependencies``. The builder states all of this itself,
so it reaches SLSA level 1 at most, unless the builder's platform signs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from facenet_common.errors import FacenetError
from facenet_common.text import one_line
from facenet_release.documents.canonical_json import canonical, parse_object, value_at
from facenet_release.documents.manifest import MANIFEST, PARITY, PROVENANCE, Manifest, Model
from facenet_release.errors import CheckFailedError
from parity_tests.model import GateResult, ParityReport
from parity_tests.report.json_document import from_json, to_json

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "facenet-parity:release-build/v1"
REPORTS = "facenetparity_reports"

Json = Mapping[str, Any]
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # RFC 3339


@dataclass(frozen=True)
class Builder:
    """The builder of a release.

    `id` is a URI; `invocation` identifies the run; `commit` is a commit of `repository`.
    `parameters` are internal: a caller can't set them.
    """

    id: str
    invocation: str | None = None
    repository: str | None = None
    commit: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def parity_attestation(manifest: Manifest, reports: Mapping[str, Json]) -> bytes:
    """Return the attestation of the parity tests, whose subjects are the weight files.

    Args:
        manifest: The manifest, or a draft that does not name the attestation itself yet.
        reports: Each parity report, as `parity_tests.report.json_document.to_json` returns it,
            under the name of its file.

    Raises:
        ParityError: A report is not valid.
        KeyError: A report is missing.

    Examples:
        >>> data = parity_attestation(manifest, reports)  # doctest: +SKIP
    """
    digests = _digests(manifest)
    parsed = [
        (model, name, from_json(reports[name]))
        for model in manifest.models
        for name in model.reports()
    ]
    gates = [(f"{name}/{gate.name}", gate) for _, name, r in parsed for gate in r.gates]
    predicate = {
        "result": "PASSED" if all(report.passed for _, _, report in parsed) else "FAILED",
        "configuration": [
            *_sources(manifest.models),
            *(_resource(name, digests[name]) for _, name, _ in parsed),
        ],
        "passedTests": [name for name, gate in gates if gate.status == "passed"],
        "warnedTests": [],
        "failedTests": [name for name, gate in gates if gate.status in ("failed", "errored")],
        REPORTS: [
            {"evidence": _resource(name, digests[name])} | _report_fields(model, name, report)
            for model, name, report in parsed
        ],
    }
    weights = {file.name: file.sha256 for file in manifest.files if file.role == "weights"}
    return _statement(weights, TEST_RESULT, predicate)


def check_parity_attestation(
    data: bytes, manifest: Manifest, reports: Mapping[str, Json]
) -> list[str]:
    """Return the findings about a parity attestation: all that the reports do not support.

    Examples:
        >>> check_parity_attestation(data, manifest, reports)  # doctest: +SKIP
        []
    """
    try:
        found = parse_object(data, PARITY)
        expected = parse_object(parity_attestation(manifest, reports), PARITY)
    except CheckFailedError as error:
        return list(error.findings)
    except KeyError as error:
        return [f"{one_line(error.args[0])}: the parity report is missing"]
    except FacenetError as error:
        return [one_line(error)]
    findings = _check_statement(found, expected)
    predicate = found.get("predicate")
    findings += [
        f"predicate.{key}: differs from the parity reports"
        for key, value in expected["predicate"].items()
        if value_at(predicate, key) != value
    ]
    result = value_at(predicate, "result")
    if result != "PASSED":
        findings.append(f"predicate.result: expected 'PASSED', found {_quoted(result)}")
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
    """Return the provenance: how each file of the manifest, and the manifest itself, was built.

    Args:
        manifest: The manifest.
        manifest_sha256: The SHA-256 of its bytes.
        started, finished: The times of the build, with a time zone.
        builder: The builder.
        versions: The versions of Python and of the packages that took part, by their names.

    Raises:
        ValueError: A time has no time zone.

    Examples:
        >>> data = provenance(manifest, sha256, **build)  # doctest: +SKIP
    """
    run: dict[str, Any] = {"startedOn": _time(started), "finishedOn": _time(finished)}
    if builder.invocation:
        run["invocationId"] = builder.invocation
    commit = {"uri": builder.repository, "digest": {"gitCommit": builder.commit}}
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": _parameters(manifest),
            "internalParameters": {"software": manifest.software, **builder.parameters},
            "resolvedDependencies": [
                *_sources(manifest.models),
                *([commit] if builder.commit else []),
                *({"uri": _purl(*row)} for row in sorted(versions.items())),
            ],
        },
        "runDetails": {"builder": {"id": builder.id}, "metadata": run},
    }
    subjects = _digests(manifest) | {MANIFEST: manifest_sha256}
    return _statement(subjects, SLSA_PROVENANCE, predicate)


def check_provenance(data: bytes, manifest: Manifest, manifest_sha256: str) -> list[str]:
    """Return the findings about a provenance: malformed, or of another release.

    Examples:
        >>> check_provenance(data, manifest, sha256)  # doctest: +SKIP
        []
    """
    try:
        found = parse_object(data, PROVENANCE)
    except CheckFailedError as error:
        return list(error.findings)
    subjects = _digests(manifest) | {MANIFEST: manifest_sha256}
    expected = parse_object(_statement(subjects, SLSA_PROVENANCE, {}), PROVENANCE)
    findings = _check_statement(found, expected)
    definition = value_at(found, "predicate", "buildDefinition")
    details = value_at(found, "predicate", "runDetails")
    where = "predicate.buildDefinition"
    build_type = value_at(definition, "buildType")
    if build_type != BUILD_TYPE:
        findings.append(f"{where}.buildType: expected {BUILD_TYPE!r}, found {_quoted(build_type)}")
    # SLSA asks verifiers to reject external parameters that they don't expect.
    if value_at(definition, "externalParameters") != _parameters(manifest):
        findings.append(f"{where}.externalParameters: differ from this release")
    listed = value_at(definition, "resolvedDependencies")
    for source in _sources(manifest.models):
        if not isinstance(listed, list) or source not in listed:
            findings.append(f"{where}.resolvedDependencies: {source['name']} is missing")
    builder = value_at(details, "builder", "id")
    if not isinstance(builder, str) or ":" not in builder:
        findings.append("predicate.runDetails.builder.id: expected a URI")
    return findings + _check_times(value_at(details, "metadata"))


def _statement(subjects: Mapping[str, str], kind: str, predicate: Mapping[str, Any]) -> bytes:
    return canonical(
        {
            "_type": STATEMENT,
            "subject": [_resource(*row) for row in sorted(subjects.items())],
            "predicateType": kind,
            "predicate": predicate,
        }
    )


def _check_statement(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return how the types and the subjects of a statement differ from those expected."""
    findings = [
        f"{key}: expected {expected[key]!r}, found {_quoted(found.get(key))}"
        for key in ("_type", "predicateType")
        if found.get(key) != expected[key]
    ]
    subjects = found.get("subject")
    if not isinstance(subjects, list):
        return [*findings, "subject: expected a list"]
    digests: dict[str, object] = {}
    for subject in subjects:
        name = value_at(subject, "name")
        if not isinstance(name, str) or name in digests:
            findings.append(f"subject: invalid or repeated name {_quoted(name)}")
        else:
            digests[name] = value_at(subject, "digest", "sha256")
    wanted = {subject["name"]: subject["digest"]["sha256"] for subject in expected["subject"]}
    for name in sorted(digests.keys() | wanted.keys()):
        if name not in digests:
            findings.append(f"subject: {name} is missing")
        elif name not in wanted:
            findings.append(f"subject: {one_line(name)[:200]} is not a file of this release")
        elif digests[name] != wanted[name]:
            findings.append(f"subject: {name}: the SHA-256 differs from the manifest")
    return findings


def _check_times(metadata: object) -> list[str]:
    times = []
    for key in ("startedOn", "finishedOn"):
        try:
            times.append(datetime.strptime(str(value_at(metadata, key)), _TIME))
        except ValueError:
            where = f"predicate.runDetails.metadata.{key}"
            return [f"{where}: expected a time such as 2026-01-31T23:59:59Z"]
    if times[1] < times[0]:
        return ["predicate.runDetails.metadata: finished before it started"]
    return []


def _quoted(value: object) -> str:
    return one_line(repr(value))[:200]


def _time(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("expected a time with a time zone")
    return moment.astimezone(timezone.utc).strftime(_TIME)


def _parameters(manifest: Manifest) -> dict[str, Any]:
    # A digest identifies the recipe: it is from the caller's disk and has no address.
    recipes = [file for file in manifest.files if file.role == "recipe"]
    return {
        "name": manifest.name,
        "version": manifest.version,
        "recipe": [_resource(file.name, file.sha256) for file in recipes],
    }


def _digests(manifest: Manifest) -> dict[str, str]:
    return {file.name: file.sha256 for file in manifest.files}


def _resource(name: str, sha256: str) -> dict[str, Any]:
    """Return in-toto's ResourceDescriptor of a file."""
    return {"name": name, "digest": {"sha256": sha256}}


def _sources(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Return the descriptors of the files that the models were converted from, each once."""
    sources = {(source.name, source.sha256) for model in models for source in model.sources}
    return [_resource(*row) for row in sorted(sources)]


def _purl(name: str, version: str) -> str:
    """Return a package URL; generic where PyPI has no such package."""
    kind = "generic" if name in ("python", "facenet-parity") else "pypi"
    return f"pkg:{kind}/{quote(name.lower(), safe='')}@{quote(version, safe='')}"


def _report_fields(model: Model, evidence: str, report: ParityReport) -> dict[str, Any]:
    """Return the extension's fields of a report, without durations, which differ in each run."""
    data = to_json(report)  # has no NaN, unlike the report
    rows: list[tuple[GateResult, Any]] = list(zip(report.gates, data["gates"], strict=True))
    return {
        "model": model.name,
        "artifacts": [row.file for row in model.artifacts if row.evidence == evidence],
        "passed": report.passed,
        "architecture": model.architecture,
        "sources": [_resource(source.name, source.sha256) for source in model.sources],
        "feeds": data["feeds"],
        "environment": data["environment"],
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
