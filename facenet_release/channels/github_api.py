"""GitHub's REST API for releases: PyGithub for what is JSON, requests for the files' bytes.

PyGithub holds a download in memory whole, and waits for the upload host without limit.
The protocol: https://docs.github.com/rest/releases, versions 2022-11-28 and later.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from facenet_release.channels import Advance, http
from facenet_release.channels.local import Local
from facenet_release.errors import AbsentError, ChannelError, TokenError

if TYPE_CHECKING:
    from github.GitRelease import GitRelease
    from github.GitReleaseAsset import GitReleaseAsset

TOKENS = ("GITHUB_TOKEN", "GH_TOKEN")
NEED = "write the repository's contents (fine-grained: Contents, read and write; classic: repo)"
_VERSION = "2022-11-28"
_PAGE = 100  # the most that the API gives at once

Result = TypeVar("Result")


class ExistsError(ChannelError):
    """The server has something under this name already."""


@dataclass(frozen=True)
class Asset:
    """One asset as the API tells of it. `sha256` is None where it doesn't tell (before 2025)."""

    id: int
    name: str
    size: int
    uploaded: bool
    sha256: str | None

    @classmethod
    def of(cls, told: GitReleaseAsset) -> Asset:
        kind, _, digest = (told.digest or "").partition(":")
        sha256 = digest.lower() if kind == "sha256" else None
        asset = cls(told.id, told.name, told.size, told.state == "uploaded", sha256)
        return _complete(asset, asset.id, asset.name, asset.size)


@dataclass(frozen=True)
class Release:
    """One release as the API tells of it."""

    id: int
    tag: str
    draft: bool
    title: str
    text: str
    upload_url: str

    @classmethod
    def of(cls, told: GitRelease) -> Release:
        title, text = told.name or "", told.body or ""
        release = cls(told.id, told.tag_name, told.draft, title, text, told.upload_url)
        return _complete(release, release.id, release.tag, release.draft, release.upload_url)


def server() -> str:
    """The address of the API. Raises UsageError if what the environment names won't do."""
    return http.api_address("GITHUB_API_URL", "https://api.github.com")


def _complete(result: Result, *needed: object) -> Result:
    """`result`, if nothing of what is needed lacks, for which PyGithub gives None."""
    if None in needed:
        raise ValueError("a field lacks")
    return result


class Api:
    """One repository. Every method raises ChannelError; AbsentError where it gets a 404."""

    def __init__(self, address: str, repository: str, token: str | None) -> None:
        from github import Auth, Github

        self.address, self._token = address, token
        self._url = server()
        self._repository_url = f"{self._url}/repos/{repository}"
        # Its lines at DEBUG repeat whole answers, and with them what a server sends back.
        logging.getLogger("github.Requester").setLevel(logging.INFO)
        github = Github(
            auth=Auth.Token(token) if token else None,
            base_url=self._url,
            timeout=int(http.TIMEOUT[1]),
            per_page=_PAGE,
            retry=None,  # its own would send what is not safe to send twice, and wait for an hour
            seconds_between_requests=None,
            seconds_between_writes=None,
            lazy=True,  # no request before one is needed
        )
        self._repository = github.get_repo(repository)

    def repository_exists(self) -> bool:
        """Whether the repository is there for this token."""
        try:
            self._ask("looking for the repository", lambda: self._repository.raw_data)
        except AbsentError:
            return False
        return True

    def published(self, tag: str) -> Release | None:
        """The published release of that tag; drafts aren't found by their tags."""
        get = self._repository.get_release
        try:
            return self._ask("looking for the release", lambda: Release.of(get(tag)))
        except AbsentError:
            return None

    def drafts(self, tag: str, marker: str) -> list[Release]:
        """All drafts for that tag whose text has the marker, oldest first."""
        get = self._repository.get_releases
        releases = self._ask("listing the drafts", lambda: [Release.of(told) for told in get()])
        drafts = (r for r in releases if r.draft and r.tag == tag and marker in r.text)
        return sorted(drafts, key=lambda release: release.id)

    def create(self, tag: str, title: str, text: str) -> Release:
        """A new draft. Not repeated after a break: it may be there."""
        make = self._repository.create_git_release
        problem = "making the draft"
        try:
            return self._ask(
                problem, lambda: Release.of(make(tag, title, text, draft=True)), again=False
            )
        except AbsentError as error:  # GitHub's answer to a token that may only read
            raise TokenError(
                f"{self.address}: {problem}: the token is not allowed to do this",
                found=error.found,
                next_step=f"give the token in {' or '.join(TOKENS)} what it needs: {NEED}",
            ) from None

    def is_draft(self, release: Release) -> bool:
        """Whether it is one still."""
        look = self._repository.get_release(release.id).complete
        return self._ask("looking at the draft", lambda: Release.of(look())).draft

    def make_public(self, release: Release) -> None:
        """Publish a draft. Raises ExistsError if its tag has a release by now."""
        update = self._repository.get_release(release.id).update_release
        self._ask(
            "publishing the draft",
            lambda: update(release.title, release.text, draft=False, tag_name=release.tag),
        )

    def discard(self, release: Release) -> None:
        """Delete a draft."""
        self._gone("deleting a draft", f"{self._repository_url}/releases/{release.id}")

    def assets(self, release: Release) -> list[Asset]:
        """All assets of the release, on however many pages."""
        get = self._repository.get_release(release.id).get_assets
        return self._ask("listing the assets", lambda: [Asset.of(told) for told in get()])

    def delete(self, release: Release, asset: Asset) -> None:
        """Delete an asset of a draft; a published one never."""
        if not self.is_draft(release):
            raise ChannelError(f"{self.address}: somebody published the draft meanwhile")
        self._gone(f"deleting {asset.name}", f"{self._repository_url}/releases/assets/{asset.id}")

    def download(self, asset: Asset, target: Path, limit: int, advance: Advance) -> None:
        """Write an asset to `target`. Raises ChannelError if it is too long or short."""
        http.save(target=target, limit=limit, advance=advance, **self._request(asset))

    def content(self, asset: Asset) -> tuple[int, str]:
        """Size and SHA-256 of an asset: as the server says, or else by reading it."""
        if asset.sha256 is not None:
            return asset.size, asset.sha256
        return http.digest_of(size=asset.size, **self._request(asset))

    def upload(self, release: Release, file: Local, advance: Advance) -> Asset:
        """Send one file, once. Raises ExistsError, or BreakError if another try may do."""
        import requests

        problem = f"{self.address}: uploading {file.name}"
        headers = self._headers("application/vnd.github+json")
        headers["Content-Type"] = "application/octet-stream"
        try:
            with http.session() as session, _Reader(file.path, advance) as opened:
                response = session.post(
                    self._upload_url(release),
                    params={"name": file.name},
                    data=opened,
                    headers=headers,
                    timeout=http.TIMEOUT,
                    allow_redirects=False,
                )
            said = response.json()
        except requests.JSONDecodeError:
            said = {}
        except requests.RequestException as error:
            raise http.broken(problem, error) from None
        if response.status_code != 201:
            raise self._refused(problem, response.status_code, said, response.headers)
        return self._ask("reading the answer", lambda: self._asset(said))

    def _asset(self, said: dict[str, Any]) -> Asset:
        from github.GitReleaseAsset import GitReleaseAsset

        return Asset.of(GitReleaseAsset(self._repository.requester, {}, said, completed=True))

    def _upload_url(self, release: Release) -> str:
        """Where assets of that release go. The server may not send the token anywhere else."""
        url = release.upload_url.partition("{")[0]
        api, there = urlsplit(self._url), urlsplit(url)
        uploads = "uploads." + api.netloc.removeprefix("api.")
        if there.scheme != api.scheme or there.netloc not in (api.netloc, uploads):
            raise ChannelError(
                f"{self.address}: the server wants uploads to go to a foreign host",
                expected=f"{api.netloc} or {uploads}",
                found=there.netloc,
            )
        return url

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "X-GitHub-Api-Version": _VERSION}
        return headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {})

    def _request(self, asset: Asset) -> dict[str, Any]:
        problem = f"{self.address}: downloading {asset.name}"
        return {
            "url": f"{self._repository_url}/releases/assets/{asset.id}",
            "problem": problem,
            "headers": self._headers("application/octet-stream"),
            "refused": lambda status, said: self._refused(problem, status, {"message": said}, {}),
        }

    def _gone(self, problem: str, url: str) -> None:
        delete = self._repository.requester.requestJsonAndCheck
        with contextlib.suppress(AbsentError):  # deleted by the try whose answer got lost
            self._ask(problem, lambda: delete("DELETE", url))

    def _ask(self, problem: str, call: Callable[[], Result], *, again: bool = True) -> Result:
        """The result of a request through PyGithub, tried again if that is safe and may help."""
        return http.persist(lambda: self._ask_once(f"{self.address}: {problem}", call), again=again)

    def _ask_once(self, problem: str, call: Callable[[], Result]) -> Result:
        import requests
        from github import BadAttributeException, GithubException

        try:
            return call()
        except GithubException as error:
            if error.status == 400 and error.data is None:  # PyGithub's own, for lack of fields
                failure = ChannelError(f"{problem}: {_NO_SENSE}")
            else:
                said = error.data if isinstance(error.data, dict) else {}
                failure = self._refused(problem, error.status, said, error.headers or {})
        except requests.RequestException as error:
            failure = http.broken(problem, error)
        except (BadAttributeException, *_ODD):
            failure = ChannelError(f"{problem}: {_NO_SENSE}")
        raise failure  # here, where the library's error, which holds the whole request, is gone

    def _refused(
        self, problem: str, status: int, said: dict[str, Any], headers: Any
    ) -> ChannelError:
        message = str(said.get("message", ""))
        codes = [str(e.get("code")) for e in said.get("errors") or [] if isinstance(e, dict)]
        text = http.hidden(" ".join([message, *codes]).strip(), self._token)
        if status == 422 and "already_exists" in codes:
            return ExistsError(f"{problem}: it exists already", found=f"{status} {text}")
        limited = "rate limit" in message.lower() or headers.get("x-ratelimit-remaining") == "0"
        if status == 429 or (status == 403 and limited):
            return _limited(problem, f"{status} {text}", headers)
        return http.refusal(problem, status, text, TOKENS, self._token, NEED)


_NO_SENSE = "the server's answer makes no sense"
# What PyGithub raises for an answer that is not what the protocol says: it checks little.
_ODD = (ValueError, TypeError, KeyError, AttributeError, AssertionError, RuntimeError)


def _limited(problem: str, found: str, headers: Any) -> ChannelError:
    """The error for too many requests; one that may be tried again if the wait is short."""
    after = str(headers.get("retry-after", ""))
    reset = str(headers.get("x-ratelimit-reset", ""))
    if after.isdigit():
        seconds = int(after)
    else:
        seconds = max(0, int(reset) - int(time.time()) + 1) if reset.isdigit() else 60
    step = f"try again in {seconds} seconds; reading counts less with a token in {TOKENS[0]}"
    problem = f"{problem}: too many requests"
    if seconds > http.MAX_WAIT:
        return ChannelError(problem, found=found, next_step=step)
    error = http.BreakError(problem, found=found, next_step=step)
    error.wait = seconds
    return error


class _Reader(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path, "rb")
        self._advance = advance

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._advance(len(data))
        return data
