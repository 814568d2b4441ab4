"""Who may read and write in an OCI registry: credentials, and the tokens given for them."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip("requests", reason="reading a registry needs requests")
pytest.importorskip("rfc8785", reason='canonical JSON: pip install "facenet-parity[release]"')

from oci_publishing import GREEDY, fetch, publish
from publishing import Tiny, contents
from support.registry import PASSWORD, USER, Registry, gate

from facenet_models.weights import oci as reading
from facenet_release.channels import open_channel
from facenet_release.channels.common import ByteCounter, Upload
from facenet_release.channels.oci import credentials
from facenet_release.errors import (
    ChannelError,
    TokenError,
)

pytestmark = pytest.mark.usefixtures("no_credentials", "no_waits")


# --- Credentials ----------------------------------------------------------------------------------


def test_without_credentials(locked: Registry, tiny_release: Tiny) -> None:
    for act in (
        lambda: open_channel(locked.address()).names(),
        lambda: publish(tiny_release, locked.address()),
    ):
        with pytest.raises(TokenError, match="refuses access") as caught:
            act()
        assert "OCI_USERNAME" in str(caught.value)
        assert "401" in str(caught.value)


def test_wrong_credentials_are_not_shown(
    locked: Registry,
    tiny_release: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OCI_USERNAME", USER)
    monkeypatch.setenv("OCI_PASSWORD", "wr0ng-secret")
    with pytest.raises(TokenError, match="refuses access") as caught:
        publish(tiny_release, locked.address())
    everything = f"{caught.value}{capfd.readouterr()}{caplog.text}"
    encoded = base64.b64encode(f"{USER}:wr0ng-secret".encode()).decode()
    assert "wr0ng-secret" not in everything
    assert encoded not in everything
    with pytest.raises(TokenError):
        open_channel(locked.address()).names()


@pytest.mark.parametrize("source", ["environment", "docker"])
def test_right_credentials(
    locked: Registry,
    tiny_release: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    source: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    if source == "environment":
        monkeypatch.setenv("OCI_USERNAME", USER)
        monkeypatch.setenv("OCI_PASSWORD", PASSWORD)
    else:
        write_docker(tmp_path, {"auths": {locked.host: {"auth": encoded}}}, monkeypatch)
    publish(tiny_release, locked.address())
    assert fetch(locked.address(), tmp_path / "back") == contents(tiny_release[0])
    everything = f"{capfd.readouterr()}{caplog.text}"
    assert PASSWORD not in everything
    assert encoded not in everything


def test_what_was_refused_without_a_token_is_sent_again_from_its_beginning(
    locked: Registry, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCI_USERNAME", USER)
    monkeypatch.setenv("OCI_PASSWORD", PASSWORD)
    publish(tiny_release, locked.address())
    parsed = reading.parse(locked.address("v2"))
    first, second = (reading.Registry(parsed, credentials(locked.host)) for _ in range(2))
    data = reading.Registry(reading.parse(locked.address()), credentials(locked.host)).manifest()
    sizes: list[int] = []
    body = Upload(BytesIO(data), ByteCounter(sizes.append))
    headers = {"Content-Type": reading.MANIFEST_TYPE}
    # Its first request, so that it has no token yet.
    first.request("PUT", parsed.manifest, data=body, headers=headers).close()
    assert second.manifest() == data
    assert sum(sizes) == len(data)


def write_docker(tmp_path: Path, content: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docker"
    folder.mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "config.json").write_text(text)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


def test_where_credentials_are_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def shown(host: str) -> str | None:
        found = credentials(host)
        return base64.b64decode(found).decode() if found else None

    assert shown("ghcr.io") is None
    monkeypatch.setenv("GITHUB_TOKEN", "hub")
    assert shown("ghcr.io") == "token:hub"
    assert shown("ghcr.io.example") is None  # GitHub's token is for GitHub
    monkeypatch.setenv("GITHUB_ACTOR", "someone")
    assert shown("ghcr.io") == "someone:hub"
    auth = base64.b64encode(b"a:b").decode()
    write_docker(tmp_path, {"auths": {"host": {"auth": auth}, "other": {}}}, monkeypatch)
    assert shown("host") == "a:b"
    assert shown("other") is None
    assert shown("third") is None
    monkeypatch.setenv("OCI_USERNAME", "me")
    with pytest.raises(TokenError, match="belong together"):
        shown("host")
    monkeypatch.setenv("OCI_PASSWORD", "mine")
    assert shown("host") == shown("ghcr.io") == "me:mine"


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"auths": 3}', '{"auths": {"h": []}}', '{"auths": {"h": {"auth": "s3cret!"}}}'],
)
def test_a_damaged_file_of_credentials_is_named_not_shown(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_docker(tmp_path, content, monkeypatch)
    with pytest.raises(TokenError, match="is damaged") as caught:
        open_channel("oci://h/w:1").names()
    assert str(file) in str(caught.value)
    assert "s3cret" not in str(caught.value)


# --- Tokens ---------------------------------------------------------------------------------------


def names_of(address: str) -> list[str]:
    return list(open_channel(address).names())


def test_a_token_is_fetched_with_the_credentials_and_shown_to_the_registry_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCI_USERNAME", USER)
    monkeypatch.setenv("OCI_PASSWORD", PASSWORD)
    data = b"contents"
    blob = reading.Blob(len(data), hashlib.sha256(data).hexdigest())
    path = f"/v2/some/weights/blobs/sha256:{blob.sha256}"
    with gate() as here, gate() as there:
        there.files = {"/store" + path: data}
        here.elsewhere = f"http://localhost:{there.host.partition(':')[2]}/store"
        here.files = {"/v2/some/weights/manifests/v1": manifest_of({"x": blob})}
        channel = open_channel(f"oci://{here.host}/some/weights:v1")
        assert channel.names() == ["x"]
        channel.download("x", tmp_path / "x", GREEDY, lambda _size: None)
        assert (tmp_path / "x").read_bytes() == data
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        first, token, second, third = here.authorizations
        assert first == ("/v2/some/weights/manifests/v1", None)
        assert token[0].startswith("/token?service=s&scope=repository%3Asome%2Fweights%3Apull")
        assert token[1] == basic
        assert second[1] == third[1] == "Bearer t0ken-of-the-gate"
        assert there.authorizations == [("/store" + path, None)]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/v2/w/blobs/uploads/", True),
        ("https://host:444/v2/", False),
        ("http://host/v2/", False),
        ("https://host.example/v2/", False),
        ("https://other/v2/", False),
    ],
)
def test_a_token_is_shown_to_its_registry_only(url: str, shown: bool) -> None:
    import requests

    registry = reading.Registry(reading.parse("oci://host/w:1"))
    registry._authorization = "Bearer x"
    request = registry.authorise(requests.Request("PUT", url).prepare())
    assert ("Authorization" in request.headers) == shown


def test_a_file_may_be_elsewhere_when_asked_for_too() -> None:
    with gate() as here, gate() as there:
        blob = reading.Blob(5, "0" * 64)
        path = f"/v2/some/weights/blobs/sha256:{blob.sha256}"
        there.files, here.elsewhere = {"/store" + path: b"12345"}, f"http://{there.host}/store"
        registry = reading.Registry(reading.parse(f"oci://{here.host}/some/weights:v1"))
        with registry.request("HEAD", registry.address.blob(blob.sha256)) as answer:
            assert answer.headers["Content-Length"] == "5"


def manifest_of(blobs: dict[str, reading.Blob]) -> bytes:
    layers = [
        {
            "mediaType": "x/y",
            "size": blob.size,
            "digest": f"sha256:{blob.sha256}",
            "annotations": {reading.TITLE: name},
        }
        for name, blob in blobs.items()
    ]
    return json.dumps({"schemaVersion": 2, "layers": layers}).encode()


def test_credentials_do_not_go_out_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCI_USERNAME", USER)
    monkeypatch.setenv("OCI_PASSWORD", PASSWORD)
    with gate() as here:
        here.realm = "http://tokens.example/token"
        with pytest.raises(ChannelError, match="for a token to an address without encryption"):
            names_of(f"oci://{here.host}/some/weights:v1")
        assert [path for path, _ in here.authorizations] == ["/v2/some/weights/manifests/v1"]


@pytest.mark.parametrize("token", [None, "", 7, "a b", "a\r\nX-Evil: 1", "a" * 20_000])
def test_a_token_that_is_none_is_refused(token: object) -> None:
    with gate() as here:
        here.token = token
        with pytest.raises(ChannelError, match="gives no token"):
            names_of(f"oci://{here.host}/some/weights:v1")


def test_a_manifest_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_MANIFEST", 1000)
    with gate() as here:
        here.files = {"/v2/some/weights/manifests/v1": bytes(1001)}
        with pytest.raises(ChannelError, match="sends too much"):
            names_of(f"oci://{here.host}/some/weights:v1")
