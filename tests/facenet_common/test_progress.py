"""Progress: the default does nothing, and bars appear on a terminal only."""

from __future__ import annotations

import io
import sys

import pytest

from facenet_common.progress import Progress, TerminalProgress, progress_bar


class Terminal(io.StringIO):
    """A text stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def report(progress: Progress) -> None:
    progress.stage("converting", 4)
    progress.note("a step")
    progress.advance(4)


def test_the_default_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    report(Progress())
    assert capsys.readouterr() == ("", "")


def test_nothing_is_printed_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as progress:
        report(progress)
    with progress_bar("Images", 2) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("counted", [False, True])
def test_a_terminal_shows_stages_and_steps(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with TerminalProgress(counted=counted) as progress:
        report(progress)
    assert "a step …" in terminal.getvalue()
    assert "converting" in terminal.getvalue()


def test_a_bar_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("Images", 2, shown=False) as advance:
        advance()
    assert terminal.getvalue() == ""
    with progress_bar("Images", 2) as advance:
        advance()
    assert "Images" in terminal.getvalue()
