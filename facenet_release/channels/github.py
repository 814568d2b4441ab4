"""``github:owner/repo@tag``: the release of that tag, on GitHub or a GitHub Enterprise server.

Files go into a draft, which nobody else sees. When all are there, and the server's own digests
say that they are right, the draft is published, by one request. A published release is never
changed. The draft of an earlier attempt is gone on with; it is known by a line in its text, which
has the hash of the manifest, so that nobody else's draft is touched.

The token comes from ``GITHUB_TOKEN`` or ``GH_TOKEN``, the server from ``GITHUB_API_URL``.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from facenet_common.errors import UsageError
from facenet_common.progress import Progress
from facenet_release.channels import Advance, http
from facenet_release.channels.github_api import (
    NEED,
    TOKENS,
    Api,
    Asset,
    ExistsError,
    Release,
    server,
)
from facenet_release.channels.local import Local, differences, examine, few
from facenet_release.documents.manifest import Manifest
from facenet_release.errors import AbsentError, ChannelError, ReleaseError, TakenError

# https://docs.github.com/repositories/releasing-projects-on-github/about-releases
MAX_ASSET = 2 << 30  # bytes; each must have fewer
MAX_ASSETS = 1000

_ADDRESS = re.compile(
    r"github:(?P<repository>[A-Za-z0-9][A-Za-z0-9-]*/(?!\.\.?@)[A-Za-z0-9._-]+)"
    r"@(?P<tag>[A-Za-z0-9][A-Za-z0-9._+/-]*)"
)


def open_channel(address: str) -> GitHub:
    """The channel of that address. Raises UsageError if it is malformed, or PyGithub is absent."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None or ".." in parts["tag"]:
        raise UsageError(
            "this is no address of a release on GitHub",
            expected="github:owner/repo@tag",
            found=address,
        )
    if find_spec("github") is None:
        raise UsageError(
            "GitHub needs the package PyGithub, which is not installed",
            next_step='pip install "facenet-parity[release]"',
        )
    server()  # wrong: say so at once
    return GitHub(address, parts["repository"], parts["tag"])


class GitHub:
    """A `Channel`."""

    def __init__(self, address: str, repository: str, tag: str) -> None:
        self._address, self._repository, self._tag = address, repository, tag
        self._published: dict[str, Asset] = {}

    @property
    def address(self) -> str:
        return self._address

    def names(self) -> Sequence[str]:
        api = self._api(http.token_of(TOKENS))
        release = api.published(self._tag)
        if release is None:
            there = api.repository_exists()
            raise AbsentError(
                f"{self._address}: no release of this tag is published"
                if there
                else f"{self._address}: there is no such repository, or not for this token",
                next_step=None if there else f"a private one needs a token in {TOKENS[0]}",
            )
        assets = [asset for asset in api.assets(release) if asset.uploaded]
        self._published = {asset.name: asset for asset in assets}
        return list(self._published)

    def download(self, name: str, target: Path, limit: int, advance: Advance) -> None:
        if name not in self._published:
            self.names()
        if name not in self._published:
            raise AbsentError(f"{self._address}: no asset is called {name!r}")
        self._api(http.token_of(TOKENS)).download(self._published[name], target, limit, advance)

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        token = http.needed_token(TOKENS, NEED)
        _admit(files)
        local = examine(files, manifest, progress)
        api = self._api(token)
        release = api.published(self._tag)
        if release is not None:
            self._check_published(api, release, local)
            progress.note("published already")
            return
        marker = _marker(manifest)
        draft = self._draft(api, manifest, marker)
        progress.stage("upload", sum(file.size for file in local.values()))
        self._fill(api, draft, local, progress)
        progress.note("check what the server has")
        self._check_draft(api, draft, local)
        progress.note("publish")
        try:
            api.make_public(draft)
        except ExistsError:
            release = api.published(self._tag)
            if release is None:
                raise
            self._check_published(api, release, local)
        else:
            self._check_draft(api, draft, local)  # whether somebody else was at it meanwhile
        for other in api.drafts(self._tag, marker):
            api.discard(other)

    def _api(self, token: str | None) -> Api:
        return Api(self._address, self._repository, token)

    def _draft(self, api: Api, manifest: Manifest, marker: str) -> Release:
        """The oldest draft of ours, so that two publishers agree, or else a new one."""
        text = (
            f"Weights, with the evidence that they are right. `facenet release check "
            f"{self._address}` downloads and checks them.\n\n{marker}\n"
        )
        failure: ChannelError | None = None
        for wait in http.WAITS:
            drafts = api.drafts(self._tag, marker)
            if drafts:
                return drafts[0]
            try:
                made = api.create(self._tag, f"{manifest.name} {manifest.version}", text)
            except http.BreakError as error:  # it may be there nevertheless
                failure = error
                time.sleep(wait)
                continue
            return next(iter(api.drafts(self._tag, marker)), made)
        assert failure is not None
        raise failure

    def _fill(
        self, api: Api, draft: Release, local: Mapping[str, Local], progress: Progress
    ) -> None:
        """Leave in the draft what is right, delete the rest, and send what lacks."""
        there = set()
        for asset in api.assets(draft):
            if asset.name in local and _is(api, asset, local[asset.name]):
                there.add(asset.name)
            else:
                api.delete(draft, asset)
        for name, file in local.items():
            if name in there:
                progress.advance(file.size)
            else:
                self._send(api, draft, file, progress)

    def _send(self, api: Api, draft: Release, file: Local, progress: Progress) -> None:
        """Send one file until the server has it, a few times at most."""
        sent = http.Progress(progress.advance)
        failure: ChannelError
        for wait in (*http.WAITS, None):
            sent.restart()
            try:
                asset = api.upload(draft, file, sent.add)
                if asset.name != file.name:
                    api.delete(draft, asset)
                    raise ChannelError(
                        f"{self._address}: the server renames an asset",
                        expected=file.name,
                        found=asset.name,
                    )
                failure = ChannelError(
                    f"{self._address}: the server doesn't store what was sent; nothing was "
                    "published",
                    file=file.path,
                    expected=f"{file.size} bytes, sha256:{file.sha256}",
                    found=f"{asset.size} bytes, sha256:{asset.sha256}",
                )
            except (http.BreakError, ExistsError) as error:
                failure = error
            if self._arrived(api, draft, file):
                return
            if wait is None:
                raise failure
            time.sleep(wait)

    def _arrived(self, api: Api, draft: Release, file: Local) -> bool:
        """Whether the file is there and right. Clears away what a broken upload leaves."""
        for asset in api.assets(draft):
            if asset.name == file.name:
                if _is(api, asset, file):
                    return True
                api.delete(draft, asset)
        return False

    def _check_draft(self, api: Api, draft: Release, local: Mapping[str, Local]) -> None:
        findings = _differences(api, draft, local)
        if findings:
            raise ChannelError(
                f"{self._address}: the release there doesn't hold what was sent",
                found=few(findings),
                next_step="is somebody else publishing there? if not, start again",
            )

    def _check_published(self, api: Api, release: Release, local: Mapping[str, Local]) -> None:
        findings = _differences(api, release, local)
        if findings:
            raise TakenError(
                f"{self._address}: another release is published there; nothing was changed",
                found=few(findings),
                next_step="publish under another tag",
            )


def _admit(files: Sequence[Path]) -> None:
    """Raise ReleaseError for what GitHub doesn't take, before anything is read or sent."""
    for file in files:
        size = file.stat().st_size
        if not 0 < size < MAX_ASSET:
            raise ReleaseError(
                "GitHub doesn't take a file of this size",
                file=file,
                expected=f"1 to {MAX_ASSET - 1} bytes",
                found=size,
            )
    if len(files) > MAX_ASSETS:
        raise ReleaseError(
            "GitHub doesn't take so many files", expected=f"{MAX_ASSETS} at most", found=len(files)
        )


def _marker(manifest: Manifest) -> str:
    """The line by which a draft of this release is known."""
    return (
        f"<!-- facenet-parity manifest sha256:{hashlib.sha256(manifest.to_bytes()).hexdigest()} -->"
    )


def _is(api: Api, asset: Asset, file: Local) -> bool:
    """Whether that asset is this file, whole."""
    if not asset.uploaded or asset.size != file.size:
        return False
    return api.content(asset) == (file.size, file.sha256)


def _differences(api: Api, release: Release, local: Mapping[str, Local]) -> list[str]:
    assets = api.assets(release)
    findings = [f"{asset.name}: not whole" for asset in assets if not asset.uploaded]
    whole = [asset for asset in assets if asset.uploaded]
    there = {
        asset.name: api.content(asset)
        if asset.name in local and asset.size == local[asset.name].size
        else (asset.size, "")
        for asset in whole
    }
    return findings + differences(local, there)
