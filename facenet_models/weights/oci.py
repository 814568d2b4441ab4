"""Reading from OCI registries: addresses, the manifest of an artifact, its files' digests.

``oci://host[:port]/name:tag`` is read by the protocol that its specification describes
(https://github.com/opencontainers/distribution-spec, version 1.1): the tag leads to a manifest,
the manifest names blobs by SHA-256, and both are checked here against what they are called by.
Blobs themselves come through `facenet_models.weights.http`.

Registries give even anonymous readers a token to show (``WWW-Authenticate: Bearer``). Who wants
to send credentials passes them to `Registry`; this package has none.

Nothing here needs torch. requests, which pooch brings, is imported at the first request.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from facenet_common.errors import DownloadError, UsageError
from facenet_models.weights.http import AbsentError, Source, failed, root

if TYPE_CHECKING:
    import requests

SCHEME = "oci://"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
MAX_MANIFEST = 4 << 20  # bytes; what the specification asks registries to accept
MAX_ANSWER = 64 << 10  # bytes of an answer that holds an error or a token
_TIMEOUT = (10.0, 60.0)  # seconds to connect; seconds without a byte

# The specification's expressions for names and tags.
_ADDRESS = re.compile(
    r"oci://(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)"
    r"/(?P<name>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r":(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,16384}")  # RFC 6750, section 2.1


class RefusedError(DownloadError):
    """The registry wants credentials, or other ones (401 or 403)."""


class Address(NamedTuple):
    """One tag of one repository."""

    host: str
    name: str
    tag: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.host}/{self.name}:{self.tag}"

    @property
    def origin(self) -> str:
        """Scheme and host. Without encryption only on this machine, as Docker does it."""
        return f"{'http' if is_loopback(self.host) else 'https'}://{self.host}"

    @property
    def manifest(self) -> str:
        """Where the tag's manifest is."""
        return f"{self.origin}/v2/{self.name}/manifests/{self.tag}"

    def blob(self, sha256: str) -> str:
        """Where the blob of this hash is."""
        return f"{self.origin}/v2/{self.name}/blobs/sha256:{sha256}"


class Blob(NamedTuple):
    """A file of an artifact: its size in bytes, and its SHA-256 in lower-case hex."""

    size: int
    sha256: str


def parse(address: str) -> Address:
    """The parts of an address. Raises UsageError if it has others."""
    match = _ADDRESS.fullmatch(address)
    if match is None or len(match["name"]) > 255:
        raise UsageError(
            "this is no address in an OCI registry",
            expected="oci://host/name:tag, the name in lower case",
            found=address,
        )
    return Address(match["host"].lower(), match["name"], match["tag"])


def is_loopback(host: str) -> bool:
    """Whether that host, with or without a port, is this machine."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


class Registry:
    """Requests to one repository; tokens are fetched when the registry asks for one.

    `credentials`: user name and password, joined by a colon and in Base64, or None.
    """

    def __init__(self, address: Address, credentials: str | None = None) -> None:
        self.address = address
        self._credentials = credentials
        self._authorization: str | None = None

    def source(self, blob: Blob) -> Source:
        """A blob, for `facenet_models.weights.http.download` and `.read`."""
        return Source(self.address.blob(blob.sha256), size=blob.size, authorise=self.authorise)

    def authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request to this registry, and to no other host."""
        if self._authorization and (request.url or "").startswith(self.address.origin + "/"):
            request.headers["Authorization"] = self._authorization
        return request

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        absent_ok: bool = False,
    ) -> requests.Response:
        """The answer, of which nothing but the headers is read yet; close it.

        `data` may be a file: it is read from its beginning again if the request is repeated with
        a token. With `absent_ok` 404 is an answer too.

        Raises:
            AbsentError: 404. RefusedError: 401 or 403, with a token too. DownloadError: any other
                fault, or the registry can't be reached.
        """
        response = self._send(method, url, headers=headers, data=data)
        if response.status_code == 401:
            with response:
                self._log_in(response)
            if hasattr(data, "seek"):
                data.seek(0)
            response = self._send(method, url, headers=headers, data=data)
        if response.status_code in (200, 201, 202) or (absent_ok and response.status_code == 404):
            return response
        with response:
            raise _refusal(response, url)

    def _send(self, method: str, url: str, **details: Any) -> requests.Response:
        import requests

        # With its own port or path an upload may be elsewhere, but never less protected.
        if self.address.origin.startswith("https:") and not url.startswith("https:"):
            raise failed("the server redirects to an address without encryption", url)
        try:
            response = requests.request(
                method,
                url,
                auth=self.authorise,
                allow_redirects=method in ("GET", "HEAD"),
                stream=True,
                timeout=_TIMEOUT,
                **details,
            )
        except requests.exceptions.SSLError as error:
            reason = root(error)
            raise failed("the server's certificate is not accepted", url, found=reason) from error
        except (requests.RequestException, OSError, ValueError) as error:
            raise failed("the registry can't be reached", url, found=root(error)) from error
        hops = (*response.history, response)
        if url.startswith("https:") and not all(hop.url.startswith("https:") for hop in hops):
            response.close()
            raise failed("the server redirects to an address without encryption", url)
        return response

    def _log_in(self, challenge: requests.Response) -> None:
        """Get what the registry asks for. Raises RefusedError if it can't be had."""
        from requests.utils import parse_dict_header

        scheme, _, rest = challenge.headers.get("WWW-Authenticate", "").partition(" ")
        wanted = parse_dict_header(rest)
        if scheme.lower() == "basic" and self._credentials:
            self._authorization = f"Basic {self._credentials}"
        elif scheme.lower() == "bearer" and wanted.get("realm"):
            self._authorization = f"Bearer {self._token(wanted)}"
        else:
            raise _refusal(challenge, challenge.url)

    def _token(self, wanted: Mapping[str, str | None]) -> str:
        """A token from the server that the registry trusts to give them.

        The registry says which one that is; credentials go there, but never in the clear.
        """
        url = urljoin(self.address.origin, wanted["realm"] or "")
        query = {key: wanted[key] for key in ("service", "scope") if wanted.get(key)}
        headers = {"Authorization": f"Basic {self._credentials}"} if self._credentials else {}
        if not (url.startswith("https:") or is_loopback(urlsplit(url).netloc)):
            raise failed("the registry sends for a token to an address without encryption", url)
        here, self._authorization = self._authorization, None
        try:
            with self._send("GET", url, params=query, headers=headers) as response:
                if response.status_code != 200:
                    raise _refusal(response, url)
                said = _json(read(response, MAX_ANSWER))
        finally:
            self._authorization = here
        token = (said.get("token") or said.get("access_token")) if isinstance(said, dict) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise failed("the registry gives no token", url)
        return token

    def manifest(self) -> bytes:
        """The manifest's bytes, which are what the registry says their digest is.

        Raises AbsentError where there is no such tag, and DownloadError.
        """
        url = self.address.manifest
        with self.request("GET", url, headers={"Accept": MANIFEST_TYPE}) as response:
            data = read(response, MAX_MANIFEST)
            digest = response.headers.get("Docker-Content-Digest", "")
        found = hashlib.sha256(data).hexdigest()
        if _DIGEST.fullmatch(digest) and digest != f"sha256:{found}":
            raise failed(
                "the registry's manifest is damaged: its SHA-256 is wrong",
                url,
                expected=digest.partition(":")[2],
                found=found,
            )
        return data

    def files(self, data: bytes) -> dict[str, Blob]:
        """The files that the manifest `data` names. Their names may be anything.

        Raises DownloadError if it is no manifest, or not one of files.
        """
        try:
            return dict(_layers(_json(data)))
        except _WrongError as error:
            url = self.address.manifest
            raise failed("the registry's manifest is not one of files", url, found=error) from error


class _WrongError(Exception):
    """What is wrong with a manifest."""


def _layers(said: Any) -> dict[str, Blob]:
    layers = said.get("layers") if isinstance(said, dict) else None
    if not isinstance(layers, list) or said.get("schemaVersion") != 2:
        raise _WrongError("no list of layers")
    blobs: dict[str, Blob] = {}
    for row in layers:
        notes = row.get("annotations") if isinstance(row, dict) else None
        title = notes.get(TITLE) if isinstance(notes, dict) else None
        if not isinstance(title, str) or not title:
            raise _WrongError("a layer without a file name")
        size, digest = row.get("size"), row.get("digest")
        if type(size) is not int or size < 0:
            raise _WrongError(f"{title}: no size")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise _WrongError(f"{title}: no SHA-256")
        if title in blobs:
            raise _WrongError(f"{title}: named twice")
        blobs[title] = Blob(size, digest.partition(":")[2])
    return blobs


def read(response: requests.Response, limit: int) -> bytes:
    """The body, if it has at most `limit` bytes. Raises DownloadError."""
    import requests

    data = bytearray()
    try:
        for piece in response.iter_content(limit + 1):
            data += piece
            if len(data) > limit:
                raise failed("the server sends too much", response.url, expected=f"{limit} bytes")
    except requests.RequestException as error:
        raise failed("the registry broke off", response.url, found=root(error)) from error
    return bytes(data)


def _json(data: bytes) -> Any:
    """What `data` says; None if it is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _refusal(response: requests.Response, url: str) -> DownloadError:
    status = response.status_code
    found = f"{status} {response.reason or ''} {_code(response)}".strip()
    if status == 404:
        return failed("the registry has no such thing", url, AbsentError, found=found)
    if status in (401, 403):
        return failed(
            "the registry refuses access",
            url,
            RefusedError,
            found=found,
            next_step="check the address; only what anybody may read is read without credentials",
        )
    return failed("the registry refuses", url, found=found)


def _code(response: requests.Response) -> str:
    """The error's name, such as MANIFEST_UNKNOWN. Nothing else of the answer is repeated."""
    try:
        said = _json(read(response, MAX_ANSWER))
    except DownloadError:
        return ""
    errors = said.get("errors") if isinstance(said, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, dict) else None
    return code if isinstance(code, str) and re.fullmatch("[A-Z_]{1,40}", code) else ""
