"""One file from a server into a hidden file, which a later call continues after a break.

An answer is judged by its status and headers before a byte of it is stored. A file is continued
only if the server can prove that it still has the same one (``If-Range``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from facenet_common.atomic import discard, hidden, sync_file, sync_folder
from facenet_models.weights.http import CHUNK, BreakError, Source, failed, refusal, root, send

if TYPE_CHECKING:
    import requests

_BREAKS = 5  # how often one call continues after a break; each try must have brought something

OnProgress = Callable[[int, "int | None"], object]  # bytes here, bytes in all or None


class _StaleError(Exception):
    """The bytes that are here are not the beginning of the file that the server has now."""


class Part:
    """The hidden file that bytes go to, and a note of what is in it, so that it can be continued.

    The note, beside it, has the address and the version that the server named: its strong ETag,
    else its Last-Modified.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        # The suffix stays last, for readers that go by it.
        self.path = hidden(target.with_suffix(""), f".part{target.suffix}")
        self.note = self.path.with_name(self.path.name + ".json")

    @property
    def size(self) -> int:
        """Bytes in the hidden file; 0 if there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> str | None:
        """Return the version of the file at `url` that this is the beginning of.

        None: it can't be continued.
        """
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        known = isinstance(note, dict) and note.get("url") == url and self.size > 0
        version = note.get("version") if known else None
        return version if isinstance(version, str) and version.isprintable() else None

    def begin(self, url: str, headers: Any) -> None:
        """Empty it, and note what will be in it."""
        self.path.write_bytes(b"")
        version = headers.get("ETag", "")
        if not version or version.startswith("W/"):  # a weak one does not promise equal bytes
            version = headers.get("Last-Modified")
        self.note.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")

    def discard(self) -> None:
        """Remove both files."""
        discard(self.path)
        discard(self.note)

    def keep(self) -> None:
        """Rename it to the target, once it is on the disk."""
        sync_file(self.path)
        self.path.replace(self.target)
        discard(self.note)
        sync_folder(self.target.parent)


def read(source: Source) -> bytes:
    """Return the whole of a small file, such as a manifest. Give it a limit.

    Raises:
        DownloadError: As `download`.
    """
    with TemporaryDirectory() as folder:
        part = Part(Path(folder) / "file")
        download(source, part)
        return part.path.read_bytes()


def download(
    source: Source, part: Part, on_progress: OnProgress = lambda _here, _total: None
) -> bool:
    """Complete `part` with the file that `source` names.

    Args:
        source: The file.
        part: Where it goes; `Part.keep` then gives it its name.
        on_progress: Called with the number of bytes that are here and, where it is known, the
            file's size.

    Returns:
        Whether the file was put together from several answers.

    Raises:
        DownloadError: It can't be completed. `part` is kept if the connection broke off or the
            server is busy, and the server named a version; else it is removed.
    """
    url = source.url
    if part.version(url) is None:
        part.discard()
    breaks = int(part.size > 0)
    while True:
        had = part.size
        try:
            _transfer(source, part, on_progress)
            return breaks > 0
        except _StaleError:
            part.discard()
            breaks = 0
        except BreakError as error:
            size, breaks = part.size, breaks + 1
            if part.version(url) is None:
                part.discard()
            if breaks > _BREAKS or size <= had:
                if part.size:
                    error.found = f"{error.found}; {size:,} bytes are kept, to be continued"
                raise
        except Exception:  # an interruption is not one, and keeps the part
            part.discard()
            raise


def _transfer(source: Source, part: Part, on_progress: OnProgress) -> None:
    """Send one request, and append its answer. Raises BreakError where another one may go on."""
    import requests

    url, version = source.url, part.version(source.url)
    headers = {"Accept-Encoding": "identity"}
    if version is not None:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": version}
    with send("GET", url, authorise=source.authorise, headers=headers) as response:
        total = _accept(response, source, part, version or "")
        try:
            with part.path.open("ab") as file:
                for chunk in response.iter_content(CHUNK):
                    source.check_size(file.tell() + len(chunk))
                    file.write(chunk)
                    on_progress(file.tell(), total)
        except requests.RequestException as error:
            raise failed("the download broke off", url, BreakError, found=root(error)) from error
    if total is not None and part.size != total:  # urllib3 before 2 does not compare
        found = f"{part.size:,} of {total:,} bytes"
        raise failed("the download broke off", url, BreakError, found=found)


def _accept(response: requests.Response, source: Source, part: Part, version: str) -> int | None:
    """Check status and headers before a byte is stored; return the file's size, if it is known."""
    url, headers, partial = source.url, response.headers, response.status_code == 206
    if response.status_code == 416 and part.size:  # it is complete, or longer than the file
        raise _StaleError
    if response.status_code not in (200, 206):
        raise refusal(response, url)
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise failed("the server sent a web page", url, found=kind)
    if headers.get("Content-Encoding", "identity") != "identity":
        raise failed("the server compresses", url, found=headers["Content-Encoding"])
    if not partial:
        part.begin(url, headers)
    start = part.size
    if partial and not headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise failed(
            "the server sent another range than asked for",
            url,
            expected=f"bytes {start}-",
            found=headers.get("Content-Range"),
        )
    if partial and version.startswith('"') and headers.get("ETag", version) != version:
        raise _StaleError  # the server does not know If-Range
    length = headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else source.size
    if source.size not in (None, total):
        raise failed(
            "the server has a file of another size",
            url,
            expected=f"{source.size} bytes",
            found=f"{total} bytes",
        )
    source.check_size(total or 0)
    return total
