"""Say whether a source is a published file, by its SHA-256, or only named like one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from converter.sources import archive
from facenet_common.published import BY_SHA256, FILES, Published
from facenet_common.text import count

_INDEX = ".index"
NOT_PUBLISHED = "named like {published}, but another file: its SHA-256 is {found}"
BY_INDEX = "; the data is held to the checksums in the index as it is read"


def remark(files: Sequence[Path], hashes: Mapping[Path, str] | None = None) -> str | None:
    """Return a remark on a source that is published, or named so; None for any other.

    Args:
        files: The source's files.
        hashes: Their SHA-256. None: files are hashed here if they have a published name; of a
            checkpoint the index alone, which has a checksum of each tensor, since that is quick.

    Raises:
        OSError, FormatError: A file can't be read.

    Examples:
        >>> remark([Path("my-own.pt")])
    """
    if hashes is None:
        indexes = [path for path in files if path.suffix == _INDEX]
        named = [path for path in indexes or files if path.name in FILES]
        known = {path: archive.sha256(path) for path in named}
    else:
        known = {path: hashes[path] for path in files if path.name in FILES}
        known = known or {path: hashes[path] for path in files if hashes[path] in BY_SHA256}
    if not known:
        return None
    for path, found in known.items():
        named_like = FILES.get(path.name)
        if named_like is not None and named_like.sha256 != found:
            return NOT_PUBLISHED.format(published=named_like, found=found)
    rows = [BY_SHA256[sha256] for sha256 in known.values()]
    return _published(rows) + (BY_INDEX if len(known) < len(files) else "")


def _published(rows: Sequence[Published]) -> str:
    """Return the remark on files that are published ones; the least known of them counts."""
    weakest = min(rows, key=lambda row: row.sources)
    if len(rows) == 1:
        return f"{weakest}: {weakest.evidence}"
    which = f"the published {weakest.model} of {weakest.publisher}"
    return f"{which}: {weakest.evidence}, for {count(len(rows), 'file')}"
