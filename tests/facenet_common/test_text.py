"""Text for messages: control characters, lengths, numbers with nouns, lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_common.text import MAX_DETAIL, check_path, count, one_line, printable, summarise


@given(st.text())
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    assert all(c.isprintable() or c == "\n" for c in printable(text))
    assert one_line(text).isprintable()


def test_long_values_are_cut_in_messages_but_not_in_tables() -> None:
    value = "x" * (MAX_DETAIL + 1)
    assert printable(value) == "x" * MAX_DETAIL + "…"
    assert printable(value, len(value)) == value
    assert one_line(value) == value


def test_numbers_have_their_nouns() -> None:
    assert [count(n, "image") for n in range(3)] == ["0 images", "1 image", "2 images"]
    assert count(3, "identity", "identities") == "3 identities"


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], ""),
        (["a"], "a"),
        (list("abcde"), "a, b, c, d, e"),
        (list("abcdef"), "a, b, c, d, e and 1 more"),
    ],
)
def test_summaries_list_the_first_items(items: list[str], expected: str) -> None:
    assert summarise(items) == expected


def test_a_relative_path_is_explained_by_the_current_folder() -> None:
    assert str(Path.cwd()) in check_path("photos")
    assert check_path(Path("photos").absolute()) == "check the path"
