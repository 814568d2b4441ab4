"""The Hugging Face hub's API, through huggingface_hub, with everything that it may raise tamed."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from facenet_release.channels import http
from facenet_release.channels.local import Local
from facenet_release.errors import AbsentError, ChannelError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.hf_api import RepoFile

TOKENS = ("HF_TOKEN",)
NEED = "write to the repository, and to create it where it doesn't exist"
MAIN = "main"
HUB_OWN = (".gitattributes",)

Result = TypeVar("Result")


def server() -> str:
    """The hub's address. Raises UsageError if what the environment names won't do."""
    return http.api_address("HF_ENDPOINT", "https://huggingface.co")


class Hub:
    """One repository. Every method raises ChannelError; AbsentError where it gets a 404."""

    def __init__(self, address: str, repository: str, token: str | None) -> None:
        from huggingface_hub import HfApi

        self.address, self._repository, self._token = address, repository, token
        self._url = server()
        # False, not None: else it looks for a token that was stored by a login.
        self._api = HfApi(endpoint=self._url, token=token or False)

    def create(self) -> None:
        """Make the repository, unless it exists."""
        try:
            self.commit(MAIN)
        except AbsentError:
            self._ask(
                "creating the repository",
                lambda: self._api.create_repo(self._repository, exist_ok=True),
            )

    def commit(self, revision: str) -> str:
        """The commit that a branch or tag stands for."""
        info = self._ask(
            f"looking for {revision}",
            lambda: self._api.model_info(self._repository, revision=revision),
        )
        if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
            raise ChannelError(f"{self.address}: the hub names no commit for {revision}")
        return str(info.sha)

    def files(self, commit: str) -> list[RepoFile]:
        """All files of a commit but the hub's own."""
        from huggingface_hub.hf_api import RepoFile

        tree = self._ask(
            "listing the files",
            lambda: list(
                self._api.list_repo_tree(self._repository, revision=commit, recursive=True)
            ),
        )
        return [file for file in tree if isinstance(file, RepoFile) and file.path not in HUB_OWN]

    def refs(self) -> tuple[set[str], dict[str, str]]:
        """The names of all branches, and the commits of all tags."""
        refs = self._ask("listing the tags", lambda: self._api.list_repo_refs(self._repository))
        tags = {tag.name: tag.target_commit for tag in refs.tags}
        return {branch.name for branch in refs.branches}, tags

    def upload(
        self, local: Mapping[str, Local], done: Callable[[Local], object]
    ) -> list[CommitOperationAdd]:
        """Send every file that goes to the large-file storage and is not there; add them all."""
        from huggingface_hub import CommitOperationAdd

        adding = []
        for file in local.values():
            operation = CommitOperationAdd(file.name, str(file.path))
            self._ask(
                f"uploading {file.name}",
                lambda added=operation: self._api.preupload_lfs_files(  # type: ignore[misc]  # bound
                    self._repository, [added], free_memory=False
                ),
            )
            done(file)
            adding.append(operation)
        return adding

    def deletions(
        self, there: Sequence[RepoFile], local: Mapping[str, Local]
    ) -> list[CommitOperationDelete]:
        """Take away what is no part of this release."""
        from huggingface_hub import CommitOperationDelete

        return [CommitOperationDelete(file.path) for file in there if file.path not in local]

    def send(self, parent: str, title: str, operations: Sequence[Any]) -> None:
        """Commit to ``main``, if `parent` is its head still. Not repeated after a break."""
        self._ask(
            "committing",
            lambda: self._api.create_commit(
                self._repository, operations, commit_message=title, parent_commit=parent
            ),
            again=False,
        )

    def tag(self, tag: str, commit: str) -> None:
        """Set a tag that doesn't exist. Not repeated after a break."""
        self._ask(
            f"setting the tag {tag}",
            lambda: self._api.create_tag(self._repository, tag=tag, revision=commit),
            again=False,
        )

    def request(self, commit: str, name: str) -> dict[str, Any]:
        """What `http.fetch` needs to read a file."""
        problem = f"{self.address}: downloading {name}"
        return {
            "url": f"{self._url}/{self._repository}/resolve/{commit}/{quote(name)}",
            "problem": problem,
            "headers": {"Authorization": f"Bearer {self._token}"} if self._token else {},
            "refused": lambda status, said: self._refused(problem, status, said),
        }

    def _ask(self, problem: str, call: Callable[[], Result], *, again: bool = True) -> Result:
        """The result of a call of huggingface_hub, tried again if that is safe and may help."""
        return http.persist(lambda: self._ask_once(f"{self.address}: {problem}", call), again=again)

    def _ask_once(self, problem: str, call: Callable[[], Result]) -> Result:
        try:
            with _settings():
                return call()
        except (_transport(), OSError, *_ODD) as error:
            failure = self._failure(problem, error)
        raise failure  # here, where the library's error, which holds the whole request, is gone

    def _failure(self, problem: str, error: Exception) -> ChannelError:
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # an upload's, wrapped
        if isinstance(error, HfHubHTTPError):
            said = error.server_message or error.response.headers.get("X-Error-Message") or ""
            return self._refused(problem, error.response.status_code, said)
        if isinstance(error, OfflineModeIsEnabled):
            return ChannelError(f"{problem}: HF_HUB_OFFLINE forbids it", next_step="unset it")
        if isinstance(error, (_transport(), OSError)):
            return http.broken(problem, error)
        text = http.hidden(error, self._token)
        return ChannelError(f"{problem}: the hub's answer makes no sense", found=text)

    def _refused(self, problem: str, status: int, said: str) -> ChannelError:
        if status == 401 and self._token is None:  # its answer for what doesn't exist, too
            return AbsentError(
                f"{problem}: there is no such repository, or not for everybody",
                next_step=f"a private one needs a token in {TOKENS[0]}",
            )
        return http.refusal(problem, status, said, TOKENS, self._token, NEED)


_TALKATIVE = ("httpx", "httpx2", "httpcore", "httpcore2")  # loggers of its transport
# What huggingface_hub raises for an answer that is not what the protocol says.
_ODD = (ValueError, TypeError, KeyError, AttributeError, RuntimeError)


def _transport() -> type[Exception]:
    """httpx's HTTPError, from whichever of its successors huggingface_hub uses."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__mro__[1]


@contextmanager
def _settings() -> Iterator[None]:
    """What a call of huggingface_hub needs that can be set for the whole process only.

    Plain large-file storage, whose every answer is checked, instead of Xet; nothing told about
    this machine; a limit to silence; no bars, and no lines of log that repeat signed addresses or
    what a server sends back.
    """
    import huggingface_hub.utils
    from huggingface_hub import constants, get_session

    utils: Any = huggingface_hub.utils  # its stubs leave some out

    names = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")
    before = {name: getattr(constants, name) for name in names}
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    verbosity, bars = utils.logging.get_verbosity(), not utils.are_progress_bars_disabled()
    try:
        for name in names:
            setattr(constants, name, True)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        utils.logging.set_verbosity(logging.ERROR)
        if bars:
            utils.disable_progress_bars()
        get_session().timeout = http.TIMEOUT[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it passes to its library what that deprecates
            yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        utils.logging.set_verbosity(verbosity)
        if bars:
            utils.enable_progress_bars()
