"""Errors: their exit codes, messages and JSON."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from facenet_common import errors
from facenet_common.errors import MAX_FINDINGS, FacenetError, MappingError, UsageError

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, FacenetError)
]


@dataclass(frozen=True)
class Finding:
    tensor: str

    def __str__(self) -> str:
        return f"{self.tensor} is missing"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_only_wrong_usage_exits_with_2(kind: type[FacenetError]) -> None:
    assert kind.exit_code == (2 if kind is UsageError else 1)
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_all_details_are_in_the_message_and_the_json(kind: type[FacenetError]) -> None:
    details = {"file": "f", "tensor": "t", "expected": "e", "found": "o", "next_step": "n"}
    error = kind("it is wrong", **details)  # type: ignore[arg-type] # each takes these
    lines = str(error).splitlines()
    assert lines[0] == "it is wrong"
    assert [line.split(":")[1].strip() for line in lines[1:]] == list(details.values())
    data = error.to_json()
    assert data.pop("error") == kind.__name__
    assert details | {"problem": "it is wrong"} == {k: data[k] for k in ("problem", *details)}


def test_absent_details_are_left_out() -> None:
    error = UsageError("it is wrong", found=0)
    assert str(error) == "it is wrong\n  found:    0"
    assert set(error.to_json()) == {"error", "problem", "found"}


def test_control_characters_of_values_are_escaped() -> None:
    assert "\x1b" not in str(FacenetError("bad name", file="\x1b[2J"))


def test_a_message_repeats_some_findings_and_the_json_all() -> None:
    findings = tuple(Finding(f"t{number}") for number in range(MAX_FINDINGS + 2))
    error = MappingError("it does not fit", findings)
    lines = str(error).splitlines()
    assert lines[1] == "  - t0 is missing"
    assert len(lines) == 1 + MAX_FINDINGS + 1
    assert "2 more" in lines[-1]
    assert len(error.to_json()["findings"]) == len(findings)  # type: ignore[arg-type] # a list
