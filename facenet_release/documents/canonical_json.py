"""JSON documents of a release: written in canonical form, read with strict checks."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, NoReturn

from facenet_common.errors import UsageError
from facenet_common.optional import require
from facenet_models.weights.manifest import MANIFEST
from facenet_models.weights.manifest import MAX_MANIFEST as MAX_BYTES
from facenet_release.errors import CheckFailedError


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return `value` as canonical JSON (RFC 8785), so that equal values give equal bytes.

    Raises:
        ValueError: A string has a lone surrogate, or an integer has more than 53 bits.

    Examples:
        >>> canonical({"b": 1.0, "a": "x"})
        b'{"a":"x","b":1}'
    """
    data: bytes = require("rfc8785", "a release").dumps(dict(value))
    return data


@cache
def schema_validator(name: str) -> Any:
    """Return the jsonschema validator for a schema file of this folder.

    Args:
        name: The name of the schema's file.

    Examples:
        >>> schema_validator("recipe-1.schema.json").is_valid({})
        False
    """
    text = resources("facenet_release.documents").joinpath(name).read_text("utf-8")
    return require("jsonschema", "a release").Draft202012Validator(json.loads(text))


def read_small_file(folder: Path, name: str) -> bytes:
    """Return the bytes of one of the small files of a release.

    Raises:
        UsageError: The file does not exist, can't be read, or is not a regular file.
        CheckFailedError: The file has more than `MAX_BYTES` bytes.

    Examples:
        >>> read_small_file(Path("dist"), "SHA256SUMS")  # doctest: +SKIP
        b'5f0c…  pnet.pt\\n'
    """
    path = folder / name
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UsageError("expected a regular file", file=path)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            "the folder holds no release" if name == MANIFEST else "a file can't be read",
            file=path,
            found=error.strerror,
        ) from error
    if len(data) > MAX_BYTES:
        raise CheckFailedError(
            "a file is too large", [f"at most {MAX_BYTES} bytes are allowed"], file=path
        )
    return data


def parse_object(data: bytes, file: str) -> dict[str, Any]:
    """Return the JSON object that `data` holds.

    Args:
        data: The bytes of the document.
        file: Its name, for messages.

    Raises:
        CheckFailedError: It is not a JSON object in UTF-8, has more than `MAX_BYTES` bytes, or
            has a key twice, which two readers could understand in two ways.

    Examples:
        >>> parse_object(b'{"a": [1]}', "x.json")
        {'a': [1]}
    """
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes; at most {MAX_BYTES} are allowed")
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # JSON can spell lone surrogates
    except (ValueError, RecursionError) as error:
        raise CheckFailedError("a document can't be read", [str(error)], file=file) from error
    if not isinstance(value, dict):
        raise CheckFailedError("a document can't be read", ["expected a JSON object"], file=file)
    return value


def value_at(value: object, *path: str) -> Any:
    """Return the value at `path` in nested objects, or None where a step is missing.

    Examples:
        >>> value_at({"a": {"b": 1}}, "a", "b"), value_at({"a": 1}, "a", "b")
        (1, None)
    """
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {repeated[:100]!r} twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
