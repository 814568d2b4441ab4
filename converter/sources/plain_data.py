"""The plain data that a pickle of weights consists of, and checks of it.

Containers count their nesting depth, which is limited: a hostile pickle can't exhaust the stack of
what walks them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from converter.sources.shapes import shape_problem
from facenet_common.text import printable

MAX_DEPTH = 64  # of nested containers; real files have 5


class PickleError(ValueError):
    """The pickle is malformed, or names something that is not allowed. The caller adds the file."""


class Name:
    """The name of a global, ``module name``. Nothing is imported."""

    def __init__(self, path: str) -> None:
        self.path = path


class Tuple(tuple[Any, ...]):
    """A tuple with its nesting depth, which is limited: a hostile one can't exhaust the stack."""

    depth: int


class List(list[Any]):
    """A list with its nesting depth."""

    depth = 1


class Dict(dict[Any, Any]):
    """A dict with its nesting depth. Keys are text or, in an optimiser's state, whole numbers."""

    depth = 1

    def add(self, items: Iterable[tuple[Any, Any]]) -> None:
        """Add new keys. Raises PickleError for an existing or invalid key."""
        for key, value in items:
            if type(key) is not int and not isinstance(key, str):
                raise PickleError("a dict has a key that is not text")
            if isinstance(key, str) and not _is_utf8(key):
                raise PickleError("a key can't be encoded as UTF-8")
            if key in self:
                raise PickleError(f"the key {printable(key, 80)} occurs twice")
            self.depth = max(self.depth, 1 + depth(value))
            self[key] = value
        check_depth(self.depth)


class Buildable:
    """An object whose state is set by the operation BUILD."""

    def build(self, state: object) -> None:
        """Set the state. Raises PickleError if `state` has another form."""
        raise NotImplementedError


def _is_utf8(text: str) -> bool:
    """Return whether `text` has no lone surrogates: pickles can contain them, but no file can."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def depth(item: object) -> int:
    """Return how deep containers are nested in `item`; 0 for anything else."""
    return getattr(item, "depth", 0)


def check_depth(levels: int) -> None:
    """Raise PickleError for a nesting depth above `MAX_DEPTH`."""
    if levels > MAX_DEPTH:
        raise PickleError(f"the pickle nests more than {MAX_DEPTH} levels")


def named(items: Dict) -> dict[str, Any]:
    """Return `items` if all keys are text. Raises PickleError."""
    if not all(isinstance(key, str) for key in items):
        raise PickleError("a dict has a key that is not text")
    return items


def text(value: object) -> str:
    """Return `value` if it is text. Raises PickleError."""
    if not isinstance(value, str):
        raise PickleError("the pickle has another object instead of a text")
    return value


def integer(value: object) -> int:
    """Return `value` if it is a whole number. Raises PickleError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise PickleError("the pickle has another object instead of a whole number")
    return value


def sizes(value: object) -> tuple[int, ...]:
    """Return `value` if it is a tuple of whole numbers and a possible shape. Raises PickleError."""
    if not isinstance(value, Tuple):
        raise PickleError("the pickle has another object instead of a shape")
    numbers = tuple(integer(item) for item in value)
    if wrong := shape_problem(numbers):
        raise PickleError(wrong)
    return numbers
