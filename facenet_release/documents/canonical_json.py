"""Documents of a release, most of them JSON: written canonically, read with suspicion."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, NoReturn

from facenet_common.errors import UsageError
from facenet_models.weights.manifest import MANIFEST
from facenet_models.weights.manifest import MAX_MANIFEST as MAX_BYTES
from facenet_release.errors import CheckFailedError


def canonical(value: Mapping[str, Any]) -> bytes:
    """`value` in canonical JSON (RFC 8785): equal values are equal bytes."""
    import rfc8785

    return rfc8785.dumps(dict(value))


@cache
def validator(schema: str) -> Any:
    """What holds values to a JSON schema of this package, given the name of its file."""
    from jsonschema import Draft202012Validator

    text = resources("facenet_release.documents").joinpath(schema).read_text("utf-8")
    return Draft202012Validator(json.loads(text))


def read_small(folder: Path, name: str) -> bytes:
    """One of the small files of a release. UsageError if it isn't there or is no small file."""
    path = folder / name
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UsageError("this is no plain file", file=path)
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            "there is no release here" if name == MANIFEST else "a file can't be read",
            file=path,
            found=error.strerror,
        ) from error
    if len(data) > MAX_BYTES:
        raise CheckFailedError("a file is too large", [f"more than {MAX_BYTES} bytes"], file=path)
    return data


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
