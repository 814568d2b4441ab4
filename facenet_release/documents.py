"""JSON documents of a release: written canonically, read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from facenet_release.errors import CheckFailedError
from facenet_release.manifest import MAX_BYTES


def canonical(value: Mapping[str, Any]) -> bytes:
    """`value` in canonical JSON (RFC 8785): equal values are equal bytes."""
    import rfc8785

    return rfc8785.dumps(dict(value))


def read(data: bytes, file: str) -> dict[str, Any]:
    """The JSON object that `data` holds.

    Raises CheckFailedError where it is none, is longer than any document of ours, or says
    something twice, which two readers could understand in two ways.
    """
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has {len(data)} bytes; {MAX_BYTES} are the most allowed")
        text = data.decode("utf-8")
        said = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
        json.dumps(said, ensure_ascii=False).encode("utf-8")  # JSON can spell lone surrogates
    except (ValueError, RecursionError) as error:
        raise CheckFailedError("a document can't be read", [str(error)], file=file) from error
    if not isinstance(said, dict):
        raise CheckFailedError("a document can't be read", ["it is no JSON object"], file=file)
    return said


def at(value: object, *path: str) -> Any:
    """What lies at `path` in nested objects; None where a step is missing or is no object."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said = dict(pairs)
    if len(said) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twin[:100]!r} is said twice in one object")
    return said


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
