"""``hf:owner/repo`` (``@revision`` at will): a model repository on the Hugging Face hub.

A release is one commit to ``main``, which holds the release and nothing else, and a tag on it:
the revision that the address names, or else the release's version. The tag is set last, after
everything was read back; a tag that exists is never moved. Reading an address without a revision
reads ``main``. ``.gitattributes`` is the hub's own and no part of a release.

The token comes from ``HF_TOKEN`` alone, the server from ``HF_ENDPOINT``.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from facenet_common.errors import UsageError
from facenet_common.progress import Progress
from facenet_release.channels import Advance, http
from facenet_release.channels.hugging_face_api import MAIN, NEED, TOKENS, Hub, server
from facenet_release.channels.local import Local, differences, examine, few
from facenet_release.documents.manifest import MANIFEST, Manifest
from facenet_release.errors import AbsentError, ChannelError, TakenError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

# Made on the hub's pages, by people: what a repository may hold that had no release so far.
_HARMLESS = {"README.md"}

_ADDRESS = re.compile(
    r"hf:(?P<repository>[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)"
    r"(@(?P<revision>[A-Za-z0-9][A-Za-z0-9._+/-]*))?"
)


def open_channel(address: str) -> HuggingFace:
    """The channel of that address.

    Raises UsageError if it is malformed, or huggingface_hub is absent.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or ".." in address or "--" in parts["repository"]:
        raise UsageError(
            "this is no address on the Hugging Face hub",
            expected="hf:owner/repo or hf:owner/repo@revision",
            found=address,
        )
    if find_spec("huggingface_hub") is None:
        raise UsageError(
            "the Hugging Face hub needs the package huggingface_hub, which is not installed",
            next_step='pip install "facenet-parity[release]"',
        )
    server()  # wrong: say so at once
    return HuggingFace(address, parts["repository"], parts["revision"])


class HuggingFace:
    """A `Channel`."""

    def __init__(self, address: str, repository: str, revision: str | None) -> None:
        self._address, self._repository, self._revision = address, repository, revision
        self._commit: str | None = None  # what `names` read, so that downloads belong together

    @property
    def address(self) -> str:
        return self._address

    def names(self) -> Sequence[str]:
        hub = Hub(self._address, self._repository, http.token_of(TOKENS))
        self._commit = hub.commit(self._revision or MAIN)
        names = [file.path for file in hub.files(self._commit)]
        if not names:
            raise AbsentError(f"{self._address}: nothing is published there")
        return names

    def download(self, name: str, target: Path, limit: int, advance: Advance) -> None:
        if self._commit is None:
            self.names()
        assert self._commit is not None
        hub = Hub(self._address, self._repository, http.token_of(TOKENS))
        request = hub.request(self._commit, name)
        http.save(target=target, limit=limit, advance=advance, **request)

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        token = http.needed_token(TOKENS, NEED)
        local = examine(files, manifest, progress)
        hub = Hub(self._address, self._repository, token)
        tag = self._revision or manifest.version
        hub.create()
        if self._is_published(hub, tag, local):
            progress.note("published already")
            return
        commit = self._commit_all(hub, f"{manifest.name} {manifest.version}", local, progress)
        progress.note("read back what the hub serves")
        for file in local.values():
            found = http.digest_of(size=file.size, **hub.request(commit, file.name))
            if found != (file.size, file.sha256):
                raise ChannelError(
                    f"{self._address}: the hub serves other bytes than were sent; "
                    f"{MAIN} has them, and no tag",
                    file=file.path,
                    expected=f"{file.size} bytes, sha256:{file.sha256}",
                    found=f"{found[0]} bytes, sha256:{found[1]}",
                )
        progress.note(f"set the tag {tag}")
        self._set_tag(hub, tag, commit, local)

    def _is_published(self, hub: Hub, tag: str, local: Mapping[str, Local]) -> bool:
        """Whether the tag has exactly these files. Raises TakenError if it has others."""
        branches, tags = hub.refs()
        if tag in branches:
            raise TakenError(
                f"{self._address}: {tag} is a branch, which moves; a release needs a tag",
                next_step="leave the revision out, or take another one",
            )
        if tag not in tags:
            return False
        findings = _differences(hub.files(tags[tag]), local)
        if findings:
            raise TakenError(
                f"{self._address}: the tag {tag} has other contents; nothing was changed",
                found=few(findings),
                next_step="publish under another version or revision",
            )
        return True

    def _commit_all(
        self, hub: Hub, title: str, local: Mapping[str, Local], progress: Progress
    ) -> str:
        """The commit on ``main`` that holds these files only: made here, or there already."""
        progress.stage("upload", sum(file.size for file in local.values()))
        sent: set[str] = set()
        for wait in (*http.WAITS, None):
            head = hub.commit(MAIN)
            there = hub.files(head)
            if not _differences(there, local):
                for file in local.values():
                    _once(file, sent, progress)
                return head
            self._admit([file.path for file in there])
            try:
                adding = hub.upload(local, lambda file: _once(file, sent, progress))
                hub.send(head, title, [*adding, *hub.deletions(there, local)])
            except http.BreakError:  # the commit may be there nevertheless
                if wait is None:
                    raise
                time.sleep(wait)
                continue
            head = hub.commit(MAIN)
            findings = _differences(hub.files(head), local)
            if findings:
                raise ChannelError(
                    f"{self._address}: {MAIN} doesn't hold what was sent; no tag was set",
                    found=few(findings),
                    next_step="is somebody else publishing there? if not, start again",
                )
            return head
        raise AssertionError("the last wait is None")

    def _admit(self, names: Sequence[str]) -> None:
        """Raise TakenError for a repository whose files would be lost to who looks at ``main``."""
        if MANIFEST not in names and set(names) - _HARMLESS:
            raise TakenError(
                f"{self._address}: the repository holds something that is no release",
                found=few(sorted(names)),
                next_step="publish to a repository of its own",
            )

    def _set_tag(self, hub: Hub, tag: str, commit: str, local: Mapping[str, Local]) -> None:
        failure: ChannelError
        for wait in (*http.WAITS, None):
            try:
                hub.tag(tag, commit)
                return
            except ChannelError as error:
                failure = error
            # The answer was lost, or another publisher was faster.
            if self._is_published(hub, tag, local):
                return
            if wait is None or not isinstance(failure, http.BreakError):
                raise failure
            time.sleep(wait)


def _once(file: Local, sent: set[str], progress: Progress) -> None:
    if file.name not in sent:
        sent.add(file.name)
        progress.advance(file.size)


def _differences(there: Sequence[RepoFile], local: Mapping[str, Local]) -> list[str]:
    """What is not the same there, by the hashes that git and its large-file storage name."""

    def found(file: RepoFile) -> tuple[int, str]:
        if file.lfs is not None:
            return file.lfs.size, file.lfs.sha256
        mine = local.get(file.path)
        same = mine is not None and mine.size == file.size and _blob(mine.path) == file.blob_id
        return file.size, mine.sha256 if same and mine is not None else ""

    return differences(local, {file.path: found(file) for file in there})


def _blob(file: Path) -> str:
    """The name that git gives to the contents of a small file."""
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
