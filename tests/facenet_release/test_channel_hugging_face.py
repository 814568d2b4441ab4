"""Publishing to the Hugging Face hub, against a server on loopback that speaks its protocol."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hub_server
import pytest
from hub_server import SECRET_QUERY, TOKEN, Entry, HubServer
from publishing import Recorded, Tiny, contents, files_of, publish_to, shown_by

from facenet_common.errors import MissingPackageError, UsageError
from facenet_release.channels import open_channel
from facenet_release.documents.manifest import Manifest
from facenet_release.errors import AbsentError, ChannelError, TakenError, TokenError

hub = pytest.importorskip("huggingface_hub", reason='pip install "facenet-parity[release]"')

ADDRESS = "hf:owner/repo"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with hub_server.serve() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield state


def publish(tiny: Tiny, address: str = ADDRESS) -> Recorded:
    return publish_to(address, tiny)


def assert_published(server: HubServer, tiny: Tiny, tag: str = "v1.0") -> None:
    """The tag and ``main`` have exactly the files."""
    repo = server.repos["owner/repo"]
    assert server.contents(repo, repo.tags[tag]) == contents(tiny[0])
    assert server.contents(repo, repo.main) == contents(tiny[0])


def test_publishes_and_reads_back(
    server: HubServer, tiny_release: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_release[0] / "README.md").write_text("---\nlicense: mit\n---\n# Weights\n")
    recorded = publish(tiny_release)
    assert_published(server, tiny_release)
    assert (
        recorded.done == recorded.total == sum(p.stat().st_size for p in files_of(tiny_release[0]))
    )
    assert len(server.repos["owner/repo"].commits) == 2, "not one commit"
    assert server.count("PUT", "") == 2  # to the large-file storage
    monkeypatch.delenv("HF_TOKEN")  # reading needs none
    for address in (ADDRESS, f"{ADDRESS}@v1.0"):
        channel = open_channel(address)
        assert sorted(channel.names()) == [path.name for path in files_of(tiny_release[0])]
        for path in files_of(tiny_release[0]):
            sizes: list[int] = []
            target = tmp_path / f"{address[-1]}-{path.name}"
            channel.download(path.name, target, path.stat().st_size, sizes.append)
            assert target.read_bytes() == path.read_bytes()
            assert sum(sizes) == path.stat().st_size


def test_nothing_goes_where_it_should_not(
    server: HubServer, tiny_release: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token to the storage, no word of this machine to anybody, no token from a login."""
    stored = tmp_path / "token"
    stored.write_text("hf_fromalogin")
    monkeypatch.setattr(hub.constants, "HF_TOKEN_PATH", str(stored))
    publish(tiny_release)
    open_channel(ADDRESS).download("pnet.pt", tmp_path / "pnet.pt", 10_000, lambda _: None)
    assert server.elsewhere_headers
    assert not any("authorization" in str(h).lower() for h in server.elsewhere_headers)
    assert not any("torch" in agent for agent in server.agents)
    monkeypatch.delenv("HF_TOKEN")
    server.tokens.clear()  # a token that is sent would be refused
    open_channel(ADDRESS).names()
    with pytest.raises(TokenError, match="none is set"):
        publish(tiny_release)


def test_settings_of_the_process_are_put_back(server: HubServer, tiny_release: Tiny) -> None:
    before = hub.constants.HF_HUB_DISABLE_XET, hub.utils.logging.get_verbosity()
    publish(tiny_release)
    assert server.requests
    assert (hub.constants.HF_HUB_DISABLE_XET, hub.utils.logging.get_verbosity()) == before
    assert not hub.utils.are_progress_bars_disabled()


def test_publishing_again_does_nothing(server: HubServer, tiny_release: Tiny) -> None:
    publish(tiny_release)
    posts = server.count("POST", "")
    assert publish(tiny_release).notes == ["published already"]
    assert server.count("POST", "") == posts


@pytest.mark.parametrize("change", ["large", "small", "less", "more"])
def test_a_tag_is_never_moved(server: HubServer, tiny_release: Tiny, change: str) -> None:
    publish(tiny_release)
    repo = server.repos["owner/repo"]
    files = repo.commits[repo.tags["v1.0"]]
    if change == "large":
        files["pnet.pt"] = files["pnet.pt"]._replace(oid="0" * 64)
    elif change == "small":
        files["pnet.md"] = Entry(b"# PNot\n")
    elif change == "less":
        del files["pnet.md"]
    else:
        files["more.md"] = Entry(b"more")
    tags, main, posts = dict(repo.tags), repo.main, server.count("POST", "")
    with pytest.raises(TakenError, match="nothing was changed"):
        publish(tiny_release)
    assert (repo.tags, repo.main, server.count("POST", "")) == (tags, main, posts)


def test_the_next_version_replaces_main(
    server: HubServer,
    tiny_release: Tiny,
    tmp_path: Path,
    release_maker: Callable[..., Manifest],
) -> None:
    (tiny_release[0] / "gone.md").write_text("only in the first version")
    publish(tiny_release)
    second = tmp_path / "second"
    manifest = release_maker(second, "v1.1", "new")
    publish((second, manifest))
    assert_published(server, (second, manifest), "v1.1")
    repo = server.repos["owner/repo"]
    assert "gone.md" in server.contents(repo, repo.tags["v1.0"])


def test_a_revision_names_the_tag(server: HubServer, tiny_release: Tiny) -> None:
    publish(tiny_release, f"{ADDRESS}@candidate")
    assert_published(server, tiny_release, "candidate")
    posts = server.count("POST", "")
    recorded = publish(tiny_release)  # the same commit gets another tag
    assert recorded.done == recorded.total
    assert server.count("POST", "") == posts + 1
    assert_published(server, tiny_release)
    repo = server.repos["owner/repo"]
    assert repo.tags["v1.0"] == repo.tags["candidate"]
    with pytest.raises(TakenError, match="is a branch"):
        publish(tiny_release, f"{ADDRESS}@main")


def test_a_repository_of_something_else_is_left_alone(
    server: HubServer, tiny_release: Tiny
) -> None:
    repo = server.add(config__json=b"{}", README__md=b"# Mine")
    with pytest.raises(TakenError, match="no release"):
        publish(tiny_release)
    assert len(repo.commits) == 1
    assert not server.objects
    server.add(README__md=b"# Weights will be here")
    publish(tiny_release)
    assert_published(server, tiny_release)


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/revision/main"),
        ("GET", "/refs$"),
        ("POST", "/repos/create"),
        ("POST", "/preupload/"),
        ("POST", "/batch$"),
        ("PUT", ""),
        ("POST", "/verify$"),
        ("POST", "/commit/"),
        ("POST", "/tag/"),
        ("GET", "/resolve/"),
        ("GET", "^/[0-9a-f]{64}$"),
    ],
)
@pytest.mark.parametrize("kind", ["500", "cut", "cut-after"])
def test_breaks_are_mended(
    server: HubServer, tiny_release: Tiny, verb: str, path: str, kind: str
) -> None:
    fault = server.fail(verb, path, kind, times=2)
    recorded = publish(tiny_release)
    assert_published(server, tiny_release)
    assert recorded.done == recorded.total
    assert len(server.repos["owner/repo"].commits) == 2
    # What is there already is found, and not made twice.
    made = kind == "cut-after" and path in ("/repos/create", "/commit/", "/tag/")
    assert fault.times == (1 if made else 0)


@pytest.mark.parametrize("skip", [0, 1])
def test_goes_on_after_a_cut_upload(server: HubServer, tiny_release: Tiny, skip: int) -> None:
    server.fail("PUT", "", "cut", times=99, skip=skip)
    with pytest.raises(ChannelError, match="uploading pnet"):
        publish(tiny_release)
    repo = server.repos["owner/repo"]
    assert len(repo.commits) == 1
    assert not repo.tags
    server.faults.clear()
    sent = server.count("PUT", "")
    publish(tiny_release)
    assert_published(server, tiny_release)
    assert server.count("PUT", "") - sent == 2 - skip, "sent again"


def test_trouble_that_stays_is_an_error(server: HubServer, tiny_release: Tiny) -> None:
    server.fail("GET", "/refs$", "500", times=99)
    with pytest.raises(ChannelError, match="trouble"):
        publish(tiny_release)
    assert server.count("GET", "/refs$") == 3


@pytest.mark.parametrize("path", ["/revision/main", "/refs$"])
def test_nonsense_is_an_error(server: HubServer, tiny_release: Tiny, path: str) -> None:
    server.fail("GET", path, "nonsense", times=99)
    with pytest.raises(ChannelError, match="makes no sense"):
        publish(tiny_release)


def test_corruption_is_noticed_by_the_hub(server: HubServer, tiny_release: Tiny) -> None:
    server.fail("PUT", "", "corrupt")
    with pytest.raises(ChannelError, match="the server refuses"):
        publish(tiny_release)
    assert len(server.repos["owner/repo"].commits) == 1
    publish(tiny_release)
    assert_published(server, tiny_release)


def test_corruption_that_the_hub_does_not_notice(server: HubServer, tiny_release: Tiny) -> None:
    server.fail("PUT", "", "corrupt")
    server.fail("POST", "/verify$", "blind")
    with pytest.raises(ChannelError, match="serves other bytes"):
        publish(tiny_release)
    assert not server.repos["owner/repo"].tags


def test_a_commit_that_lacks_something(server: HubServer, tiny_release: Tiny) -> None:
    server.fail("POST", "/commit/", "lose")
    with pytest.raises(ChannelError, match="doesn't hold what was sent"):
        publish(tiny_release)
    assert not server.repos["owner/repo"].tags
    publish(tiny_release)
    assert_published(server, tiny_release)


def test_somebody_else_commits_meanwhile(server: HubServer, tiny_release: Tiny) -> None:
    server.when("POST", "/commit/", lambda: server.repos["owner/repo"].commit({}))
    with pytest.raises(ChannelError, match="committing"):
        publish(tiny_release)
    assert not server.repos["owner/repo"].tags


@pytest.mark.parametrize("same", [True, False])
def test_somebody_else_sets_the_tag_meanwhile(
    server: HubServer, tiny_release: Tiny, same: bool
) -> None:
    def other() -> None:
        repo = server.repos["owner/repo"]
        first = next(iter(repo.commits))
        repo.tags["v1.0"] = repo.main if same else first

    server.when("POST", "/tag/", other)
    if same:
        publish(tiny_release)
        assert_published(server, tiny_release)
    else:
        with pytest.raises(TakenError):
            publish(tiny_release)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak"])
def test_nothing_is_sent_without_a_token(
    server: HubServer, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(TokenError) as caught:
        publish(tiny_release)
    assert not server.requests
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("path", ["/revision/main", "/preupload/", "/batch$", "/commit/", "/tag/"])
def test_a_token_that_expires_on_the_way(server: HubServer, tiny_release: Tiny, path: str) -> None:
    verb = "GET" if "revision" in path else "POST"
    server.when(verb, path, server.tokens.clear)
    with pytest.raises(TokenError, match="expired") as caught:
        publish(tiny_release)
    assert "HF_TOKEN" in str(caught.value.next_step)
    server.tokens.add(TOKEN)
    publish(tiny_release)
    assert_published(server, tiny_release)


def test_a_token_that_may_not(server: HubServer, tiny_release: Tiny) -> None:
    server.fail("POST", "/commit/", "403", times=99)
    with pytest.raises(TokenError, match="not allowed"):
        publish(tiny_release)


def test_the_token_never_shows(
    server: HubServer,
    tiny_release: Tiny,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In no log at DEBUG, no error, no error's cause, no repr; nor do signed addresses."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpx", "httpcore", "httpcore2", "urllib3", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    texts: list[str] = []
    channel = open_channel(ADDRESS)
    for verb, path, kind, times in (
        ("POST", "/repos/create", "nonsense", 1),
        ("GET", "/refs$", "echo", 1),
        ("POST", "/preupload/", "echo", 1),
        ("PUT", "", "500", 99),
        ("POST", "/commit/", "echo", 1),
        ("POST", "/tag/", "echo", 1),
    ):
        server.fail(verb, path, kind, times)
        texts += shown_by(lambda: publish(tiny_release))
        server.faults.clear()
    server.tokens.clear()
    texts += shown_by(lambda: publish(tiny_release))
    server.tokens.add(TOKEN)
    publish(tiny_release)
    server.fail("GET", "^/[0-9a-f]{64}$", "cut", times=4)
    texts += shown_by(lambda: channel.download("pnet.pt", tmp_path / "x", 99_999, lambda _: None))
    assert len(texts) == 8 * 4
    errors = "".join(texts)
    assert SECRET_QUERY not in errors
    out, err = capfd.readouterr()
    assert out == err == ""
    assert "resolve" in caplog.text, "nothing was logged"
    assert TOKEN not in errors + caplog.text + repr(channel) + repr(vars(channel))


@pytest.mark.parametrize("kind", ["cut", "endless"])
def test_downloads_that_go_wrong(
    server: HubServer, tiny_release: Tiny, tmp_path: Path, kind: str
) -> None:
    publish(tiny_release)
    size = (tiny_release[0] / "pnet.pt").stat().st_size
    channel = open_channel(ADDRESS)
    server.fail("GET", "^/[0-9a-f]{64}$", kind, times=99)
    with pytest.raises(ChannelError, match="broke off" if kind == "cut" else "sends too much"):
        channel.download("pnet.pt", tmp_path / "pnet.pt", size, lambda _: None)
    assert not list(tmp_path.glob("*pnet*"))


def test_downloads_belong_to_what_was_listed(
    server: HubServer, tiny_release: Tiny, tmp_path: Path
) -> None:
    publish(tiny_release)
    channel = open_channel(ADDRESS)
    channel.names()
    server.repos["owner/repo"].commit({"pnet.md": Entry(b"of the next version")})
    channel.download("pnet.md", tmp_path / "pnet.md", 100, lambda _: None)
    assert (tmp_path / "pnet.md").read_bytes() == (tiny_release[0] / "pnet.md").read_bytes()


def test_what_is_absent(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in (TOKEN, ""):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(AbsentError):
            open_channel("hf:owner/other").names()
        server.add()
        with pytest.raises(AbsentError, match="nothing is published"):
            open_channel(ADDRESS).names()
        with pytest.raises(AbsentError):
            open_channel(f"{ADDRESS}@v9").names()
        with pytest.raises(AbsentError):
            open_channel(ADDRESS).download("a.txt", tmp_path / "a.txt", 1, lambda _: None)


def test_offline(server: HubServer, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ChannelError, match="HF_HUB_OFFLINE"):
        publish(tiny_release)
    assert not server.requests


@pytest.mark.parametrize(
    "address",
    [
        "hf:",
        "hf:owner",
        "hf:owner/repo@",
        "hf:../repo",
        "hf:owner/repo/more",
        "hf:o/r@../x",
        "hf:o/r\n",
    ],
)
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        open_channel(address)


def test_huggingface_hub_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="huggingface_hub") as caught:
        open_channel(ADDRESS)
    assert "facenet-parity[release]" in str(caught.value.next_step)
