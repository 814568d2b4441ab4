"""The part of a release's ``manifest.json`` that says which files it has, and their hashes.

facenet_release writes the whole of it and holds it against its schema; nothing of that package is
imported here, so that weights can be used without it.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from facenet_common.errors import WeightsError

SCHEMA = "facenet-parity/release/1"
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
MAX_MANIFEST = 16 << 20  # bytes; a manifest of five models has 12 kB
MAX_SIZE = 1 << 40  # bytes of a file, as the schema has it

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Entry(NamedTuple):
    """What a manifest says of a file: its size in bytes, and its SHA-256 in lower-case hex."""

    size: int
    sha256: str


def parse(data: bytes, source: object) -> dict[str, Entry]:
    """The files that the manifest `data`, which is from `source`, names.

    Raises WeightsError if it is not a manifest of a release, as strictly as it can be told from
    the part that is used.
    """
    try:
        said = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise damaged(source, "no JSON") from error
    schema = said.get("schema") if isinstance(said, dict) else None
    if schema != SCHEMA:
        raise damaged(source, f"schema {schema!r}", expected=f"schema {SCHEMA!r}")
    rows = said.get("files")
    if not isinstance(rows, list) or not rows:
        raise damaged(source, "no list of files")
    files: dict[str, Entry] = {}
    folded = set()
    for row in rows:
        name, entry = _entry(row, source)
        if name.lower() in folded:
            raise damaged(source, f"{name} is named twice")
        folded.add(name.lower())
        files[name] = entry
    return files


def _entry(row: Any, source: object) -> tuple[str, Entry]:
    row = row if isinstance(row, dict) else {}
    name, size, sha256 = row.get("name"), row.get("size"), row.get("sha256")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise damaged(source, f"the file name {name!r}")
    if type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise damaged(source, f"{name}: the size {size!r}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise damaged(source, f"{name}: the SHA-256 {sha256!r}")
    return name, Entry(size, sha256)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: what two readers could read differently is refused."""
    said = dict(pairs)
    if len(said) != len(pairs):
        raise ValueError("a key twice")
    return said


def damaged(source: object, found: str, expected: str | None = None) -> WeightsError:
    """The error that says so."""
    return WeightsError(
        "the manifest of the release is damaged, or of another kind",
        file=str(source),
        expected=expected,
        found=found,
        next_step="get the release again, or the newest facenet_models",
    )
