"""Text for messages: untrusted values made printable, numbers with their nouns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

MAX_DETAIL = 500  # characters of any one untrusted value that a message may repeat


def printable(value: object, limit: int = MAX_DETAIL) -> str:
    r"""Return `value` as text for a message: control characters escaped, cut at `limit`.

    Line breaks are kept.

    Examples:
        >>> printable("photo\x1b[2J.jpg")
        'photo\\x1b[2J.jpg'
    """
    text = str(value)
    cut = text[:limit] + ("…" if len(text) > limit else "")
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in cut)


def one_line(value: object) -> str:
    r"""Return `value` as text for one row of a table: whole, every control character escaped.

    Examples:
        >>> one_line("two\nlines")
        'two\\nlines'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def count(number: int, one: str, more: str | None = None) -> str:
    """Return `number` with its noun.

    Examples:
        >>> count(1, "frame"), count(2, "frame"), count(0, "identity", "identities")
        ('1 frame', '2 frames', '0 identities')
    """
    return f"{number} {one if number == 1 else more or one + 's'}"


def summarise(items: Iterable[object], limit: int = 5) -> str:
    """Return the first `limit` items, separated by commas, and how many more there are.

    Examples:
        >>> summarise("abcdefg")
        'a, b, c, d, e and 2 more'
    """
    names = [printable(item) for item in items]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def check_path(path: str | Path) -> str:
    """Return the next step of a message about a path at which nothing was found."""
    if Path(path).is_absolute():
        return "check the path"
    return f"check the path; it is looked for in {Path.cwd()}"
