"""``github:owner/repo@tag``: the release of that tag, on GitHub or a GitHub Enterprise server.

Files go into a draft, which nobody else sees. When all are there, and the server's own digests
match, one request publishes the draft. A published release is never changed. The draft of an
earlier attempt is used again: a line in its text has the hash of the manifest, so that nobody
else's draft is touched.

The token comes from ``GITHUB_TOKEN`` or ``GH_TOKEN``, the server from ``GITHUB_API_URL``. PyGithub
sends all requests and tries them again after breaks and rate limits; only downloads, which it
holds in memory whole, go through `facenet_models.weights.http`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facenet_common.errors import UsageError
from facenet_common.optional import require
from facenet_common.progress import Progress
from facenet_models.weights.http import Source
from facenet_release.channels import OnProgress, common
from facenet_release.channels.common import (
    BreakError,
    ByteCounter,
    Local,
    Upload,
    differences,
    summarise,
)
from facenet_release.documents.manifest import Manifest
from facenet_release.errors import AbsentError, ChannelError, TakenError

if TYPE_CHECKING:
    from github import Github
    from github.GitRelease import GitRelease
    from github.GitReleaseAsset import GitReleaseAsset

TOKENS = ("GITHUB_TOKEN", "GH_TOKEN")
NEED = "write the repository's contents (fine-grained: Contents, read and write; classic: repo)"
_ROUNDS = 3  # how often a file that did not arrive whole is sent
_ADDRESS = re.compile(
    r"github:(?P<repository>[A-Za-z0-9][A-Za-z0-9-]*/(?!\.\.?@)[A-Za-z0-9._-]+)"
    r"@(?P<tag>[A-Za-z0-9][A-Za-z0-9._+/-]*)"
)
# PyGithub raises these for an answer that does not follow the protocol.
_ODD = (ValueError, TypeError, KeyError, AttributeError, AssertionError, RuntimeError)


class _ExistsError(ChannelError):
    """The server has something under this name already."""


def open_channel(address: str) -> GitHub:
    """Open the channel of that address. Raises UsageError if it is malformed."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None or ".." in parts["tag"]:
        raise UsageError(
            "this is no address of a release on GitHub",
            expected="github:owner/repo@tag",
            found=address,
        )
    require("github", "GitHub")
    return GitHub(address, parts["repository"], parts["tag"])


class GitHub:
    """A `Channel`."""

    def __init__(self, address: str, repository: str, tag: str) -> None:
        self.address, self._name, self._tag = address, repository, tag
        self._server = common.server_address("GITHUB_API_URL", "https://api.github.com")
        # On github.com another host, on GitHub Enterprise Server another path.
        uploads = self._server.replace("//api.", "//uploads.", 1)
        self._uploads = re.sub("/api/v3$", "/api/uploads", uploads)
        self._published: dict[str, GitReleaseAsset] = {}

    def names(self) -> Sequence[str]:
        self._connect()
        release = self._find_published()
        if release is None:
            raise AbsentError(
                f"{self.address}: no release of this tag is published",
                next_step=f"check the address; a private repository needs a token in {TOKENS[0]}",
            )
        self._published = {a.name: a for a in self._assets(release) if a.state == "uploaded"}
        return list(self._published)

    def download(self, name: str, target: Path, limit: int, on_progress: OnProgress) -> None:
        if name not in self._published:
            self.names()
        if name not in self._published:
            raise AbsentError(f"{self.address}: no asset is called {name!r}")
        source = self._source(self._published[name], limit)
        common.download(source, target, on_progress, self.address, TOKENS[0])

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        common.token_of(TOKENS, needed_to=NEED)
        local = common.examine(files, manifest, progress)
        self._connect()
        release = self._find_published()
        if release is not None:
            self._require_same(release, local)
            progress.note("published already")
            return
        digest = hashlib.sha256(manifest.to_bytes()).hexdigest()
        marker = f"<!-- facenet-parity manifest sha256:{digest} -->"
        draft = self._draft(f"{manifest.name} {manifest.version}", marker)
        progress.stage("upload", sum(file.size for file in local.values()))
        self._fill(draft, local, progress)
        progress.note("publish")
        try:
            with self._errors("publishing the draft"):
                draft.update_release(draft.name, draft.body, draft=False, tag_name=self._tag)
        except _ExistsError:  # somebody else has published a release of this tag
            release = self._find_published()
            if release is None:
                raise
            self._require_same(release, local)
        for other in self._drafts(marker):
            with suppress(AbsentError), self._errors("deleting a draft"):
                other.delete_release()

    def _draft(self, title: str, marker: str) -> GitRelease:
        """Return our oldest draft, so that two publishers use the same, or make one."""
        text = (
            f"Weights, with the evidence that they are right. `facenet release check "
            f"{self.address}` downloads and checks them.\n\n{marker}\n"
        )
        if not self._drafts(marker):
            try:
                with self._errors("making the draft"):
                    self._repository.create_git_release(self._tag, title, text, draft=True)
            except AbsentError as error:  # GitHub's answer to a token that may only read
                problem = f"{self.address}: making the draft"
                raise common.refusal(problem, 403, str(error.found), TOKENS, NEED) from None
        drafts = self._drafts(marker)
        if not drafts:
            raise BreakError(f"{self.address}: the draft is not listed", next_step=common.AGAIN)
        return drafts[0]

    def _fill(self, draft: GitRelease, local: Mapping[str, Local], progress: Progress) -> None:
        """Send what is missing and delete what is wrong, until the draft has exactly `local`."""
        counter = {name: ByteCounter(progress.advance) for name in local}
        for sent in range(_ROUNDS + 1):
            assets = self._assets(draft)
            there = {asset.name: self._sha256(asset) for asset in assets}
            findings = differences(local, there)
            if not findings:
                return
            if sent == _ROUNDS:
                raise ChannelError(
                    f"{self.address}: the server doesn't store what was sent; "
                    "nothing was published",
                    found=summarise(findings),
                    next_step="is somebody else publishing there? if not, start again",
                )
            for asset in assets:
                file = local.get(asset.name)
                if file and there[file.name] == file.sha256:
                    counter[file.name].reach(file.size)
                else:  # also half an asset that a broken upload has left
                    self._delete(draft, asset)
            for file in local.values():
                if there.get(file.name) != file.sha256:
                    with suppress(_ExistsError):  # PyGithub sent it again, and half is in the way
                        self._upload(draft, file, counter[file.name])

    def _upload(self, draft: GitRelease, file: Local, counter: ByteCounter) -> None:
        from github.GitRelease import GitRelease

        # Not where the answer wants uploads to go, so that no other host gets the token.
        address = f"{self._uploads}/repos/{self._name}/releases/{draft.id}/assets"
        release = GitRelease(self._uploader, {}, {"upload_url": address})
        with self._errors(f"uploading {file.name}"), FileIO(file.path) as raw:
            release.upload_asset_from_memory(
                Upload(raw, counter), file.size, file.name, "application/octet-stream"
            )

    def _delete(self, draft: GitRelease, asset: GitReleaseAsset) -> None:
        """Delete an asset of a draft; never one of a published release."""
        with self._errors("looking at the draft"):
            is_draft = self._repository.get_release(draft.id).draft
        if not is_draft:
            raise ChannelError(f"{self.address}: somebody published the draft meanwhile")
        with suppress(AbsentError), self._errors(f"deleting {asset.name}"):
            asset.delete_asset()

    def _drafts(self, marker: str) -> list[GitRelease]:
        """Return all drafts for the tag whose text has the marker, oldest first."""
        with self._errors("listing the drafts"):
            releases = [r for r in self._repository.get_releases() if r.draft]
            ours = (r for r in releases if r.tag_name == self._tag and marker in (r.body or ""))
            return sorted(ours, key=lambda release: release.id)

    def _find_published(self) -> GitRelease | None:
        """Return the published release of the tag; drafts aren't found by their tags."""
        try:
            with self._errors("looking for the release"):
                return self._repository.get_release(self._tag)
        except AbsentError:
            return None

    def _require_same(self, release: GitRelease, local: Mapping[str, Local]) -> None:
        there = {asset.name: self._sha256(asset) for asset in self._assets(release)}
        if findings := differences(local, there):
            raise TakenError(
                f"{self.address}: another release is published there; nothing was changed",
                found=summarise(findings),
                next_step="publish under another tag",
            )

    def _assets(self, release: GitRelease) -> list[GitReleaseAsset]:
        with self._errors("listing the assets"):
            assets = list(release.get_assets())
            if any(None in (a.id, a.name, a.size, a.state) for a in assets):
                raise ValueError("PyGithub gives None for what the answer lacks")
            return assets

    def _sha256(self, asset: GitReleaseAsset) -> str | None:
        """Return the SHA-256 of what the server has; None if that isn't whole.

        Servers older than 2025 have no digests: then it is downloaded.
        """
        if asset.state != "uploaded":
            return None
        kind, _, digest = (asset.digest or "").partition(":")
        if kind == "sha256":
            return digest.lower()
        return common.downloaded_sha256(self._source(asset, asset.size), self.address, TOKENS[0])

    def _source(self, asset: GitReleaseAsset, limit: int) -> Source:
        url = f"{self._server}/repos/{self._name}/releases/assets/{asset.id}"
        return common.authorised(url, limit, TOKENS, accept="application/octet-stream")

    def _connect(self) -> None:
        """Set up PyGithub; it sends nothing yet."""
        from github import Auth, Github, GithubRetry

        token = common.token_of(TOKENS)
        retry = GithubRetry(
            total=3,
            backoff_factor=1,
            allowed_methods=None,  # all: what a lost answer has made is found later
            max_rate_limit_wait=60,
            raise_on_status=False,  # else the answer, with its message, is lost
        )

        def connect(base_url: str) -> Github:
            return Github(
                auth=Auth.Token(token) if token else None,
                base_url=base_url,
                timeout=common.TIMEOUT,
                per_page=100,
                retry=retry,
                lazy=True,  # no request before one is needed
            )

        # Its lines at DEBUG repeat whole answers, which may repeat the token.
        logging.getLogger("github.Requester").setLevel(logging.INFO)
        self._repository = connect(self._server).get_repo(self._name)
        # Through the API's connection PyGithub has no time limit for the host of uploads.
        self._uploader = connect(self._uploads).requester

    @contextmanager
    def _errors(self, problem: str) -> Iterator[None]:
        """Raise ChannelError for what PyGithub raises; AbsentError for 404."""
        import requests
        from github import BadAttributeException, GithubException

        raised: Any = (GithubException, BadAttributeException, requests.RequestException, *_ODD)
        try:
            yield
        except raised as error:
            raise self._failure(f"{self.address}: {problem}", error) from None

    def _failure(self, problem: str, error: Exception) -> ChannelError:
        import requests
        from github import GithubException

        if isinstance(error, requests.RequestException):
            return common.broken(problem, error)
        if not isinstance(error, GithubException) or (error.status == 400 and error.data is None):
            return ChannelError(f"{problem}: the server's answer makes no sense")
        answer = error.data if isinstance(error.data, dict) else {}
        rows = answer.get("errors") or []
        codes = [str(row.get("code")) for row in rows if isinstance(row, dict)]
        text = " ".join([str(answer.get("message", "")), *codes]).strip()
        if error.status == 422 and "already_exists" in codes:
            return _ExistsError(f"{problem}: it exists already", found=f"422 {text}")
        return common.refusal(problem, error.status, text, TOKENS, NEED)
