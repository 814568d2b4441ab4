"""Publishing to GitHub, against a server on loopback that speaks its protocol."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import github_server
import pytest
from github_server import READER, SECRET_QUERY, WRITER, GitHubServer
from publishing import Recorded, Tiny, contents, files_of, publish_to, shown_by

from facenet_common.errors import MissingPackageError, UsageError
from facenet_release.channels import open_channel
from facenet_release.errors import (
    AbsentError,
    ChannelError,
    ReleaseError,
    TakenError,
    TokenError,
)

pytest.importorskip("github", reason='pip install "facenet-parity[release]"')

ADDRESS = "github:owner/repo@v1.0"
ASSETS = 7  # of the tiny release


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that PyGithub waits, instead of waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch,
    waits: list[float],  # noqa: ARG001 # nothing waits
) -> Iterator[GitHubServer]:
    monkeypatch.delenv("GH_TOKEN", raising=False)
    with github_server.serve() as state:
        monkeypatch.setenv("GITHUB_API_URL", state.url)
        monkeypatch.setenv("GITHUB_TOKEN", WRITER)
        yield state


def publish(tiny: Tiny, address: str = ADDRESS) -> Recorded:
    return publish_to(address, tiny)


def assert_published(server: GitHubServer, tiny: Tiny) -> None:
    """One release is public, has exactly the files, and no draft is left."""
    (release,) = server.releases
    assert not release.draft
    assert {a.name: a.data for a in release.assets} == contents(tiny[0])
    assert all(a.state == "uploaded" for a in release.assets)


def test_publishes_and_reads_back(
    server: GitHubServer, tiny_release: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = publish(tiny_release)
    assert_published(server, tiny_release)
    size = sum(path.stat().st_size for path in files_of(tiny_release[0]))
    assert recorded.done == recorded.total == size
    monkeypatch.delenv("GITHUB_TOKEN")  # reading needs none
    channel = open_channel(ADDRESS)
    assert sorted(channel.names()) == [path.name for path in files_of(tiny_release[0])]
    for path in files_of(tiny_release[0]):
        sizes: list[int] = []
        size = path.stat().st_size
        channel.download(path.name, tmp_path / path.name, size, sizes.append)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
        assert sum(sizes) == size


def test_no_credentials_go_to_the_other_host(
    server: GitHubServer, tiny_release: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password netrcsecret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    publish(tiny_release)
    open_channel(ADDRESS).download("pnet.pt", tmp_path / "pnet.pt", 10_000, lambda _: None)
    assert server.elsewhere_headers
    for headers in server.elsewhere_headers:
        assert "Authorization" not in headers
        assert WRITER not in str(headers)


def test_publishing_again_does_nothing(server: GitHubServer, tiny_release: Tiny) -> None:
    publish(tiny_release)
    before = len([r for r in server.requests if r[0] != "GET"])
    assert publish(tiny_release).notes == ["published already"]
    assert len([r for r in server.requests if r[0] != "GET"]) == before


def test_works_where_the_server_tells_no_digests(server: GitHubServer, tiny_release: Tiny) -> None:
    server.digests = False
    publish(tiny_release)
    assert_published(server, tiny_release)
    assert publish(tiny_release).notes == ["published already"]
    server.releases[0].assets[3].data = b"x" * len(server.releases[0].assets[3].data)
    with pytest.raises(TakenError):
        publish(tiny_release)


@pytest.mark.parametrize("change", ["altered", "less", "more", "half"])
def test_a_published_release_is_never_changed(
    server: GitHubServer, tiny_release: Tiny, change: str
) -> None:
    publish(tiny_release)
    release = server.releases[0]
    if change == "altered":
        release.assets[0].data += b"!"
    elif change == "less":
        del release.assets[0]
    elif change == "half":
        release.assets[0].state = "starter"
    else:
        release.assets.append(github_server.Asset(99, "more.txt", b"more"))
    before = [(a.name, a.data) for a in release.assets]
    writes = len([r for r in server.requests if r[0] != "GET"])
    with pytest.raises(TakenError, match="nothing was changed"):
        publish(tiny_release)
    assert [(a.name, a.data) for a in release.assets] == before
    assert len([r for r in server.requests if r[0] != "GET"]) == writes


@pytest.mark.parametrize("asset", [0, 3, ASSETS - 1])
@pytest.mark.parametrize("kind", ["cut-upload", "cut-after", "starter", "500", "cut"])
def test_a_break_at_any_asset_is_mended(
    server: GitHubServer, tiny_release: Tiny, asset: int, kind: str
) -> None:
    server.fail("POST", "/assets$", kind, skip=asset)
    recorded = publish(tiny_release)
    assert_published(server, tiny_release)
    assert recorded.done == recorded.total


@pytest.mark.parametrize("asset", range(ASSETS))
def test_goes_on_after_a_break(server: GitHubServer, tiny_release: Tiny, asset: int) -> None:
    server.fail("POST", "/assets$", "starter", times=99, skip=asset)
    with pytest.raises(ChannelError, match="doesn't store what was sent") as caught:
        publish(tiny_release)
    assert f"{files_of(tiny_release[0])[asset].name}: other contents" in str(caught.value.found)
    assert not server.public()
    server.faults.clear()
    sent = server.count("POST", "/assets$")
    publish(tiny_release)
    assert_published(server, tiny_release)
    assert server.count("POST", "/assets$") - sent == ASSETS - asset, "sent again"
    assert server.count("POST", "/releases$") == 1, "another draft was made"


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/tags/"),
        ("GET", "/releases$"),
        ("POST", "/releases$"),
        ("GET", "/assets$"),
        ("PATCH", "/releases/"),
    ],
)
@pytest.mark.parametrize("kind", ["500", "cut", "cut-after", "limit"])
def test_other_breaks_are_mended(
    server: GitHubServer, tiny_release: Tiny, verb: str, path: str, kind: str
) -> None:
    fault = server.fail(verb, path, kind, times=2)
    publish(tiny_release)
    assert_published(server, tiny_release)
    assert fault.times == 0


def test_trouble_that_stays_is_an_error(server: GitHubServer, tiny_release: Tiny) -> None:
    server.fail("GET", "/releases$", "500", times=99)
    with pytest.raises(ChannelError, match="trouble") as caught:
        publish(tiny_release)
    assert server.count("GET", "/releases$") == 4
    assert "not sent again" in str(caught.value.next_step)


@pytest.mark.parametrize("kind", ["limit", "long-limit"])
def test_a_limit_on_requests(
    server: GitHubServer, tiny_release: Tiny, waits: list[float], kind: str
) -> None:
    server.fail("GET", "/tags/", kind, times=99)
    with pytest.raises(ChannelError, match="too many requests"):
        publish(tiny_release)
    assert not server.releases
    server.faults.clear()
    server.fail("GET", "/tags/", kind)
    waits.clear()
    publish(tiny_release)
    assert (900.0 in waits) == (kind == "long-limit"), "the server's wish is not respected"


@pytest.mark.parametrize("path", ["/tags/", "/releases$", "/assets$"])
def test_nonsense_is_an_error(server: GitHubServer, tiny_release: Tiny, path: str) -> None:
    server.fail("GET", path, "nonsense", times=99)
    with pytest.raises(ChannelError, match="makes no sense"):
        publish(tiny_release)
    assert not server.public()


@pytest.mark.usefixtures("server")
def test_a_server_that_is_not_there(tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")  # "discard": nobody listens
    with pytest.raises(ChannelError, match="could not be made"):
        publish(tiny_release)


def test_corruption_is_noticed_and_mended(server: GitHubServer, tiny_release: Tiny) -> None:
    server.fail("POST", "/assets$", "corrupt", skip=2)
    publish(tiny_release)
    assert_published(server, tiny_release)


@pytest.mark.parametrize("digests", [True, False])
def test_corruption_that_stays_is_not_published(
    server: GitHubServer, tiny_release: Tiny, digests: bool
) -> None:
    server.digests = digests
    server.fail("POST", "/assets$", "corrupt", times=99, skip=2)
    with pytest.raises(ChannelError, match="doesn't store what was sent"):
        publish(tiny_release)
    assert not server.public()


def test_corruption_after_the_upload_is_mended(server: GitHubServer, tiny_release: Tiny) -> None:
    def corrupt() -> None:
        server.releases[0].assets[0].data = b"gone bad"

    # While the last file goes up, the first goes bad.
    server.when("POST", "/assets$", corrupt, skip=ASSETS - 1)
    publish(tiny_release)
    assert_published(server, tiny_release)


def test_leftovers_in_our_draft_are_cleared(server: GitHubServer, tiny_release: Tiny) -> None:
    server.fail("POST", "/assets$", "starter", times=99, skip=3)
    server.fail("DELETE", "/assets/", "500", times=99)  # so that it is left
    with pytest.raises(ChannelError):
        publish(tiny_release)
    server.faults.clear()
    draft = server.releases[0]
    assert any(asset.state == "starter" for asset in draft.assets)
    draft.assets[0].data += b"!"
    draft.assets[1].state = "starter"  # with all its bytes
    draft.assets.append(github_server.Asset(99, "foreign.bin", b"foreign"))
    publish(tiny_release)
    assert_published(server, tiny_release)


def test_foreign_drafts_are_left_alone(server: GitHubServer, tiny_release: Tiny) -> None:
    foreign = server.add("v1.0", "my notes", draft=True, pnet__pt=b"mine")
    other = server.add("v0.9", draft=True)
    publish(tiny_release)
    assert foreign in server.releases
    assert other in server.releases
    assert foreign.draft
    assert foreign.assets[0].data == b"mine"
    assert len(server.public()) == 1


def test_the_older_of_two_drafts_of_ours_is_used(server: GitHubServer, tiny_release: Tiny) -> None:
    server.fail("POST", "/assets$", "cut", times=99)
    with pytest.raises(ChannelError):
        publish(tiny_release)
    server.faults.clear()
    older = server.releases[0]
    server.add("v1.0", older.body, draft=True)
    publish(tiny_release)
    assert_published(server, tiny_release)
    assert server.releases == [older]


@pytest.mark.parametrize("same", [True, False])
def test_a_second_publisher_is_first(server: GitHubServer, tiny_release: Tiny, same: bool) -> None:
    """Between our last look and our request, another release of the tag is published."""

    def other() -> None:
        release = server.add("v1.0", "by hand")
        for number, path in enumerate(files_of(tiny_release[0])):
            data = path.read_bytes() + (b"" if same else b"!")
            release.assets.append(github_server.Asset(1000 + number, path.name, data))

    server.when("PATCH", "/releases/", other)
    if same:
        publish(tiny_release)
    else:
        with pytest.raises(TakenError):
            publish(tiny_release)
    (public,) = server.public()
    assert public.body == "by hand"


def test_a_draft_that_somebody_publishes_meanwhile_loses_nothing(
    server: GitHubServer, tiny_release: Tiny
) -> None:
    def publish_it() -> None:
        server.releases[0].draft = False

    server.fail("POST", "/assets$", "corrupt", times=99)
    server.when("GET", r"/releases/\d+$", publish_it)
    with pytest.raises(ChannelError, match="published the draft meanwhile"):
        publish(tiny_release)
    assert server.count("DELETE", "") == 0


def test_a_renamed_asset_is_sent_again(server: GitHubServer, tiny_release: Tiny) -> None:
    server.fail("POST", "/assets$", "rename", times=99)
    with pytest.raises(ChannelError, match="doesn't store what was sent"):
        publish(tiny_release)
    assert not server.public()
    server.faults.clear()
    server.fail("POST", "/assets$", "rename")
    publish(tiny_release)
    assert_published(server, tiny_release)


def test_nothing_is_sent_without_a_token(
    server: GitHubServer, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "")
    with pytest.raises(TokenError, match="none is set") as caught:
        publish(tiny_release)
    assert caught.value.expected == "GITHUB_TOKEN or GH_TOKEN"
    assert not server.requests
    monkeypatch.setenv("GH_TOKEN", WRITER)
    publish(tiny_release)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ütf"])
def test_a_token_that_is_none_is_not_repeated(
    server: GitHubServer, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", token)
    with pytest.raises(TokenError, match="holds no token") as caught:
        publish(tiny_release)
    assert token not in str(caught.value)
    assert not server.requests


@pytest.mark.parametrize("token", ["ghp_unknown", READER])
def test_a_token_that_does_not_do(
    server: GitHubServer, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", token)
    with pytest.raises(TokenError) as caught:
        publish(tiny_release)
    assert caught.value.exit_code == 2
    assert "GITHUB_TOKEN" in str(caught.value.next_step)
    assert not server.releases


@pytest.mark.parametrize("asset", range(0, ASSETS, 3))
def test_a_token_that_expires_on_the_way(
    server: GitHubServer, tiny_release: Tiny, asset: int
) -> None:
    server.when("POST", "/assets$", server.tokens.clear, skip=asset)
    with pytest.raises(TokenError, match="expired"):
        publish(tiny_release)
    assert not server.public()
    server.tokens.add(WRITER)
    publish(tiny_release)
    assert_published(server, tiny_release)
    assert server.count("POST", "/assets$") == ASSETS + 1


def test_the_token_never_shows(
    server: GitHubServer,
    tiny_release: Tiny,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In no log at DEBUG, no error, no error's cause, no repr; nor do signed addresses."""
    caplog.set_level(logging.DEBUG)
    for name in ("github", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    texts: list[str] = []
    channel = open_channel(ADDRESS)
    for verb, path, kind in (
        ("GET", "/tags/", "echo"),
        ("POST", "/releases$", "echo"),
        ("GET", "/releases$", "nonsense"),
        ("POST", "/assets$", "echo"),
    ):
        server.fail(verb, path, kind)
        texts += shown_by(lambda: publish(tiny_release))
    server.tokens.clear()
    texts += shown_by(lambda: publish(tiny_release))
    server.tokens.add(WRITER)
    publish(tiny_release)
    server.fail("GET", "elsewhere", "cut", times=4)
    texts += shown_by(lambda: channel.download("pnet.pt", tmp_path / "x", 99_999, lambda _: None))
    assert len(texts) == 6 * 4
    texts += [repr(channel), repr(vars(channel)), caplog.text, *capfd.readouterr()]
    assert "api/v3" in caplog.text, "nothing was logged"
    assert WRITER not in "".join(texts)
    errors = "".join(texts[: 6 * 4])
    assert SECRET_QUERY not in errors


@pytest.mark.parametrize("kind", ["cut", "longer", "understated", "endless"])
def test_downloads_that_go_wrong(
    server: GitHubServer, tiny_release: Tiny, tmp_path: Path, kind: str
) -> None:
    publish(tiny_release)
    size = (tiny_release[0] / "pnet.pt").stat().st_size
    channel, sizes = open_channel(ADDRESS), []
    server.fail("GET", "elsewhere", kind, times=99)
    target = tmp_path / "pnet.pt"
    if kind == "understated":
        # HTTP ends the body where the length says; the caller checks the hash.
        channel.download("pnet.pt", target, size, sizes.append)
        assert target.stat().st_size == size // 2
        return
    with pytest.raises(ChannelError, match="broke off" if kind == "cut" else "sends too much"):
        channel.download("pnet.pt", target, size, sizes.append)
    assert not list(tmp_path.glob("*pnet*"))


def test_a_download_goes_on_after_a_break(
    server: GitHubServer, tiny_release: Tiny, tmp_path: Path
) -> None:
    publish(tiny_release)
    server.fail("GET", "elsewhere", "cut")
    server.fail("GET", "/assets/", "500")
    sizes: list[int] = []
    open_channel(ADDRESS).download("pnet.pt", tmp_path / "pnet.pt", 99_999, sizes.append)
    data = (tiny_release[0] / "pnet.pt").read_bytes()
    assert (tmp_path / "pnet.pt").read_bytes() == data
    assert sum(sizes) == len(data)


def test_what_is_absent(server: GitHubServer, tiny_release: Tiny, tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="no release of this tag"):
        open_channel(ADDRESS).names()
    with pytest.raises(AbsentError, match="no release of this tag") as caught:
        open_channel("github:owner/other@v1.0").names()
    assert "a private repository needs a token" in str(caught.value)
    server.add("v1.0", draft=True)
    with pytest.raises(AbsentError, match="no release of this tag"):
        open_channel(ADDRESS).names()
    with pytest.raises(ChannelError):
        publish(tiny_release, "github:owner/other@v1.0")
    server.add("v1.0", a__txt=b"a")
    with pytest.raises(AbsentError, match="called"):
        open_channel(ADDRESS).download("b.txt", tmp_path / "b.txt", 1, lambda _: None)


def test_uploads_go_to_no_foreign_host(server: GitHubServer, tiny_release: Tiny) -> None:
    """Whatever the answers say of where uploads should go."""
    server.uploads_at = "http://127.0.0.1:9/uploads"
    publish(tiny_release)
    assert_published(server, tiny_release)


def test_redirected_uploads_are_not_followed(server: GitHubServer, tiny_release: Tiny) -> None:
    server.fail("POST", "/assets$", "redirect", times=99)
    with pytest.raises(ChannelError, match="doesn't store what was sent"):
        publish(tiny_release)
    assert not server.elsewhere_headers


def test_files_that_are_not_sent(server: GitHubServer, tiny_release: Tiny) -> None:
    folder, _ = tiny_release
    (folder / "a name.txt").write_text("a")
    with pytest.raises(ReleaseError, match="unsafe"):
        publish(tiny_release)
    (folder / "a name.txt").unlink()
    (folder / "pnet.pt").write_bytes(b"altered")
    with pytest.raises(ReleaseError, match="not what the manifest says"):
        publish(tiny_release)
    assert not server.requests


@pytest.mark.parametrize(
    "address",
    [
        "github:",
        "github:owner",
        "github:owner/repo",
        "github:owner/repo@",
        "github:owner/..@v1",
        "github:owner/repo/more@v1",
        "github:owner/repo@../x",
        "github:owner/repo@v1?x",
        "github:ow ner/repo@v1",
        "github:owner/repo@v1\n",
    ],
)
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        open_channel(address)


@pytest.mark.parametrize(
    "url",
    ["http://example.org", "ftp://example.org", "https://user:pw@example.org", "https://", "x"],
)
def test_servers_that_are_not_used(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("GITHUB_API_URL", url)
    with pytest.raises(UsageError, match="GITHUB_API_URL") as caught:
        open_channel(ADDRESS)
    assert "pw" not in str(caught.value)


def test_pygithub_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "github", None)
    with pytest.raises(MissingPackageError, match="PyGithub") as caught:
        open_channel(ADDRESS)
    assert "facenet-parity[release]" in str(caught.value.next_step)
