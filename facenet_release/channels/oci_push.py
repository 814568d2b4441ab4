"""Sending blobs and a manifest to an OCI registry, with oras.

oras decides what is asked, in which order. How it is asked is decided by
`facenet_models.weights.oci.Registry`: one attempt, so that a break is told at once; time limits; no
token to another host, and none in a log.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from facenet_common.errors import UsageError
from facenet_common.progress import Progress
from facenet_models.weights import oci
from facenet_models.weights.http import failed

if TYPE_CHECKING:
    import requests

BYTES = "application/octet-stream"
EMPTY = b"{}"
EMPTY_BLOB = oci.Blob(len(EMPTY), hashlib.sha256(EMPTY).hexdigest())


class Pusher(Protocol):
    """Sends to one tag. Everything raises DownloadError, as `oci.Registry` does."""

    def send(self, blob: oci.Blob, file: Path) -> None:
        """Send the file, which is `blob`, unless it is there already."""

    def send_empty(self) -> None:
        """Send EMPTY, unless it is there already."""

    def name(self, manifest: bytes) -> None:
        """Put a manifest under the tag; what it names was sent before."""


def descriptor(media_type: str, blob: oci.Blob) -> dict[str, Any]:
    """How a manifest names a blob."""
    return {"mediaType": media_type, "size": blob.size, "digest": f"sha256:{blob.sha256}"}


def open_pusher(registry: oci.Registry, progress: Progress) -> Pusher:
    """One that sends through `registry`. Asks nothing yet.

    Raises UsageError if oras is not installed.
    """
    if find_spec("oras") is None:
        raise UsageError(
            "publishing to a registry needs oras, which is not installed",
            next_step='pip install "facenet-parity[release]"',
        )
    import oras.container  # type: ignore[import-untyped] # no type information is shipped
    import oras.provider  # type: ignore[import-untyped] # likewise

    address = registry.address
    container = oras.container.Container(f"host.invalid/{address.name}:{address.tag}")
    container.registry = address.host  # oras takes a host without a dot for a part of the name

    class OrasPusher(oras.provider.Registry):  # type: ignore[misc] # its type is not known
        def do_request(self, url: str, method: str = "GET", **details: Any) -> requests.Response:
            data = details.get("data")
            answer = registry.request(
                method,
                url,
                data=_Counted(data, progress.advance) if data else None,
                headers=details.get("headers"),
                absent_ok=method == "HEAD",
            )
            answer.close()  # oras looks at status and headers only
            if method == "POST" and not answer.headers.get("Location"):
                raise failed("the registry does not say where to send a file", url)
            return answer

        def send(self, blob: oci.Blob, file: Path) -> None:
            if self._has(blob):
                progress.advance(blob.size)
            else:
                self.put_upload(str(file), container, descriptor(BYTES, blob))

        def send_empty(self) -> None:
            with TemporaryDirectory() as folder:
                file = Path(folder) / "empty"
                file.write_bytes(EMPTY)
                self.send(EMPTY_BLOB, file)

        def name(self, manifest: bytes) -> None:
            url = f"{self.prefix}://{container.manifest_url()}"
            self.do_request(url, "PUT", data=manifest, headers={"Content-Type": oci.MANIFEST_TYPE})

        def _has(self, blob: oci.Blob) -> bool:
            """Whether it is there. oras's own question does not look at its size."""
            url = address.blob(blob.sha256)
            answer = self.do_request(url, "HEAD")
            size = answer.headers.get("Content-Length")
            if answer.status_code == 200 and size is not None and size != str(blob.size):
                raise failed(
                    "the registry holds a damaged file",
                    url,
                    expected=f"{blob.size} bytes",
                    found=f"{size} bytes",
                )
            return answer.status_code == 200

    return OrasPusher(address.host, insecure=oci.is_loopback(address.host))


class _Counted(io.BytesIO):
    """Bytes that tell when they are read; once only, if they are sent twice."""

    def __init__(self, data: bytes, advance: Callable[[int], object]) -> None:
        super().__init__(data)
        self._advance, self._told = advance, 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > self._told:
            self._advance(self.tell() - self._told)
            self._told = self.tell()
        return data
