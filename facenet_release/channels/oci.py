"""Releases in OCI registries: ``oci://host[:port]/name:tag``, one artifact with a layer per file.

The manifest holds no time and no name of a machine, and its files are sorted by name: the same
release has the same digest in every registry. It is written last, under the tag; until then there
are only blobs that nothing names. Blobs that are there already are not sent again, so that a
second run goes on where the first was broken off.

A tag that holds another manifest is not changed. The protocol has no way to write only where
nothing is: two who publish different releases under one tag at the same moment can both find it
free. The tag is then read again, and the one whose manifest is not there gets an error.

Credentials are those in ``OCI_USERNAME`` and ``OCI_PASSWORD``; or ``GITHUB_TOKEN`` for ghcr.io; or
what ``docker login`` has written to ``config.json`` (in ``DOCKER_CONFIG``, else ``~/.docker``)
itself, not what it has given to a helper program. All requests to hosts other than this machine
use TLS. oras sends; reading needs only what facenet_models downloads with.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from facenet_common.errors import FacenetError, UsageError
from facenet_common.optional import require
from facenet_common.progress import Progress
from facenet_models.weights import http, oci
from facenet_release.channels import OnProgress, common
from facenet_release.channels.common import ByteCounter, Local, Upload
from facenet_release.documents.manifest import Manifest
from facenet_release.errors import AbsentError, ChannelError, TakenError, TokenError

if TYPE_CHECKING:
    import requests

CREDENTIALS = "OCI_USERNAME and OCI_PASSWORD (for ghcr.io GITHUB_TOKEN), or docker login"
ARTIFACT_TYPE = "application/vnd.facenet-parity.release.v1"
# Everything else is bytes: a registry that answers with text/html looks like a login page.
MEDIA_TYPES = {".json": "application/json", ".md": "text/markdown"}
BYTES = "application/octet-stream"
_EMPTY = b"{}"  # the configuration of an artifact that has none: image specification 1.1
_EMPTY_BLOB = oci.Blob(len(_EMPTY), hashlib.sha256(_EMPTY).hexdigest())


def open_channel(address: str) -> Oci:
    """Open the channel of that address. Raises UsageError if it is malformed."""
    try:
        parsed = oci.parse(address)
    except FacenetError as error:
        raise UsageError(error.problem, expected=error.expected, found=error.found) from error
    return Oci(address, parsed)


class Oci:
    """A `Channel`."""

    def __init__(self, address: str, parsed: oci.Address) -> None:
        self.address, self._parsed = address, parsed
        self._files: dict[str, oci.Blob] | None = None

    @cached_property
    def _registry(self) -> oci.Registry:
        return oci.Registry(self._parsed, credentials(self._parsed.host))

    def names(self) -> Sequence[str]:
        with self._errors():
            data = self._manifest()
            if data is None:
                raise AbsentError(
                    "nothing is published there",
                    file=self.address,
                    next_step="check the address; publish first",
                )
            self._files = self._registry.files(data)
        return list(self._files)

    def download(self, name: str, target: Path, limit: int, on_progress: OnProgress) -> None:
        if self._files is None:
            self.names()
        blob = (self._files or {}).get(name)
        if blob is None:
            raise ChannelError("the release has no such file", file=self.address, found=name)
        source = self._registry.source(blob)._replace(limit=limit)
        common.download(source, target, on_progress, self.address, CREDENTIALS, blob.sha256)

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        require("oras", "publishing to a registry")
        local = common.examine(files, manifest, progress)
        data = describe(manifest, local)
        if common.try_again(lambda: self._publish(local, data, progress)):
            progress.note(f"published already: {self.address}")

    def _publish(self, local: Mapping[str, Local], data: bytes, progress: Progress) -> bool:
        """Send what is missing; return whether nothing was."""
        with self._errors(), TemporaryDirectory() as folder:
            if self._is_published(data):
                return True
            (Path(folder) / "empty").write_bytes(_EMPTY)
            sending = (*local.values(), Local(Path(folder) / "empty", *_EMPTY_BLOB))
            progress.stage("publish", sum(file.size for file in sending))
            upload = _uploader(self._registry, progress.advance)
            for file in sending:
                progress.note(file.name)
                if self._is_stored(file):
                    progress.advance(file.size)
                else:
                    upload(file)
            headers, url = {"Content-Type": oci.MANIFEST_TYPE}, self._parsed.manifest
            self._registry.request("PUT", url, data=data, headers=headers).close()
            if not self._is_published(data):
                raise ChannelError("the registry took the release, but has none", file=self.address)
            return False

    def _is_stored(self, file: Local) -> bool:
        """Return whether the registry has this blob. Raises DownloadError if it is damaged."""
        url = self._parsed.blob(file.sha256)
        with self._registry.request("HEAD", url, absent_ok=True) as answer:
            size = answer.headers.get("Content-Length")
            if answer.status_code == 200 and size not in (None, str(file.size)):
                raise http.failed(
                    "the registry holds a damaged file",
                    url,
                    expected=f"{file.size} bytes",
                    found=f"{size} bytes",
                )
            return answer.status_code == 200

    def _manifest(self) -> bytes | None:
        try:
            return self._registry.manifest()
        except http.AbsentError:
            return None

    def _is_published(self, data: bytes) -> bool:
        """Return whether `data` is under the tag. Raises TakenError if something else is."""
        there = self._manifest()
        if there is None or there == data:
            return there == data
        raise TakenError(
            "something else is published there already; nothing was changed",
            file=self.address,
            expected=f"manifest sha256:{hashlib.sha256(data).hexdigest()}, or none",
            found=f"manifest sha256:{hashlib.sha256(there).hexdigest()}",
            next_step="publish under another tag",
        )

    def _errors(self) -> AbstractContextManager[None]:
        return common.transfer_errors(self.address, CREDENTIALS)


def _uploader(registry: oci.Registry, on_progress: OnProgress) -> Callable[[Local], object]:
    """Return a function that sends one file, through oras.

    oras chooses the requests; `registry` sends each once, with time limits, and with the token for
    its own host only. oras by itself tries for minutes, and sends the token to any host.
    """
    import oras.container  # type: ignore[import-untyped] # no type information is shipped
    import oras.provider  # type: ignore[import-untyped] # likewise

    address = registry.address
    container = oras.container.Container(f"host.invalid/{address.name}:{address.tag}")
    container.registry = address.host  # oras takes a host without a dot for a part of the name

    class Client(oras.provider.Registry):  # type: ignore[misc] # its type is not known
        def do_request(
            self, url: str, method: str = "GET", data: bytes = b"", headers: Any = None
        ) -> requests.Response:
            body = Upload(BytesIO(data), ByteCounter(on_progress)) if data else None
            with registry.request(method, url, data=body, headers=headers) as answer:
                if method == "POST" and not answer.headers.get("Location"):
                    raise http.failed("the registry does not say where to send a file", url)
                return answer  # oras looks at status and headers only

    client = Client(address.host, insecure=oci.is_loopback(address.host))
    return lambda file: client.put_upload(str(file.path), container, _descriptor(BYTES, file))


def describe(manifest: Manifest, files: Mapping[str, Local | oci.Blob]) -> bytes:
    """Return the artifact's manifest as canonical JSON: the same for the same files."""
    layers = [
        _descriptor(MEDIA_TYPES.get(Path(name).suffix, BYTES), file)
        | {"annotations": {oci.TITLE: name}}
        for name, file in sorted(files.items())
    ]
    content = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": _descriptor("application/vnd.oci.empty.v1+json", _EMPTY_BLOB),
        "layers": layers,
        "annotations": {
            oci.TITLE: manifest.name,
            "org.opencontainers.image.version": manifest.version,
        },
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")


def _descriptor(media_type: str, blob: Local | oci.Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "size": blob.size, "digest": f"sha256:{blob.sha256}"}


def credentials(host: str) -> str | None:
    """Return user name and password for that registry, as `oci.Registry` takes them.

    Raises TokenError if what there is can't be used.
    """
    user, password = os.environ.get("OCI_USERNAME", ""), os.environ.get("OCI_PASSWORD", "")
    if bool(user) != bool(password):
        raise TokenError("OCI_USERNAME and OCI_PASSWORD belong together: one of them is not set")
    if not user and host == "ghcr.io":
        password = os.environ.get("GITHUB_TOKEN", "")
        user = os.environ.get("GITHUB_ACTOR") or "token"  # GitHub looks at the token only
    if password:
        return base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return _docker_credentials(host)


def _docker_credentials(host: str) -> str | None:
    folder = os.environ.get("DOCKER_CONFIG")
    file = (Path(folder) if folder else Path("~/.docker").expanduser()) / "config.json"
    try:
        entry = json.loads(file.read_bytes()).get("auths", {}).get(host, {})
        auth: str | None = entry.get("auth") or None
        if auth is not None and b":" not in base64.b64decode(auth, validate=True):
            raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        # Not what is wrong with it: that could hold a piece of a password.
        raise TokenError(
            "docker's file of credentials can't be read, or is damaged",
            file=file,
            next_step=f"docker login {host}, or set OCI_USERNAME and OCI_PASSWORD",
        ) from None
    return auth
