"""Parts that all channels share: a release's files, tokens, errors, downloads.

No error from here shows a token or the query of an address: downloads redirect to signed
addresses, and whoever has one of these can read the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from facenet_common.errors import DownloadError, UsageError
from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_models.weights import http
from facenet_models.weights.download import Part
from facenet_models.weights.download import download as download_part
from facenet_release.channels import OnProgress
from facenet_release.documents.manifest import NAME, Manifest
from facenet_release.errors import AbsentError, ChannelError, CheckFailedError, TokenError

if TYPE_CHECKING:
    import requests

TIMEOUT = 60  # seconds without a byte
WAITS = (1.0, 5.0)  # seconds before the second and the last try
AGAIN = "try again later: what is there already is not sent again"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


Result = TypeVar("Result")


class BreakError(ChannelError):
    """The connection broke off, or the server has trouble; another try may succeed.

    Try again later: what is there already is not sent again.
    """


def try_again(step: Callable[[], Result]) -> Result:
    """Call `step` up to three times, as long as it raises BreakError."""
    for wait in WAITS:
        try:
            return step()
        except BreakError:
            time.sleep(wait)
    return step()


# --- A release's files ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Local:
    """A file to publish: its path, its size in bytes and its SHA-256 in lower-case hex."""

    path: Path
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.path.name


def examine(files: Sequence[Path], manifest: Manifest, progress: Progress) -> dict[str, Local]:
    """Return the files by name, sorted and hashed.

    Raises CheckFailedError, before anything is sent, if a file is not what the manifest says, or
    if its name is unsafe or used twice.
    """
    named, local, wrong = manifest.by_name(), {}, []
    progress.stage("hash", sum(file.stat().st_size for file in files))
    for path in sorted(files, key=lambda file: file.name):
        file = Local(path, path.stat().st_size, sha256_file(path))
        progress.advance(file.size)
        expected = named.get(file.name)
        if not NAME.fullmatch(file.name) or file.name in local:
            wrong.append(f"{file.name}: the name is unsafe or taken")
        elif expected and (file.size, file.sha256) != (expected.size, expected.sha256):
            wrong.append(f"{file.name}: {expected.sha256} was expected, {file.sha256} was found")
        local[file.name] = file
    if wrong:
        raise CheckFailedError("files are not what the manifest says; nothing was sent", wrong)
    return local


def differences(local: Mapping[str, Local], there: Mapping[str, str | None]) -> list[str]:
    """Compare `local` with the SHA-256 of every file `there`; return one line per difference."""
    found = [f"{name}: not there" for name in sorted(local.keys() - there.keys())]
    found += [f"{name}: there only" for name in sorted(there.keys() - local.keys())]
    common = sorted(local.keys() & there.keys())
    return found + [f"{n}: other contents" for n in common if there[n] != local[n].sha256]


def summarise(findings: Sequence[str]) -> str:
    """Join the first five findings, and count the rest.

    >>> summarise(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d, e, and 1 more'
    """
    more = f", and {len(findings) - 5} more" if len(findings) > 5 else ""
    return ", ".join(findings[:5]) + more


class ByteCounter:
    """Report each byte of one file once, however often it is sent again."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress, self._reported = on_progress, 0

    def reach(self, position: int) -> None:
        """All bytes before `position` are done."""
        if position > self._reported:
            self._on_progress(position - self._reported)
            self._reported = position


class Upload(BufferedReader):
    """A file whose reader's position is reported."""

    def __init__(self, raw: object, counter: ByteCounter) -> None:
        super().__init__(raw)  # type: ignore[arg-type] # BytesIO will do, too
        self._counter = counter

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._counter.reach(self.tell())
        return data


# --- Servers and tokens ---------------------------------------------------------------------------


def server_address(variable: str, default: str) -> str:
    """Return the server's address from the environment. Raises UsageError if it is not usable."""
    address = (os.environ.get(variable) or default).rstrip("/")
    try:
        parts = urlsplit(address)
        odd = parts.username or parts.password or parts.query or parts.fragment or not parts.netloc
        private = parts.scheme == "https" or parts.hostname in _LOOPBACK
    except ValueError:
        odd, private = True, False
    if odd or not private or parts.scheme not in ("http", "https"):
        raise UsageError(
            f"{variable} is not the address of a server",
            expected=f"https://HOST/PATH without user name or query, such as {default}",
            next_step="correct or unset it",
        )
    return address


def token_of(variables: Sequence[str], *, needed_to: str | None = None) -> str | None:
    """Return the token in the first of these variables that is set; None if none is.

    Raises TokenError, before any request, for a token that no HTTP header can carry, and if there
    is none although it is `needed_to` do something.
    """
    for variable in variables:
        token = os.environ.get(variable, "").strip()
        if token and not all("!" <= c <= "~" for c in token):
            raise TokenError(
                f"{variable} holds no token: spaces, line breaks or other odd characters",
                next_step="set it anew; nothing was sent",
            )
        if token:
            return token
    if needed_to:
        raise TokenError(
            "publishing needs a token, and none is set",
            expected=" or ".join(variables),
            next_step=f"make one that is allowed to {needed_to}, and put it into that variable",
        )
    return None


def refusal(
    problem: str, status: int, message: str, variables: Sequence[str], need: str
) -> ChannelError:
    """Make the error for an answer of status 400 or above; `message` is the server's own."""
    token = token_of(variables)
    found = f"{status} {message.replace(token, '***') if token else message}".strip()
    if status == 429 or "rate limit" in message.lower():
        return ChannelError(f"{problem}: too many requests", found=found, next_step=AGAIN)
    if status in (401, 403):
        fault = "not allowed to do this" if status == 403 else "wrong, or has expired"
        fault = f"the token is {fault}" if token else "a token is needed"
        step = f"put one into {' or '.join(variables)} that is allowed to {need}"
        return TokenError(f"{problem}: {fault}", found=found, next_step=step)
    if status in (404, 410):
        return AbsentError(f"{problem}: there is no such thing", found=found)
    if status >= 500:
        return BreakError(f"{problem}: the server has trouble", found=found, next_step=AGAIN)
    return ChannelError(f"{problem}: the server refuses", found=found)


def broken(problem: str, error: Exception) -> BreakError:
    """Make the error for a connection that failed; it names only the kind of `error`."""
    return BreakError(
        f"{problem}: the connection could not be made or broke off",
        found=type(error).__name__,
        next_step=AGAIN,
    )


# --- Downloads ------------------------------------------------------------------------------------


def authorised(url: str, limit: int, variables: Sequence[str], accept: str = "*/*") -> http.Source:
    """Describe a download that the token in `variables`, if there is one, goes to."""
    token = token_of(variables)

    def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Accept"] = accept
        if token:
            request.headers["Authorization"] = (
                f"Bearer {token}"  # dropped on the way to other hosts
            )
        return request

    return http.Source(url, limit=limit, authorise=authorise)


def download(
    source: http.Source,
    target: Path,
    on_progress: OnProgress,
    address: str,
    credentials: str,
    sha256: str | None = None,
) -> None:
    """Write `source` to `target`; go on after breaks.

    Errors name `address` and `credentials`: ChannelError, TokenError. After one nothing is
    left behind.
    """
    part, counter = Part(target), ByteCounter(on_progress)

    def fetch() -> None:
        with transfer_errors(address, credentials):
            download_part(source, part, lambda position, _total: counter.reach(position))

    try:
        try_again(fetch)
        found = sha256_file(part.path) if sha256 else None
        if found != sha256:
            raise ChannelError(
                f"the downloaded file is damaged: {target.name}",
                file=address,
                expected=sha256,
                found=found,
                next_step="publish it anew under another tag, or tell who keeps the registry",
            )
        part.keep()
    except OSError as error:
        raise ChannelError(
            "the file can't be written", file=target, found=error.strerror or str(error)
        ) from error
    finally:
        part.discard()


def downloaded_sha256(source: http.Source, address: str, credentials: str) -> str:
    """Download a file only to hash it."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / "file"
        download(source, target, lambda _size: None, address, credentials)
        return sha256_file(target)


@contextmanager
def transfer_errors(address: str, credentials: str) -> Iterator[None]:
    """Raise ChannelError for what facenet_models raises; its causes may show signed addresses."""
    try:
        yield
    except http.RefusedError as error:
        step = f"set {credentials}; they must be allowed to do this"
        raise TokenError(error.problem, file=address, found=error.found, next_step=step) from None
    except DownloadError as error:
        kind = BreakError if isinstance(error, http.BreakError) else ChannelError
        raise kind(
            error.problem,
            file=address,
            expected=error.expected,
            found=error.found,
            next_step=AGAIN,
        ) from None
