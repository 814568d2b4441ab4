"""Releases in OCI registries: ``oci://host[:port]/name:tag``, one artifact with a layer per file.

The manifest holds no time and no name of a machine, and its files are in the order of their
names: the same release has the same digest in every registry. It is written last, under the tag;
until then there are only blobs that nothing names. Blobs that are there already are not sent
again, so that a second run goes on where the first was broken off.

A tag that holds another manifest is left alone. The protocol has no way to write only where
nothing is: two who publish different releases under one tag at the same moment can both find it
free. The tag is then read again, and whose manifest isn't there is told so.

Credentials are those in ``OCI_USERNAME`` and ``OCI_PASSWORD``; or ``GITHUB_TOKEN`` for ghcr.io; or
what ``docker login`` has written to ``config.json`` (in ``DOCKER_CONFIG``, else ``~/.docker``)
itself, not what it has given to a helper program. Hosts other than this machine are spoken to over
TLS only. Sending is oras's; reading needs nothing but what facenet_models downloads with.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from facenet_common.errors import DownloadError, FacenetError, UsageError
from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_models.weights import oci
from facenet_models.weights.download import Part
from facenet_models.weights.download import download as download_file
from facenet_models.weights.http import AbsentError as NoFileError
from facenet_models.weights.http import RefusedError
from facenet_release.channels import Advance
from facenet_release.channels.local import examine
from facenet_release.channels.oci_push import BYTES, EMPTY_BLOB, descriptor, open_pusher
from facenet_release.documents.manifest import Manifest
from facenet_release.errors import AbsentError, ChannelError, TakenError, TokenError

ARTIFACT_TYPE = "application/vnd.facenet-parity.release.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"  # image specification 1.1, as EMPTY_BLOB is
# Everything else is bytes: a registry that answers with text/html can't be told from a login page.
MEDIA_TYPES = {".json": "application/json", ".md": "text/markdown"}


def open_channel(address: str) -> Oci:
    """The channel of that address. Raises UsageError if it is malformed."""
    try:
        parsed = oci.parse(address)
    except FacenetError as error:
        raise UsageError(error.problem, expected=error.expected, found=error.found) from error
    return Oci(address, parsed)


class Oci:
    """One tag in one repository."""

    def __init__(self, address: str, parsed: oci.Address) -> None:
        self.address = address
        self._parsed = parsed
        self._files: dict[str, oci.Blob] | None = None

    @cached_property
    def _registry(self) -> oci.Registry:
        return oci.Registry(self._parsed, credentials(self._parsed.host))

    def names(self) -> Sequence[str]:
        """The titles of the layers; asks the registry anew."""
        with self._translated():
            data = self._manifest()
            if data is None:
                raise AbsentError(
                    "nothing is published there",
                    file=self.address,
                    next_step="check the address; publish first",
                )
            self._files = self._registry.files(data)
        return list(self._files)

    def download(self, name: str, target: Path, limit: int, advance: Advance) -> None:
        """Write the layer of that title to `target`; size and SHA-256 are the manifest's, or else.

        A break is continued within the call, a few times.
        """
        if self._files is None:
            self.names()
        blob = (self._files or {}).get(name)
        if blob is None:
            raise ChannelError("the release has no such file", file=self.address, found=name)
        if blob.size > limit:
            self._fail("the file is too large", name, f"at most {limit} bytes", blob.size)
        done = 0

        def bar(here: int, _total: int | None) -> None:
            nonlocal done
            advance(max(0, here - done))
            done = max(done, here)

        part = Part(target)
        try:
            with self._translated():
                download_file(self._registry.source(blob), part, bar)
            digest = sha256_file(part.path)
            if digest != blob.sha256:
                self._fail("the registry's file is damaged", name, blob.sha256, digest)
            part.keep()
        except OSError as error:
            raise ChannelError(
                "the file can't be written", file=target, found=error.strerror or str(error)
            ) from error
        finally:
            part.discard()

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        """Send what isn't there yet, then the manifest. See `Channel` for what is raised."""
        pusher = open_pusher(self._registry, progress)
        local = examine(files, manifest, progress)
        blobs = {name: oci.Blob(file.size, file.sha256) for name, file in local.items()}
        data = describe(manifest, blobs)
        with self._translated():
            if self._is_published(data):
                progress.note(f"published already: {self.address}")
                return
            sizes = [blob.size for blob in (*blobs.values(), EMPTY_BLOB)]
            progress.stage("publish", sum(sizes) + len(data))
            for name, file in local.items():
                progress.note(name)
                pusher.send(blobs[name], file.path)
            pusher.send_empty()
            pusher.name(data)
            if not self._is_published(data):
                raise ChannelError("the registry took the release, but has none", file=self.address)

    def _manifest(self) -> bytes | None:
        try:
            return self._registry.manifest()
        except NoFileError:
            return None

    def _is_published(self, data: bytes) -> bool:
        """Whether `data` is under the tag. False: nothing is. Raises TakenError."""
        there = self._manifest()
        if there is None or there == data:
            return there == data
        raise TakenError(
            "something else is published there already; it was left as it is",
            file=self.address,
            expected=f"manifest sha256:{hashlib.sha256(data).hexdigest()}, or none",
            found=f"manifest sha256:{hashlib.sha256(there).hexdigest()}",
            next_step="publish under another tag",
        )

    def _fail(self, problem: str, name: str, expected: object, found: object) -> NoReturn:
        raise ChannelError(
            f"{problem}: {name}",
            file=self.address,
            expected=expected,
            found=found,
            next_step="publish it anew under another tag, or tell who keeps the registry",
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """facenet_models' errors as those of a channel."""
        try:
            yield
        except RefusedError as error:
            raise TokenError(
                error.problem,
                file=self.address,
                found=error.found,
                next_step="set OCI_USERNAME and OCI_PASSWORD (for ghcr.io GITHUB_TOKEN will do), "
                "or docker login; they must be allowed to do this",
            ) from error
        except DownloadError as error:
            raise ChannelError(
                error.problem,
                file=self.address,
                expected=error.expected,
                found=error.found,
                next_step="try again: what is there already is not sent again",
            ) from error


def describe(manifest: Manifest, blobs: dict[str, oci.Blob]) -> bytes:
    """The artifact's manifest: canonical, and the same for the same files."""
    layers = [
        descriptor(MEDIA_TYPES.get(Path(name).suffix, BYTES), blob)
        | {"annotations": {oci.TITLE: name}}
        for name, blob in sorted(blobs.items())
    ]
    said = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": descriptor(EMPTY_TYPE, EMPTY_BLOB),
        "layers": layers,
        "annotations": {
            oci.TITLE: manifest.name,
            "org.opencontainers.image.version": manifest.version,
        },
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode("ascii")


def credentials(host: str) -> str | None:
    """User name and password for that registry, as `oci.Registry` wants them.

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
        said = json.loads(file.read_bytes())
        entry = said.get("auths", {}).get(host, {})
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
