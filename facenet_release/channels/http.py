"""What the channels over HTTP share: tokens, downloads, and errors that say enough.

Nothing here, or in an error from here, ever shows a token or the query of an address: the
addresses that downloads are redirected to are signed, and open for whoever has them.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from facenet_common.errors import UsageError
from facenet_release.channels import Advance
from facenet_release.errors import AbsentError, ChannelError, TokenError

if TYPE_CHECKING:
    import requests

WAITS = (1.0, 4.0, 10.0)  # seconds before the second try, the third and the last
TIMEOUT = (10.0, 60.0)  # seconds to connect; seconds without a byte
MAX_WAIT = 60  # seconds; a server that wants to be left alone for longer is
_CHUNK = 64 << 10
_REDIRECTS = 5
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Result = TypeVar("Result")

# Called at the start of every try; what it returns takes the bytes.
Begin = Callable[[], Callable[[bytes], object]]


class BreakError(ChannelError):
    """The connection broke off, or the server has trouble: another try may do.

    `wait`: seconds that the server wants to be left alone for.
    """

    wait = 0.0


def api_address(variable: str, default: str) -> str:
    """The server's address that the environment names. Raises UsageError if it won't do."""
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


def token_of(variables: Sequence[str]) -> str | None:
    """The token in the first of these variables that is set; None if none is.

    Raises TokenError for one that no HTTP header can carry; libraries would repeat it whole.
    """
    for variable in variables:
        token = os.environ.get(variable, "").strip()
        if token:
            if not all("!" <= c <= "~" for c in token):
                raise TokenError(
                    f"{variable} holds no token: spaces, line breaks or other odd characters",
                    next_step="set it anew; nothing was sent",
                )
            return token
    return None


def needed_token(variables: Sequence[str], allowed: str) -> str:
    """The token for publishing. Raises TokenError, before any request, if there is none."""
    token = token_of(variables)
    if token is None:
        raise TokenError(
            "publishing needs a token, and none is set",
            expected=" or ".join(variables),
            next_step=f"make one that is allowed to {allowed}, and put it into that variable",
        )
    return token


def refusal(
    problem: str, status: int, said: object, variables: Sequence[str], token: str | None, need: str
) -> ChannelError:
    """The error for an answer of that status, 400 or above. `said` is the server's own message."""
    found = f"{status} {hidden(said, token)}".strip()
    names = " or ".join(variables)
    if status == 401 or (status == 403 and token is None):
        step = f"make a new one and put it into {names}" if token else f"put one into {names}"
        fault = "the token has expired or is wrong" if token else "a token is needed"
        return TokenError(f"{problem}: {fault}", found=found, next_step=step)
    if status == 403:
        return TokenError(
            f"{problem}: the token is not allowed to do this",
            found=found,
            next_step=f"give the token in {names} what it needs: {need}",
        )
    if status in (404, 410):
        return AbsentError(f"{problem}: there is no such thing", found=found)
    if status >= 500:
        return BreakError(f"{problem}: the server has trouble", found=found, next_step=LATER)
    return ChannelError(f"{problem}: the server refuses", found=found)


LATER = "try again later: it goes on where it was"


def broken(problem: str, error: Exception) -> BreakError:
    """The error for a connection that could not be made or broke off.

    It names the kind of `error` only: its text may hold addresses that are secret.
    """
    return BreakError(
        f"{problem}: the connection could not be made or broke off",
        found=type(error).__name__,
        next_step=LATER,
    )


def persist(attempt: Callable[[], Result], *, again: bool = True) -> Result:
    """The result of `attempt`, made again after a BreakError, a few times, if that is safe."""
    for wait in (*WAITS, None):
        try:
            return attempt()
        except BreakError as error:
            if wait is None or not again:
                raise
            asked = error.wait
        time.sleep(max(wait, asked))
    raise AssertionError("the last wait is None")


def hidden(text: object, token: str | None) -> str:
    """`text` without the token, should a server have sent it back."""
    return str(text).replace(token, "***") if token else str(text)


class Progress:
    """Tells `advance` of bytes, of each once, however often they are sent again."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._told, self._here = advance, 0, 0

    def restart(self) -> None:
        """The next byte is the first again."""
        self._here = 0

    def add(self, size: int) -> None:
        """`size` more bytes went over."""
        self._here += size
        if self._here > self._told:
            self._advance(self._here - self._told)
            self._told = self._here


def session() -> requests.Session:
    """A session that takes credentials from nowhere but the headers it is given."""
    import requests

    made = requests.Session()
    made.auth = lambda request: request  # else ~/.netrc replaces the header
    return made


def save(url: str, target: Path, limit: int, advance: Advance, **details: Any) -> None:
    """`fetch` into the file `target`, which must not exist yet."""
    with target.open("xb") as opened:

        def begin() -> Callable[[bytes], object]:
            opened.seek(0)
            opened.truncate()
            return opened.write

        fetch(url, begin, limit, advance, **details)


def digest_of(url: str, size: int, **details: Any) -> tuple[int, str]:
    """Size and SHA-256 of what is really there, by reading it all, or up to `size` + 1 bytes."""
    digest = hashlib.sha256()

    def begin() -> Callable[[bytes], object]:
        nonlocal digest
        digest = hashlib.sha256()
        return digest.update

    return fetch(url, begin, size, lambda _: None, **details), digest.hexdigest()


def fetch(
    url: str,
    begin: Begin,
    limit: int,
    advance: Advance,
    *,
    problem: str,
    headers: Mapping[str, str],
    refused: Callable[[int, str], ChannelError],
) -> int:
    """Read `url` to its end, starting over after a break; returns the number of bytes.

    `headers` go to the first server and to none that it redirects to. `refused` makes the error
    for an answer of another status than 200.

    Raises ChannelError if there are more than `limit` bytes, or it breaks off once too often.
    """
    progress = Progress(advance)

    def attempt() -> int:
        progress.restart()
        return _fetch_once(url, begin(), limit, progress, problem, headers, refused)

    return persist(attempt)


def _fetch_once(
    url: str,
    write: Callable[[bytes], object],
    limit: int,
    progress: Progress,
    problem: str,
    headers: Mapping[str, str],
    refused: Callable[[int, str], ChannelError],
) -> int:
    import requests

    size = 0
    try:
        with session() as opened, _follow(opened, url, headers, problem) as response:
            if response.status_code != 200:
                raise refused(response.status_code, response.reason or "")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ChannelError(f"{problem}: the server compresses, unasked")
            for chunk in response.iter_content(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise ChannelError(
                        f"{problem}: more comes than there should be", expected=f"{limit} bytes"
                    )
                write(chunk)
                progress.add(len(chunk))
    except requests.RequestException as error:
        raise broken(problem, error) from None
    except ValueError:  # of urllib's, for a redirect to what is no address
        raise ChannelError(f"{problem}: the server redirects to nowhere") from None
    return size


def _follow(
    opened: requests.Session, url: str, headers: Mapping[str, str], problem: str
) -> requests.Response:
    """The answer at the end of all redirects. `headers` stay with the server they are for."""
    first = _origin(url)
    for _ in range(_REDIRECTS + 1):
        sent = {"Accept-Encoding": "identity", **(headers if _origin(url) == first else {})}
        response = opened.get(
            url, headers=sent, timeout=TIMEOUT, stream=True, allow_redirects=False
        )
        if not response.is_redirect:
            return response
        response.close()
        following = urljoin(url, response.headers["Location"])
        if urlsplit(url).scheme == "https" and urlsplit(following).scheme != "https":
            raise ChannelError(f"{problem}: the server redirects to where nothing is encrypted")
        url = following
    raise ChannelError(f"{problem}: the server redirects without end")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
