"""support.pages: code that fails, and output that is not as shown, is caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.pages import Block, assert_output, run_blocks, shell


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("a …\n", "b a\n"), ("a b\nc\n", "a b\n"), ("a …\n", "a b\nc\n"), ("a …\n", "a \n")],
)
def test_another_output_is_caught(shown: str, printed: str) -> None:
    with pytest.raises(AssertionError):
        assert_output(shown, printed)


def test_a_line_of_dots_stands_for_lines() -> None:
    assert_output("a\n…\nd …\n", "a\nb\nc\nd e\n")


@pytest.mark.parametrize("wrong", [Block("text", "2\n"), Block("json", "1\n")])
def test_a_block_that_does_not_follow_is_caught(wrong: Block, tmp_path: Path) -> None:
    code, right = Block("python", "print(1)\n"), Block("text", "1\n")
    assert run_blocks([code, right], "a page", tmp_path)[1] == "1\n"
    with pytest.raises(AssertionError):
        run_blocks([code, right, wrong], "a page", tmp_path)


def test_a_block_that_fails_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        shell("false\ntrue\n", tmp_path)
