"""``hf:owner/repo`` (optionally ``@revision``): a model repository on the Hugging Face hub.

A release is one commit to ``main``, which holds the release and nothing else, and a tag on it:
the revision of the address, or else the release's version. The tag is set last, after everything
was read back; a tag that exists is never moved. Reading an address without a revision reads
``main``. ``.gitattributes`` is the hub's own and no part of a release.

The token comes from ``HF_TOKEN`` alone, the server from ``HF_ENDPOINT``. huggingface_hub sends all
requests; downloads go through `facenet_models.weights.http`, which limits their size.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facenet_common.errors import UsageError
from facenet_common.optional import require
from facenet_common.progress import Progress
from facenet_models.weights.http import Source
from facenet_release.channels import OnProgress, common
from facenet_release.channels.common import Local, differences, summarise
from facenet_release.documents.manifest import MANIFEST, Manifest
from facenet_release.errors import AbsentError, ChannelError, TakenError

TOKENS = ("HF_TOKEN",)
NEED = "write to the repository, and to create it where it doesn't exist"
MAIN = "main"
_HUB_OWN = ".gitattributes"
_HARMLESS = {"README.md"}  # made on the hub's pages; may be there before the first release
_ADDRESS = re.compile(
    r"hf:(?P<repository>[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)"
    r"(@(?P<revision>[A-Za-z0-9][A-Za-z0-9._+/-]*))?"
)
# huggingface_hub raises these for an answer that does not follow the protocol.
_ODD = (ValueError, TypeError, KeyError, AttributeError, RuntimeError)


def open_channel(address: str) -> HuggingFace:
    """Open the channel of that address. Raises UsageError if it is malformed."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None or ".." in address or "--" in parts["repository"]:
        raise UsageError(
            "this is no address on the Hugging Face hub",
            expected="hf:owner/repo or hf:owner/repo@revision",
            found=address,
        )
    require("huggingface_hub", "the Hugging Face hub")
    return HuggingFace(address, parts["repository"], parts["revision"])


class HuggingFace:
    """A `Channel`."""

    def __init__(self, address: str, repository: str, revision: str | None) -> None:
        self.address, self._name, self._revision = address, repository, revision
        self._server = common.server_address("HF_ENDPOINT", "https://huggingface.co")
        self._commit: str | None = None  # what `names` read, so that downloads belong together

    def names(self) -> Sequence[str]:
        self._connect()
        self._commit, there = self._look_up(self._revision or MAIN, {})
        if not there:
            raise AbsentError(f"{self.address}: nothing is published there")
        return list(there)

    def download(self, name: str, target: Path, limit: int, on_progress: OnProgress) -> None:
        if self._commit is None:
            self.names()
        source = self._source(str(self._commit), name, limit)
        common.download(source, target, on_progress, self.address, TOKENS[0])

    def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
        common.token_of(TOKENS, needed_to=NEED)
        local = common.examine(files, manifest, progress)
        self._connect()
        # huggingface_hub itself tries again only some of its requests.
        common.try_again(lambda: self._publish(local, manifest, progress))

    def _publish(self, local: Mapping[str, Local], manifest: Manifest, progress: Progress) -> None:
        """Go on from what is there."""
        tag = self._revision or manifest.version
        try:
            if self._is_published(tag, local):
                progress.note("published already")
                return
        except AbsentError:
            with self._errors("creating the repository"):
                self._api.create_repo(self._name, exist_ok=True)
        progress.stage("upload", sum(file.size for file in local.values()))
        commit = self._commit_all(f"{manifest.name} {manifest.version}", local, progress)
        progress.note("read back what the hub serves")
        served = {
            name: common.downloaded_sha256(
                self._source(commit, name, file.size), self.address, TOKENS[0]
            )
            for name, file in local.items()
        }
        if findings := differences(local, served):
            raise ChannelError(
                f"{self.address}: the hub serves other bytes than were sent; "
                f"{MAIN} has them, and no tag",
                found=summarise(findings),
            )
        progress.note(f"set the tag {tag}")
        try:
            with self._errors(f"setting the tag {tag}"):
                self._api.create_tag(self._name, tag=tag, revision=commit)
        except ChannelError:  # the answer was lost, or another publisher was faster
            if not self._is_published(tag, local):
                raise

    def _is_published(self, tag: str, local: Mapping[str, Local]) -> bool:
        """Return whether the tag has exactly these files. Raises TakenError if it has others."""
        with self._errors("listing the tags"):
            refs = self._api.list_repo_refs(self._name)
        if tag in (branch.name for branch in refs.branches):
            raise TakenError(
                f"{self.address}: {tag} is a branch, which moves; a release needs a tag",
                next_step="leave the revision out, or take another one",
            )
        commit = next((known.target_commit for known in refs.tags if known.name == tag), None)
        if commit is None:
            return False
        if findings := differences(local, self._look_up(commit, local)[1]):
            raise TakenError(
                f"{self.address}: the tag {tag} has other contents; nothing was changed",
                found=summarise(findings),
                next_step="publish under another version or revision",
            )
        return True

    def _commit_all(self, title: str, local: Mapping[str, Local], progress: Progress) -> str:
        """Return the commit on ``main`` that holds exactly these files; make it if needed."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        head, there = self._look_up(MAIN, local)
        if not differences(local, there):
            progress.advance(sum(file.size for file in local.values()))
            return head
        if MANIFEST not in there and there.keys() - _HARMLESS:
            raise TakenError(
                f"{self.address}: the repository holds something that is no release",
                found=summarise(sorted(there)),
                next_step="publish to a repository of its own",
            )
        gone = sorted(there.keys() - local.keys())
        operations: list[Any] = [CommitOperationDelete(name) for name in gone]
        for file in local.values():
            operations.append(CommitOperationAdd(file.name, str(file.path)))
            with self._errors(f"uploading {file.name}"):
                self._api.preupload_lfs_files(self._name, operations[-1:], free_memory=False)
            progress.advance(file.size)
        with self._errors("committing"):
            self._api.create_commit(
                self._name, operations, commit_message=title, parent_commit=head
            )
        head, there = self._look_up(MAIN, local)
        if findings := differences(local, there):
            raise ChannelError(
                f"{self.address}: {MAIN} doesn't hold what was sent; no tag was set",
                found=summarise(findings),
                next_step="is somebody else publishing there? if not, start again",
            )
        return head

    def _look_up(
        self, revision: str, local: Mapping[str, Local]
    ) -> tuple[str, dict[str, str | None]]:
        """Return the commit of a revision, and the SHA-256 of each file.

        For files outside the large-file storage the hub has git's hash only: where it is that of
        the file in `local`, the SHA-256 is that file's, else None.
        """
        with self._errors(f"looking for {revision}"):
            info = self._api.model_info(self._name, revision=revision, files_metadata=True)
            there: dict[str, str | None] = {}
            for file in info.siblings or ():
                there[file.rfilename] = file.lfs.sha256 if file.lfs else None
                mine = local.get(file.rfilename)
                if mine and not file.lfs and file.blob_id == _git_hash(mine.path):
                    there[file.rfilename] = mine.sha256
        if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
            raise ChannelError(f"{self.address}: the hub names no commit for {revision}")
        there.pop(_HUB_OWN, None)
        return str(info.sha), there

    def _source(self, commit: str, name: str, limit: int) -> Source:
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(self._name, name, revision=commit, endpoint=self._server)
        return common.authorised(url, limit, TOKENS)

    def _connect(self) -> None:
        """Set up huggingface_hub; it sends nothing yet."""
        from huggingface_hub import HfApi

        # False, not None: else it looks for a token that was stored by a login.
        self._api = HfApi(endpoint=self._server, token=common.token_of(TOKENS) or False)

    @contextmanager
    def _errors(self, problem: str) -> Iterator[None]:
        """Raise ChannelError for what huggingface_hub raises; AbsentError for 404."""
        from huggingface_hub.errors import HfHubHTTPError

        raised: Any = (*HfHubHTTPError.__bases__, *_ODD)  # its bases: httpx's HTTPError, OSError
        try:
            with _settings():
                yield
        except raised as error:
            raise self._failure(f"{self.address}: {problem}", error) from None

    def _failure(self, problem: str, error: Exception) -> ChannelError:
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # an upload's, wrapped
        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code
            message = error.server_message or error.response.headers.get("X-Error-Message") or ""
            # A 401 without a token: it doesn't exist, or not for everybody.
            if status == 401 and not common.token_of(TOKENS):
                return AbsentError(
                    f"{problem}: there is no such repository, or not for everybody",
                    next_step=f"a private one needs a token in {TOKENS[0]}",
                )
            return common.refusal(problem, status, message, TOKENS, NEED)
        if isinstance(error, OfflineModeIsEnabled):
            return ChannelError(f"{problem}: HF_HUB_OFFLINE forbids it", next_step="unset it")
        if isinstance(error, (*HfHubHTTPError.__bases__,)):
            return common.broken(problem, error)
        return ChannelError(f"{problem}: the hub's answer makes no sense")


@contextmanager
def _settings() -> Iterator[None]:
    """Set what huggingface_hub offers for the whole process only; restore it afterwards.

    Plain large-file storage, whose every answer is checked, instead of Xet; no telemetry; a limit
    to silence; no bars, and no lines of log, which would repeat signed addresses.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils.tqdm import disable_progress_bars

    before = {n: getattr(constants, n) for n in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")}
    loggers = [logging.getLogger(n) for n in ("huggingface_hub", "httpx", "httpx2", "httpcore2")]
    levels = [logger.level for logger in loggers]
    try:
        for name in before:
            setattr(constants, name, True)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        get_session().timeout = common.TIMEOUT
        with disable_progress_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it passes to its library what that deprecates
            yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _git_hash(file: Path) -> str:
    """Return the name that git gives to the contents of a small file."""
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
