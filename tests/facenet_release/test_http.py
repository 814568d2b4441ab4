"""Trying again, as all channels over HTTP do it."""

from __future__ import annotations

import pytest

from facenet_release.channels import http
from facenet_release.errors import ChannelError


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that are waited for, instead of waiting."""
    waits: list[float] = []
    monkeypatch.setattr(http.time, "sleep", waits.append)
    return waits


def breaks(times: int, wait: float = 0.0) -> list[ChannelError]:
    errors = []
    for number in range(times):
        error = http.BreakError(f"break {number}")
        error.wait = wait
        errors.append(error)
    return errors


def attempting(errors: list[ChannelError]) -> str:
    if errors:
        raise errors.pop(0)
    return "result"


@pytest.mark.parametrize("times", range(4))
def test_a_break_is_tried_again_after_a_while(slept: list[float], times: int) -> None:
    errors = breaks(times)
    assert http.persist(lambda: attempting(errors)) == "result"
    assert slept == [1.0, 4.0, 10.0][:times]


def test_the_last_break_is_raised(slept: list[float]) -> None:
    errors = breaks(5)
    with pytest.raises(http.BreakError, match="break 3"):
        http.persist(lambda: attempting(errors))
    assert slept == [1.0, 4.0, 10.0]


def test_a_server_that_asks_for_time_gets_it(slept: list[float]) -> None:
    errors = breaks(3, wait=7.0)
    assert http.persist(lambda: attempting(errors)) == "result"
    assert slept == [7.0, 7.0, 10.0]


def test_what_is_not_safe_is_not_tried_again(slept: list[float]) -> None:
    errors = breaks(1)
    with pytest.raises(http.BreakError):
        http.persist(lambda: attempting(errors), again=False)
    assert slept == []


def test_other_errors_are_final(slept: list[float]) -> None:
    errors = [ChannelError("the server refuses")]
    with pytest.raises(ChannelError, match="refuses"):
        http.persist(lambda: attempting(errors))
    assert slept == []
