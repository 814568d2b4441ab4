"""HTTP requests: the only place that makes them.

requests and urllib3 connect, check certificates, follow redirects, and try again where a server is
busy (`urllib3.util.Retry`). What they leave to their caller is here: no redirect leads from https
to http, no wait and no answer is longer than it may be, and each fault is one error.

Nothing here needs torch. requests is imported at the first request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from facenet_common.errors import DownloadError

if TYPE_CHECKING:
    import requests
    from urllib3.util import Retry

MAX_BYTES = 2 << 30  # far above any weight file, so that no server can fill the disk
MAX_WAIT = 60.0  # seconds; where a server's Retry-After is longer, its answer is an error
RETRIES = 3  # of one request
BACKOFF = 0.3  # seconds; urllib3 doubles it with every retry
TIMEOUT = (10.0, 60.0)  # seconds to connect; seconds without a byte
BUSY = frozenset({429, 500, 502, 503, 504})  # statuses after which a request is sent again
CHUNK = 64 << 10  # bytes; a broken connection loses one chunk at most

Authorise = Callable[["requests.PreparedRequest"], "requests.PreparedRequest"]


class Source(NamedTuple):
    """Where a file is, and what is known of it before a byte has come.

    Args:
        url: Its address, ``http`` or ``https``.
        size: Its exact size in bytes, where a manifest has it.
        limit: The most bytes that it may have.
        authorise: Called with each request, to add a token (`facenet_models.weights.oci`).
    """

    url: str
    size: int | None = None
    limit: int | None = None
    authorise: Authorise | None = None

    def check_size(self, size: int) -> None:
        """Raise DownloadError if the file has more bytes than it may."""
        most = min(n for n in (self.size, self.limit, MAX_BYTES) if n is not None)
        if size > most:
            raise failed("the server sends too much", self.url, expected=f"{most} bytes")


class AbsentError(DownloadError):
    """The server has no such file (404 or 410)."""


class RefusedError(DownloadError):
    """The server asks for credentials, or for other ones (401 or 403)."""


class BreakError(DownloadError):
    """There is no connection, or it broke off, or the server is busy; a later try may succeed."""


def failed(
    problem: str, url: str, kind: type[DownloadError] = DownloadError, **details: Any
) -> DownloadError:
    """Return an error of that `kind` that names `url`, with a next step that fits most."""
    details.setdefault("next_step", "try again later, or see FACENET_MIRROR and FACENET_WEIGHTS")
    return kind(f"{problem}: {shown(url)}", **details)


def shown(url: str) -> str:
    """Return `url` for a message: without user name, password and query.

    Examples:
        >>> shown("https://me:secret@host/file.pt?token=secret")
        'https://host/file.pt'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed address"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def root(reason: BaseException) -> str:
    """Return the innermost reason: requests wraps urllib3, which wraps the system's error."""
    while reason.__cause__ or reason.__context__:
        reason = reason.__cause__ or reason.__context__ or reason
    return str(reason) or type(reason).__name__


# --- Requests -------------------------------------------------------------------------------------


def _retries() -> Retry:
    from urllib3.exceptions import MaxRetryError
    from urllib3.util import Retry

    class BoundedRetry(Retry):
        """urllib3's retries, except after a Retry-After that is too long to wait for."""

        def increment(self, method: Any = None, url: Any = None, *args: Any, **rest: Any) -> Any:
            response = rest.get("response")
            if response is not None and (self.get_retry_after(response) or 0) > MAX_WAIT:
                raise MaxRetryError(rest["_pool"], url)  # then urllib3 returns the response
            return super().increment(method, url, *args, **rest)

    return BoundedRetry(
        total=RETRIES,
        read=1,  # each may take the whole of TIMEOUT
        other=0,  # such as a certificate that is not valid
        status_forcelist=BUSY,
        allowed_methods={"GET", "HEAD"},
        backoff_factor=BACKOFF,
        raise_on_status=False,
    )


def _session() -> requests.Session:
    import requests

    class Session(requests.Session):
        """A session that sends no credentials to a host that a redirect leads to.

        requests drops its own, but looks the new host up in ``~/.netrc``:
        https://github.com/psf/requests/issues/2773
        """

        def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
            if self.should_strip_auth(response.request.url, prepared_request.url):
                prepared_request.headers.pop("Authorization", None)

    return Session()


def send(
    method: str, url: str, *, authorise: Authorise | None = None, **details: Any
) -> requests.Response:
    """Send a request, and return the answer, of which only the headers are read; close it.

    GET and HEAD follow redirects, and are sent again where the server is busy (`BUSY`), or after
    a connection that gave no answer. `authorise`, an Authorization header and ``~/.netrc`` apply
    to the first host only.

    Args:
        method, url: The request.
        authorise: Called with the request before it is sent.
        details: ``headers``, ``params`` and ``data``, as `requests.request` takes them.

    Raises:
        BreakError: The server can't be reached.
        DownloadError: Its certificate is not valid, a redirect leads from https to http or in
            circles, or the address makes no sense.
    """
    import requests
    from requests.adapters import HTTPAdapter

    secure = url.lower().startswith("https:")
    try:
        with _session() as session:
            session.adapters.clear()
            for scheme in ("https://",) if secure else ("https://", "http://"):
                # Without an adapter for http, requests follows no redirect from https to there.
                session.mount(scheme, HTTPAdapter(max_retries=_retries()))
            return session.request(
                method,
                url,
                auth=authorise,
                allow_redirects=method in ("GET", "HEAD"),
                stream=True,
                timeout=TIMEOUT,
                **details,
            )
    except requests.exceptions.SSLError as error:
        found = root(error)
        raise failed("the server's certificate is not accepted", url, found=found) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise failed("the server can't be reached", url, BreakError, found=root(error)) from error
    except (requests.RequestException, OSError, ValueError) as error:
        if secure and isinstance(error, requests.exceptions.InvalidSchema):
            raise failed("the server redirects to an address without encryption", url) from error
        raise failed("the request failed", url, found=root(error)) from error


def refusal(response: requests.Response, url: str) -> DownloadError:
    """Return the error for an answer whose status is not one of success."""
    status, wait = response.status_code, response.headers.get("Retry-After")
    found = f"{status} {response.reason or ''}".strip() + (f", Retry-After: {wait}" if wait else "")
    if status in (404, 410):
        return failed("the server has no such file", url, AbsentError, found=found)
    if status in (401, 403):
        step = "check the address; without credentials only public files can be read"
        return failed("the server refuses access", url, RefusedError, found=found, next_step=step)
    return failed(
        "the server refuses", url, BreakError if status in BUSY else DownloadError, found=found
    )


def body(response: requests.Response, limit: int) -> bytes:
    """Return the body. Raises DownloadError if it breaks off or has more than `limit` bytes."""
    import requests

    data = bytearray()
    try:
        for chunk in response.iter_content(min(limit + 1, CHUNK)):
            data += chunk
            Source(response.url, limit=limit).check_size(len(data))
    except requests.RequestException as error:
        raise failed("the download broke off", response.url, found=root(error)) from error
    return bytes(data)
