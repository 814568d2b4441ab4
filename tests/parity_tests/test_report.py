"""Reports say what the model holds, in every form, whatever strings a file brought along."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.reports import EVERY, a_report, gate, probe

from facenet_common.errors import OutputError, ParityError
from parity_tests import report as reports
from parity_tests.model import (
    SCHEMA,
    ULP_BUCKETS,
    Comparison,
    Finding,
    GateResult,
    Measure,
    ParityReport,
    ProbeResult,
    Tolerance,
)
from parity_tests.report.json_document import schema
from parity_tests.report.words import probe_status

ANY = pytest.mark.parametrize("report", EVERY.values(), ids=EVERY)

# Strings that JSON keeps: two halves of a surrogate pair side by side become one character.
_FLOATS = st.floats() | st.integers(-5, 5).map(float)
_TEXT = st.text(max_size=8)
_KIND = st.sampled_from(["same", "values", "shape", "dtype", "nonfinite", "missing", "extra"])
_MEASURES = st.builds(
    Measure,
    *(st.integers(0), *[_FLOATS] * 5, st.lists(st.integers(0), max_size=4).map(tuple)),
    *[_FLOATS] * 2,
    st.lists(st.integers(0, 2**40), max_size=ULP_BUCKETS).map(tuple),
)
_COMPARISONS = st.builds(
    Comparison,
    _KIND,
    st.none() | st.builds(Tolerance, _FLOATS, _FLOATS),
    st.none() | _MEASURES,
    _TEXT,
    _TEXT,
)


def _tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(of, max_size=2).map(tuple)


_REPORTS = st.builds(
    ParityReport,
    *[_TEXT] * 3,
    st.dictionaries(_TEXT, st.integers(), max_size=2),
    _tuples(
        st.builds(
            GateResult,
            _TEXT,
            st.sampled_from(["passed", "failed", "errored", "skipped"]),
            _TEXT,
            *[_FLOATS] * 2,
            _TEXT,
            _tuples(st.builds(Finding, *[_TEXT] * 4)),
            st.dictionaries(_TEXT, _FLOATS | st.integers() | _TEXT | st.just("NaN"), max_size=3),
            st.floats(0, 9),
        )
    ),
    _tuples(
        st.builds(
            ProbeResult,
            _TEXT,
            _tuples(_TEXT),
            st.sampled_from(["same", "source", "inherited", "drift", "errored"]),
            *[st.none() | _COMPARISONS] * 2,
            _TEXT,
        )
    ),
    _tuples(_TEXT),
    st.dictionaries(_TEXT, _TEXT, max_size=2),
    _tuples(st.tuples(_TEXT, _FLOATS, _FLOATS)),
    _TEXT,
    _tuples(_TEXT),
    st.booleans(),
)


def valid(data: object) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema: extra dev")
    stored = json.loads((files(reports) / "report-2.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(stored)
    jsonschema.Draft202012Validator(stored).validate(data)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(_REPORTS)
def test_json_round_trip_and_every_other_form_holds(report: ParityReport) -> None:
    data = json.loads(json.dumps(reports.to_json(report), allow_nan=False))
    assert repr(reports.from_json(data)) == repr(report)  # repr: NaN is not itself
    valid(data)
    for form in ("text", "junit", "markdown", "html"):
        assert reports.render(report, form)


@ANY
def test_every_report_is_valid_and_comes_back(report: ParityReport, tmp_path: Path) -> None:
    reports.save(report, tmp_path / "r.json", "json")
    valid(json.loads((tmp_path / "r.json").read_bytes()))
    assert repr(reports.load(tmp_path / "r.json")) == repr(report)


def test_the_stored_schema_is_the_models() -> None:
    path = files(reports) / "report-2.schema.json"
    fresh = json.dumps(schema(), indent=2) + "\n"
    assert path.read_text(encoding="utf-8") == fresh, (
        "the model has changed. If only by additions nobody has read yet, write `schema()` to the "
        "file; else raise the number in model.SCHEMA"
    )
    assert {field.name for field in fields(ParityReport)} < set(schema()["properties"])


def _damaged() -> dict[str, Any]:
    good = reports.to_json(EVERY["failed"])
    one = good["gates"][0]
    return {
        "not an object": [1],
        "no schema": {},
        "newer": good | {"schema": "facenet-parity/report/3"},
        "schema of another type": good | {"schema": {"a": 1}},
        "missing key": {key: value for key, value in good.items() if key != "notes"},
        "unknown key": good | {"more": 1},
        "a verdict that its gates don't bear out": good | {"passed": True},
        "no verdict": {key: value for key, value in good.items() if key != "passed"},
        "text for a number": good | {"gates": [one | {"measured": "much"}]},
        "bare NaN": good | {"gates": [one | {"measured": math.nan}]},
        "a number without end": good | {"gates": [one | {"measured": 10**400}]},
        "true for a number": good | {"gates": [one | {"measured": True}]},
        "unknown status": good | {"gates": [one | {"status": "fine"}]},
        "status of another type": good | {"gates": [one | {"status": []}]},
        "a list in details": good | {"gates": [one | {"details": {"a": []}}]},
        "null in details": good | {"gates": [one | {"details": {"a": None}}]},
        "object for list": good | {"probes": {}},
        "two of three": good | {"embeddings": [["a", 1.0]]},
        "number for text": good | {"command": 1},
    }


@pytest.mark.parametrize("data", _damaged().values(), ids=_damaged())
def test_damaged_json_is_refused(data: object) -> None:
    with pytest.raises(ParityError) as caught:
        reports.from_json(data)
    assert caught.value.next_step


def test_an_unknown_version_says_what_to_do() -> None:
    data = reports.to_json(EVERY["passed"]) | {"schema": "facenet-parity/report/9"}
    with pytest.raises(ParityError, match="schema version") as caught:
        reports.from_json(data)
    assert (caught.value.expected, caught.value.found) == (SCHEMA, "facenet-parity/report/9")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"9" * 9_999])
def test_foreign_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ParityError) as caught:
        reports.load(tmp_path / "x.json")
    assert "x.json" in str(caught.value)
    with pytest.raises(ParityError):
        reports.load(tmp_path / "absent.json")


def test_saving_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    for report in (EVERY["failed"], EVERY["passed"]):
        reports.save(report, target, "html")
    assert "PASSED" in target.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(OutputError):
        reports.save(EVERY["passed"], tmp_path / "absent" / "r.html", "html")


@ANY
def test_the_headline_stands_first_and_nothing_controls_the_terminal(report: ParityReport) -> None:
    for shown in (reports.text(report), reports.text(report, width=60)):
        first = shown.splitlines()[0]
        assert first.startswith(report.headline[:6])
        assert all(c.isprintable() or c == "\n" for c in shown)
        shown.encode()
    assert "\x1b" in reports.text(EVERY["failed"], colour=True, width=60)


def test_text_is_plain_in_a_pipe_and_survives_narrow_encodings() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    reports.show(EVERY["failed"], stream)
    stream.seek(0)
    shown = stream.read()
    assert "\x1b" not in shown
    assert shown.startswith("FAILED at conv: transposed\n")


def test_text_shows_gates_layers_distances_and_how_to_reproduce() -> None:
    report = replace(
        EVERY["failed"], embeddings=(("face.png", 0.25, 0.5),), command="again", notes=("small",)
    )
    shown = reports.text(report)
    for piece in (
        "weights",
        "x <= 1",
        "transposed",
        "source",
        "2e-5",
        "face.png",
        "again",
        "small",
    ):
        assert piece in shown, piece
    assert "200 more are the same" in reports.text(EVERY["deep"])


@ANY
def test_junit_has_a_case_for_every_gate_and_probe(report: ParityReport) -> None:
    top = ElementTree.fromstring(reports.junit(report))
    (suite,) = top
    cases = suite.findall("testcase")
    statuses = [g.status for g in report.gates] + [probe_status(p) for p in report.probes]
    green = not any(status in ("failed", "errored") for status in statuses)
    assert len(cases) == len(statuses) + (green and not report.passed)
    assert int(suite.attrib["tests"]) == len(cases)
    for child, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert len(suite.findall(f"testcase/{child}")) == int(suite.attrib[count])
    bad = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    assert report.passed or bad, "red or green as the report is"


def test_junit_states() -> None:
    report = a_report(gate("failed"), gate("errored"), gate("skipped"), gate())
    cases = ElementTree.fromstring(reports.junit(report)).iter("testcase")
    assert [case[0].tag for case in cases] == ["failure", "error", "skipped", "system-out"]


@pytest.mark.parametrize("form", ["text", "markdown", "junit", "html"])
def test_a_gate_that_was_not_applied_has_a_dash_for_a_number(form: reports.Form) -> None:
    """NaN is for what was measured and is no number."""
    unapplied = replace(gate("skipped"), measured=math.nan, tolerance=0.0)
    for made in (unapplied, replace(unapplied, status="errored")):
        shown = reports.render(a_report(made), form)
        assert "NaN" not in shown
    assert "NaN" in reports.render(a_report(replace(unapplied, status="failed")), form)


@pytest.mark.parametrize("verdict", ["same", "drift"])
def test_a_probe_beyond_its_tolerance_has_failed_whatever_its_verdict(verdict: str) -> None:
    assert probe_status(probe("a", verdict, "values")) == "failed"
    assert probe_status(probe("a", verdict)) == "passed"


@ANY
def test_markdown_keeps_tables_whole(report: ParityReport) -> None:
    shown = reports.markdown(report)
    width = 0
    for row in shown.splitlines():
        if not row.startswith("|"):
            width = 0
            continue
        width = width or row.count("|")
        assert row.count("|") == width, row
        assert row.endswith("|")
    tags = set(re.findall(r"</?([a-z]+)", shown, re.IGNORECASE))
    assert tags <= {"code", "details", "summary", "br"}
    assert shown.count("<details>") == shown.count("</details>")
    prose = re.sub(r"&#\d+;", "", shown)
    for special in ("`", "*", "[", "@", "www.", "http:", "\\", "\x1b", "\r"):
        assert special not in prose, special
    assert len(re.findall(r"^#+ ", shown, re.MULTILINE)) <= 2


def test_markdown_names_the_first_layers_at_fault_and_stays_short() -> None:
    assert "<code>conv</code>: transposed" in reports.markdown(EVERY["failed"])
    many = tuple(probe(f"p{i}", "source", "values", "x" * 400) for i in range(5_000))
    assert len(reports.markdown(a_report(gate("failed"), probes=many)).encode()) < 2**20


def test_the_same_report_gives_the_same_bytes() -> None:
    for form in reports.FORMS:
        assert reports.render(EVERY["failed"], form) == reports.render(EVERY["failed"], form)


DOCS = Path(__file__).parents[2] / "docs" / "parity-report.md"


def test_every_key_is_documented() -> None:
    docs = DOCS.read_text(encoding="utf-8")
    section = docs.partition("## JSON")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))
    assert list(rows) == list(reports.to_json(EVERY["passed"]))
    for kind, row in ((GateResult, "gates"), (Finding, "gates"), (ProbeResult, "probes")):
        for field in fields(kind):
            assert f"`{field.name}`" in rows[row], field.name


def test_the_documented_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2", reason="needs Jinja: pip install -e '.[parity]'")
    reports.save(EVERY["failed"], tmp_path / "parity.json", "json")
    monkeypatch.chdir(tmp_path)
    for example in re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(example, "docs", "exec"), {})
    assert "False FAILED at conv: transposed" in capsys.readouterr().out
    assert (tmp_path / "parity.html").exists()
