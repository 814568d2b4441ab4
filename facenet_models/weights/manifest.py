"""The part of a release's ``manifest.json`` that lists its files, with sizes and hashes.

facenet_release writes the whole of it and checks it against its schema; nothing of that package is
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
    """A file as a manifest describes it: size in bytes, and SHA-256 in lower-case hex."""

    size: int
    sha256: str


def parse(data: bytes, source: object) -> dict[str, Entry]:
    """Return the files that the manifest `data` names; `source` is for messages.

    Raises WeightsError if it is not a manifest of a release, as far as the part that is used
    shows it.
    """
    try:
        content = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise damaged(source, "no JSON") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise damaged(source, f"schema {schema!r}", expected=f"schema {SCHEMA!r}")
    rows = content.get("files")
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
    """Refuse an object that has a key twice, which two readers could read differently."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key twice")
    return content


def damaged(source: object, found: str, expected: str | None = None) -> WeightsError:
    """Return the error for a manifest that can't be used."""
    return WeightsError(
        "the manifest of the release is damaged, or of another kind",
        file=str(source),
        expected=expected,
        found=found,
        next_step="get the release again, or the newest facenet_models",
    )
