"""The bytes of one file, over HTTP, into a hidden file that a later call can continue.

pooch makes the requests; what it does not look at is looked at here: status, type and length of
the answer, whether a continued file is still the same one (``If-Range``), and how much comes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from facenet_common.errors import DownloadError

if TYPE_CHECKING:
    import requests

MAX_BYTES = 2 << 30  # far above any weight file, so that no server can fill the disk
_CHUNK = 64 << 10  # a broken connection loses one at most
_TIMEOUT = (10.0, 60.0)  # seconds to connect; seconds without a byte
_BREAKS = 5  # how often one call goes on after a break; each must have brought something

Bar = Callable[[int, "int | None"], object]  # bytes here, bytes in all or None
Authorise = Callable[["requests.PreparedRequest"], "requests.PreparedRequest"]


class Source(NamedTuple):
    """Where a file is, and what is known of it before a byte has come.

    `size` in bytes, exact, where a manifest says it; `limit`, the most it may have; `authorise`
    adds a token to a request (`facenet_models.weights.oci`).
    """

    url: str
    size: int | None = None
    limit: int | None = None
    authorise: Authorise | None = None


class AbsentError(DownloadError):
    """The server answers that it has no such file (404 or 410)."""


class _BreakError(Exception):
    """The connection ended before the file did, or never began; what came can be continued."""

    def __init__(self, reason: str, *, answered: bool) -> None:
        super().__init__(reason)
        self.problem = "the download broke off" if answered else "the server can't be reached"


class _StaleError(Exception):
    """What is here is not the beginning of what the server has now."""


def failed(
    problem: str, url: str, kind: type[DownloadError] = DownloadError, **details: Any
) -> DownloadError:
    """A `kind` that names `url`, with a next step that fits most."""
    details.setdefault("next_step", "try again later, or see FACENET_MIRROR and FACENET_WEIGHTS")
    return kind(f"{problem}: {shown(url)}", **details)


def shown(url: str) -> str:
    """`url` for a message: without user name, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Part:
    """The hidden file that bytes go to, and what is needed to continue it.

    Beside it lies a note of where it is from, and what the server called that version of it.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        # The suffix stays last, for readers that go by it.
        self.path = target.with_name(f".{target.stem}.part{target.suffix}")
        self.note = self.path.with_name(self.path.name + ".json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """The version of the file at `url` that this is the beginning of; None: start anew."""
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
        if not version or version.startswith("W/"):  # a weak one says nothing of the bytes
            version = headers.get("Last-Modified")
        self.note.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def keep(self) -> None:
        """Give it its name, once it is on the disk."""
        with self.path.open("rb+") as opened:
            os.fsync(opened.fileno())
        self.path.replace(self.target)
        self.note.unlink(missing_ok=True)
        if os.name == "posix":
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


class Answer:
    """One request's answer on its way into a `Part`: the file object that pooch writes to."""

    def __init__(self, source: Source, part: Part, version: str | None, bar: Bar) -> None:
        self.source, self.url = source, source.url
        self.part, self.version, self.bar = part, version or "", bar
        self.received = 0
        self.start = 0  # where in the file this answer begins
        self.total: int | None = None
        self._file: Any = None
        self._response: requests.Response | None = None
        self.answered = False

    def accept(self, response: requests.Response, **_: object) -> None:
        """Judge status and headers before any byte is stored (a hook of requests)."""
        self._response = response
        if self.url.startswith("https:") and not response.url.startswith("https:"):
            raise failed("the server redirects to an address without encryption", self.url)
        if response.is_redirect:
            return
        self.answered = True
        status, headers = response.status_code, response.headers
        if status in (404, 410):
            raise failed("the server has no such file", self.url, AbsentError, found=status)
        if status == 416:  # it is complete already, or longer than what is there
            raise _StaleError
        if status not in (200, 206):
            raise failed("the server refuses", self.url, found=f"{status} {response.reason}")
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise failed("the server sent a web page", self.url, found=kind)
        if headers.get("Content-Encoding", "identity") != "identity":
            raise failed("the server compresses", self.url, found=headers["Content-Encoding"])
        self.start = self.part.size if status == 206 else 0
        if status == 206 and not headers.get("Content-Range", "").startswith(
            f"bytes {self.start}-"
        ):
            raise failed(
                "the server sent another range than asked for",
                self.url,
                expected=f"bytes {self.start}-",
                found=headers.get("Content-Range"),
            )
        etag = headers.get("ETag")
        if status == 206 and etag and self.version.startswith('"') and etag != self.version:
            raise _StaleError  # the server knows no If-Range
        if status == 200:
            self.part.begin(self.url, headers)
        length = headers.get("Content-Length", "")
        size = self.source.size
        self.total = self.start + int(length) if length.isdecimal() else size
        if size is not None and self.total != size:
            raise failed(
                "the server has a file of another size",
                self.url,
                expected=f"{size} bytes",
                found=f"{self.total} bytes",
            )
        self._check_size(self.total or 0)

    def write(self, data: bytes) -> None:
        if self._file is None:
            self._file = self.part.path.open("ab")
        self._check_size(self.start + self.received + len(data))
        self._file.write(data)
        self.received += len(data)
        self.bar(self.start + self.received, self.total)

    def flush(self) -> None:
        """pooch's wish after each chunk; `close` does it."""

    def close(self) -> None:
        """Close the file, and the connection, which nobody else closes after a fault."""
        if self._file is not None:
            self._file.close()
        if self._response is not None:
            self._response.close()

    def _check_size(self, size: int) -> None:
        limits = (self.source.size, self.source.limit, MAX_BYTES)
        most = min(limit for limit in limits if limit is not None)
        if size > most:
            raise failed("the server sends too much", self.url, expected=f"{most} bytes")


def read(source: Source) -> bytes:
    """The whole of a small file, such as a manifest. Give it a limit.

    Raises DownloadError, as `download`.
    """
    with TemporaryDirectory() as folder:
        part = Part(Path(folder) / "file")
        download(source, part, lambda _here, _all: None)
        return part.path.read_bytes() if part.size else b""


def download(source: Source, part: Part, bar: Bar) -> bool:
    """Complete `part` with the file that `source` names; returns whether it is made of pieces.

    Raises:
        DownloadError: It can't be completed. `part` is kept where the connection broke and it
            can be continued; else it is gone.
    """
    url = source.url
    if part.validator(url) is None:
        part.discard()
    breaks = int(part.size > 0)
    while True:
        had = part.size
        try:
            _transfer(source, part, bar)
            return breaks > 0
        except _StaleError:
            part.discard()
            if had == 0:
                raise failed("the server refuses", url, found="range not satisfiable") from None
            breaks = 0
        except _BreakError as reason:
            version, breaks = part.validator(url), breaks + 1
            brought = part.size > had
            if version is None:
                part.discard()
            if breaks > _BREAKS or not brought:
                kept = f"; {part.size:,} bytes are kept, to be continued" if version else ""
                raise failed(reason.problem + kept, url, found=reason) from reason
        except Exception:  # not an interruption, which is continued next time
            part.discard()
            raise


def _transfer(source: Source, part: Part, bar: Bar) -> None:
    """One request. Raises _BreakError where another one may go on."""
    import pooch  # type: ignore[import-untyped] # no type information is shipped
    import requests

    url, headers = source.url, {"Accept-Encoding": "identity"}
    version = part.validator(url)
    if version is not None:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": version}
    answer = Answer(source, part, version, bar)
    downloader = pooch.HTTPDownloader(
        chunk_size=_CHUNK,
        timeout=_TIMEOUT,
        headers=headers,
        hooks={"response": answer.accept},
        auth=source.authorise,
    )
    try:
        downloader(url, answer, None)
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as reason:
        if isinstance(reason, requests.exceptions.SSLError):
            raise failed(
                "the server's certificate is not accepted", url, found=root(reason)
            ) from reason
        raise _BreakError(root(reason), answered=answer.answered) from reason
    except (requests.RequestException, ValueError) as reason:  # ValueError: no URL at all
        raise failed("the file can't be downloaded", url, found=root(reason)) from reason
    finally:
        answer.close()
    if answer.total is not None and part.size != answer.total:
        raise _BreakError(f"{part.size:,} of {answer.total:,} bytes", answered=True)


def root(reason: BaseException) -> str:
    """What went wrong at the bottom: requests wraps urllib3, which wraps the system's error."""
    while reason.__cause__ or reason.__context__:
        reason = reason.__cause__ or reason.__context__ or reason
    return str(reason) or type(reason).__name__
