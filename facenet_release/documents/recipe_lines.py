"""Where in a TOML file each value stands, for messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Place = tuple[str | int, ...]
DEPTH = 8  # levels that are looked at; a recipe has 4


def lines(text: str) -> dict[Place, int]:
    """Line numbers, from 1, of the tables and keys of a TOML document that parses.

    A place is a path as JSON Schema's errors have it: names of keys, numbers of array elements.
    Values of inline tables have the line of the statement that they are in.
    """
    found: dict[Place, int] = {(): 1}
    here: Place = ()
    counts: dict[Place, int] = {}
    for number, statement in _statements(text):
        said = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            here = _enter(said, counts)
            found.setdefault(here, number)
        else:
            for place in _places(said):
                found.setdefault((*here, *place), number)
    return found


def line_of(places: Mapping[Place, int], place: Place) -> int:
    """The line of `place`, or of what it would be in."""
    while place not in places:
        place = place[:-1]
    return places[place]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with its first line. It ends with the first line that makes it parse."""
    start, held = 1, ""
    for number, line in enumerate(text.split("\n"), 1):  # TOML has no other ends of lines
        held += f"{line}\n"
        try:
            said = tomllib.loads(held)
        except tomllib.TOMLDecodeError:
            continue
        if said:
            yield start, held
        start, held = number + 1, ""


def _enter(said: Mapping[str, Any], counts: dict[Place, int]) -> Place:
    """The place of a header, ``[a.b]`` or ``[[a.b]]``, given what has been entered before."""
    place: Place = ()
    value: Any = said
    while isinstance(value, Mapping) and value:
        ((name, value),) = value.items()
        place = (*place, name)
        if isinstance(value, list):  # a new element of an array of tables
            counts[place] = counts.get(place, -1) + 1
            return (*place, counts[place])
        if place in counts:  # below the newest element
            place = (*place, counts[place])
    return place


def _places(value: Any, depth: int = DEPTH) -> Iterator[Place]:
    """Every path into `value`, `depth` levels down."""
    if not depth:
        return
    rows = value.items() if isinstance(value, Mapping) else ()
    if isinstance(value, list):
        rows = enumerate(value)  # type: ignore[assignment] # numbers are names here
    for name, below in rows:
        yield (name,)
        yield from ((name, *place) for place in _places(below, depth - 1))
