"""Reading from OCI registries: addresses, the manifest of an artifact, its files' digests.

``oci://host[:port]/name:tag`` is read by the protocol of the specification
(https://github.com/opencontainers/distribution-spec, version 1.1): the tag leads to a manifest,
the manifest names blobs by SHA-256, and both are checked here against these names. Blobs are
downloaded by `facenet_models.weights.download`.

Registries give even anonymous readers a token to show (``WWW-Authenticate: Bearer``). Credentials
are passed to `Registry` by the caller; this package has none.
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
from facenet_models.weights.http import Source, body, failed, refusal, send
from facenet_models.weights.manifest import Entry

if TYPE_CHECKING:
    import requests

SCHEME = "oci://"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
MAX_MANIFEST = 4 << 20  # bytes; what the specification asks registries to accept
MAX_ANSWER = 64 << 10  # bytes of an answer that holds an error or a token

# The specification's expressions for names and tags.
_ADDRESS = re.compile(
    r"oci://(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)"
    r"/(?P<name>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r":(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,16384}")  # RFC 6750, section 2.1


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
        """The address of the tag's manifest."""
        return f"{self.origin}/v2/{self.name}/manifests/{self.tag}"

    def blob(self, sha256: str) -> str:
        """Return the address of the blob with this hash."""
        return f"{self.origin}/v2/{self.name}/blobs/sha256:{sha256}"


def parse(address: str) -> Address:
    """Split an address into its parts. Raises UsageError if it is malformed.

    Examples:
        >>> parse("oci://ghcr.io/owner/weights:v1")
        Address(host='ghcr.io', name='owner/weights', tag='v1')
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or len(match["name"]) > 255:
        raise UsageError(
            "the address is not one in an OCI registry",
            expected="oci://host/name:tag, the name in lower case",
            found=address,
        )
    return Address(match["host"].lower(), match["name"], match["tag"])


def is_loopback(host: str) -> bool:
    """Return whether that host, with or without a port, is this machine."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


Blob = Entry  # a file of an artifact


class Registry:
    """Requests to one repository; tokens are fetched when the registry asks for one.

    Args:
        address: The tag.
        credentials: User name and password, joined by a colon and in Base64, or None.
    """

    def __init__(self, address: Address, credentials: str | None = None) -> None:
        self.address = address
        self._credentials = credentials
        self._authorization: str | None = None

    def source(self, blob: Blob) -> Source:
        """Return a blob for `facenet_models.weights.download`."""
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
        """Send a request, and return the answer, of which only the headers are read; close it.

        Args:
            method, url, headers: The request.
            data: Bytes or a file, which is read from its beginning again if the request is
                repeated with a token.
            absent_ok: Return an answer of status 404, too.

        Raises:
            AbsentError: 404.
            RefusedError: 401 or 403, with a token too.
            DownloadError: Any other fault.
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
        # An upload may go to another port or path, but never without encryption.
        if self.address.origin.startswith("https:") and not url.startswith("https:"):
            raise failed("the server redirects to an address without encryption", url)
        return send(method, url, authorise=self.authorise, **details)

    def _log_in(self, challenge: requests.Response) -> None:
        """Get what the registry asks for. Raises RefusedError if there are no credentials."""
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
        """Return a token from the server that the registry names.

        Credentials go to that server, but never without encryption.
        """
        try:
            url = urljoin(self.address.origin, wanted["realm"] or "")
            private = url.startswith("https:") or is_loopback(urlsplit(url).netloc)
        except ValueError as error:
            raise failed("the registry gives no token", self.address.origin, found=error) from error
        if not private:
            raise failed("the registry sends for a token to an address without encryption", url)
        query = {key: wanted[key] for key in ("service", "scope") if wanted.get(key)}

        def identify(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if self._credentials:
                request.headers["Authorization"] = f"Basic {self._credentials}"
            return request

        with send("GET", url, authorise=identify, params=query) as response:
            if response.status_code != 200:
                raise _refusal(response, url)
            answer = _json(body(response, MAX_ANSWER))
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise failed("the registry gives no token", url)
        return token

    def manifest(self) -> bytes:
        """Return the manifest, whose digest is the one that the registry gives.

        Raises:
            AbsentError: There is no such tag.
            DownloadError: Any other fault.
        """
        url = self.address.manifest
        with self.request("GET", url, headers={"Accept": MANIFEST_TYPE}) as response:
            data = body(response, MAX_MANIFEST)
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
        """Return the files that the manifest `data` names. Their names are not checked.

        Raises DownloadError if it is not a manifest, or not one of files.
        """
        try:
            return _layers(_json(data))
        except _WrongError as error:
            url = self.address.manifest
            raise failed("the registry's manifest is not one of files", url, found=error) from error


class _WrongError(Exception):
    """A manifest is malformed; the message says how."""


def _layers(content: dict[str, Any]) -> dict[str, Blob]:
    layers = content.get("layers")
    if not isinstance(layers, list) or content.get("schemaVersion") != 2:
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


def _json(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`; an empty one if there is none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _refusal(response: requests.Response, url: str) -> DownloadError:
    """Return `refusal` with the error's name, such as MANIFEST_UNKNOWN, and nothing else of it."""
    error = refusal(response, url)
    try:
        codes = re.findall(rb'"code"\s*:\s*"([A-Z_]{1,40})"', body(response, MAX_ANSWER))
    except DownloadError:
        codes = []
    error.found = " ".join([error.found or "", *(code.decode() for code in codes[:1])])
    return error
