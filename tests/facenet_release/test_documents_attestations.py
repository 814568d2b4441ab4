"""The two in-toto attestations: their contents, and that no other document is accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from support import release_data as data

pytest.importorskip("rfc8785", reason='canonical JSON: pip install "facenet-parity[release]"')

from facenet_common.errors import ParityError
from facenet_release.documents.attestations import (
    REPORTS,
    SLSA_PROVENANCE,
    TEST_RESULT,
    Builder,
    check_parity_attestation,
    check_provenance,
    parity_attestation,
    provenance,
)
from facenet_release.documents.manifest import MANIFEST

START = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=timezone.utc)
BUILDER = Builder(
    id="https://github.com/octocat/hello/.github/workflows/release.yml@refs/tags/v1",
    invocation="https://github.com/octocat/hello/actions/runs/123/attempts/2",
    repository="git+https://github.com/octocat/hello@refs/tags/v1",
    commit="a" * 40,
    parameters={"event": "push", "runner": "github-hosted"},
)


def parity() -> bytes:
    return parity_attestation(data.manifest(), data.evidence())


def origin(**changes: Any) -> bytes:
    said: dict[str, Any] = {
        "started": START,
        "finished": START + timedelta(seconds=61),
        "builder": BUILDER,
        "versions": {"torch": "2.13.0+cpu", "python": "3.11.7"},
    }
    return provenance(data.manifest(), data.MANIFEST_SHA256, **(said | changes))


def wrong_parity(said: bytes) -> list[str]:
    return check_parity_attestation(said, data.manifest(), data.evidence())


def wrong_origin(said: bytes) -> list[str]:
    return check_provenance(said, data.manifest(), data.MANIFEST_SHA256)


CHECKS = pytest.mark.parametrize(
    ("make", "wrong"),
    [(parity, wrong_parity), (origin, wrong_origin)],
    ids=["parity", "provenance"],
)


def test_parity_is_about_the_weight_files() -> None:
    said = json.loads(parity())
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == TEST_RESULT
    subjects = {row["name"]: row["digest"] for row in said["subject"]}
    weights = {f.name: {"sha256": f.sha256} for f in data.manifest().files if f.role == "weights"}
    assert subjects == weights
    assert len(weights) == 9


def test_parity_says_what_the_reports_do() -> None:
    predicate = json.loads(parity())["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"] == [
        f"{name}/{gate}"
        for name in (data.FACE_REPORT, data.PNET_REPORT)
        for gate in ("weights", "float64")
    ]
    assert predicate["failedTests"] == predicate["warnedTests"] == []
    names = [row["name"] for row in predicate["configuration"]]
    assert names == [
        "det1.npy",
        "model.ckpt.index",
        "model.meta",
        data.FACE_REPORT,
        data.PNET_REPORT,
    ]
    pnet = predicate[REPORTS][1]
    assert pnet["artifacts"] == ["pnet.onnx", "pnet.pt", "pnet.safetensors"]
    assert pnet["gates"][1]["value"] == 1.3322676295501878e-15
    assert pnet["gates"][1]["limit"] == 1e-12
    assert pnet["gates"][2]["status"] == "skipped"
    assert pnet["gates"][2]["value"] == "NaN"


@pytest.mark.parametrize("status", ["failed", "errored"])
def test_what_did_not_pass_is_failed(status: Any) -> None:
    said = data.report(data.PNET_REPORT)
    gates = (*said.gates[:1], replace(said.gates[1], status=status))
    evidence = data.evidence() | {data.PNET_REPORT: data.as_json(replace(said, gates=gates))}
    statement = parity_attestation(data.manifest(), evidence)
    predicate = json.loads(statement)["predicate"]
    assert predicate["result"] == "FAILED"
    assert predicate["failedTests"] == [f"{data.PNET_REPORT}/float64"]
    found = check_parity_attestation(statement, data.manifest(), evidence)
    assert found == ["predicate.result: expected 'PASSED', found 'FAILED'"]


def test_parity_does_not_depend_on_how_long_it_took() -> None:
    said = data.report(data.PNET_REPORT)
    slower = replace(said, gates=tuple(replace(gate, seconds=99.5) for gate in said.gates))
    evidence = data.evidence() | {data.PNET_REPORT: data.as_json(slower)}
    assert parity_attestation(data.manifest(), evidence) == parity()


def test_parity_needs_reports() -> None:
    with pytest.raises(KeyError, match=data.FACE_REPORT):
        parity_attestation(data.manifest(), {})
    with pytest.raises(ParityError, match="not a parity report"):
        parity_attestation(data.manifest(), data.evidence() | {data.PNET_REPORT: {}})
    assert check_parity_attestation(parity(), data.manifest(), {}) == [
        f"{data.FACE_REPORT}: the parity report is missing"
    ]
    evidence = data.evidence() | {data.PNET_REPORT: {"schema": "other"}}
    assert "schema version" in check_parity_attestation(parity(), data.manifest(), evidence)[0]


def test_provenance_says_how_the_release_was_built() -> None:
    said = json.loads(origin())
    assert said["predicateType"] == SLSA_PROVENANCE
    names = [row["name"] for row in said["subject"]]
    assert names == sorted([*data.manifest().by_name(), MANIFEST])
    definition = said["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "name": "tiny",
        "version": "v1.0",
        "recipe": [
            {"name": "release.toml", "digest": {"sha256": data.sha256(b"release.toml")}},
        ],
    }
    dependencies = definition["resolvedDependencies"]
    assert {"name": "det1.npy", "digest": {"sha256": data.sha256(b"det1")}} in dependencies
    assert dependencies[-3:] == [
        {
            "uri": "git+https://github.com/octocat/hello@refs/tags/v1",
            "digest": {"gitCommit": "a" * 40},
        },
        {"uri": "pkg:generic/python@3.11.7"},
        {"uri": "pkg:pypi/torch@2.13.0%2Bcpu"},
    ]
    assert said["predicate"]["runDetails"] == {
        "builder": {
            "id": "https://github.com/octocat/hello/.github/workflows/release.yml@refs/tags/v1"
        },
        "metadata": {
            "invocationId": "https://github.com/octocat/hello/actions/runs/123/attempts/2",
            "startedOn": "2026-01-31T23:59:59Z",
            "finishedOn": "2026-02-01T00:01:00Z",
        },
    }


def test_times_are_utc_and_have_a_zone() -> None:
    there = START.astimezone(timezone(timedelta(hours=-5)))
    assert origin(started=there) == origin()
    with pytest.raises(ValueError, match="time zone"):
        origin(started=datetime(2026, 1, 31))


def test_a_local_builder_needs_no_more_than_its_name() -> None:
    said = origin(builder=Builder("facenet-parity:builder/local"))
    assert b"gitCommit" not in said
    assert wrong_origin(said) == []


@CHECKS
def test_what_was_made_is_accepted(make: Callable[[], bytes], wrong: Callable[..., Any]) -> None:
    assert make() == make()
    assert wrong(make()) == []


def edit(said: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(said)
    change(document)
    return json.dumps(document).encode()


@CHECKS
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"), "_type"),
        (lambda d: d.update(predicateType="https://example.com"), "predicateType"),
        (lambda d: d.update(subject="all"), "subject: expected a list"),
        (lambda d: d["subject"].pop(), "is missing"),
        (lambda d: d["subject"].append(d["subject"][0]), "invalid or repeated name"),
        (lambda d: d["subject"].append({"digest": {}}), "invalid or repeated name None"),
        (
            lambda d: d["subject"].append({"name": "x", "digest": {}}),
            "x is not a file of this",
        ),
        (lambda d: d["subject"][0]["digest"].update(sha256="0" * 64), "the SHA-256 differs"),
        (lambda d: d["subject"][0].update(digest=[]), "the SHA-256 differs"),
        (lambda d: d.update(predicate=None), "predicate"),
    ],
)
def test_another_statement_is_found_out(
    make: Callable[[], bytes],
    wrong: Callable[[bytes], list[str]],
    change: Callable[[dict[str, Any]], object],
    found: str,
) -> None:
    assert any(found in finding for finding in wrong(edit(make(), change)))


@CHECKS
@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b"[" + b + b"]",
        lambda b: b[:1] + b'"_type":"x",' + b[1:],
        lambda _: b"[" * 100_000,
        lambda _: b"\xff",
        lambda b: b.replace(b'"', b"", 1),
        lambda b: b[:-1] + b',"more":NaN}',
        lambda b: b + b" " * (16 << 20),
    ],
    ids=["cut", "list", "invalid or repeated name", "deep", "bytes", "quote", "nan", "long"],
)
def test_damage_is_found(
    make: Callable[[], bytes],
    wrong: Callable[[bytes], list[str]],
    damage: Callable[[bytes], bytes],
) -> None:
    assert len(wrong(damage(make()))) == 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda p: p.update(result="WARNED"), "result"),
        (lambda p: p["passedTests"].pop(), "passedTests"),
        (lambda p: p["configuration"].pop(), "configuration"),
        (lambda p: p[REPORTS][0]["gates"][1].update(value=0), REPORTS),
        (lambda p: p.pop(REPORTS), REPORTS),
    ],
)
def test_another_result_is_found_out(change: Callable[[Any], object], found: str) -> None:
    findings = wrong_parity(edit(parity(), lambda d: change(d["predicate"])))
    assert findings
    assert all(found in finding for finding in findings)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d, _: d.update(buildType="make"), "buildType"),
        (lambda d, _: d["externalParameters"].update(version="v2"), "externalParameters"),
        (lambda d, _: d["externalParameters"].update(more=1), "externalParameters"),
        (lambda d, _: d["resolvedDependencies"].pop(0), "det1.npy is missing"),
        (lambda d, _: d.update(resolvedDependencies={}), "model.meta is missing"),
        (lambda _, r: r["builder"].update(id="me"), "builder.id"),
        (lambda _, r: r.pop("builder"), "builder.id"),
        (lambda _, r: r["metadata"].update(startedOn="yesterday"), "startedOn"),
        (lambda _, r: r["metadata"].pop("finishedOn"), "finishedOn"),
        (lambda _, r: r["metadata"].update(startedOn="2027-01-01T00:00:00Z"), "before it started"),
    ],
)
def test_another_origin_is_found_out(change: Callable[[Any, Any], object], found: str) -> None:
    def both(document: dict[str, Any]) -> None:
        predicate = document["predicate"]
        change(predicate["buildDefinition"], predicate["runDetails"])

    findings = wrong_origin(edit(origin(), both))
    assert findings
    assert any(found in finding for finding in findings)


def test_unknown_fields_are_ignored() -> None:
    """As in-toto demands, but for external parameters."""
    assert wrong_origin(edit(origin(), lambda d: d["predicate"].update(more=1))) == []
    assert wrong_parity(edit(parity(), lambda d: d["predicate"].update(more=1))) == []


@CHECKS
def test_in_toto_reads_it(make: Callable[[], bytes], wrong: Callable[..., Any]) -> None:
    """The statement, and the predicate that it names, by in-toto's own definitions."""
    del wrong
    pytest.importorskip("in_toto_attestation", reason="comes with model-signing")
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement, statement_pb2

    said = json.loads(make())
    read = statement.Statement.copy_from_pb(json_format.ParseDict(said, statement_pb2.Statement()))
    read.validate()
    predicate = said["predicate"]
    if said["predicateType"] == TEST_RESULT:
        del predicate[REPORTS]
        json_format.ParseDict(predicate, test_result_pb2.TestResult())
    else:
        json_format.ParseDict(predicate, provenance_pb2.Provenance())
