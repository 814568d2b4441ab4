"""Releases in an OCI registry: Debian's docker-registry, the real one, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("requests", reason="reading a registry needs requests")
pytest.importorskip("rfc8785", reason='canonical JSON: pip install "facenet-parity[release]"')

from oci_publishing import GREEDY, fetch, methods, publish, pulled, stored
from publishing import Recorded, Tiny, contents, files_of
from support import registry as registries
from support.registry import Registry, cutting

from facenet_common.errors import MissingPackageError, UsageError
from facenet_common.progress import Progress
from facenet_models.weights import oci as reading
from facenet_release.channels import oci as channel_module
from facenet_release.channels import open_channel
from facenet_release.documents.manifest import MANIFEST, Manifest
from facenet_release.errors import (
    AbsentError,
    ChannelError,
    CheckFailedError,
    TakenError,
)

pytestmark = pytest.mark.usefixtures("no_credentials", "no_waits")


# --- Addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("oci://ghcr.io/some/weights:v1.0", "https://ghcr.io"),
        ("oci://Registry.Example:8443/w:1", "https://registry.example:8443"),
        ("oci://localhost/w:1", "http://localhost"),
        ("oci://127.0.0.9:5000/w:1", "http://127.0.0.9:5000"),
        ("oci://[::1]:5000/w:1", "http://[::1]:5000"),
        ("oci://localhost.example/w:1", "https://localhost.example"),
        ("oci://127.0.0.1.example/w:1", "https://127.0.0.1.example"),
        ("oci://10.0.0.1:5000/w:1", "https://10.0.0.1:5000"),
    ],
)
def test_only_this_machine_is_spoken_to_in_the_clear(address: str, origin: str) -> None:
    parsed = reading.parse(address)
    assert parsed.origin == origin
    assert str(parsed).lower() == address.lower()


@pytest.mark.parametrize(
    "address",
    [
        "oci://host/weights",
        "oci://host/:v1",
        "oci:///weights:v1",
        "oci://host/Weights:v1",
        "oci://host/../weights:v1",
        "oci://host/a//b:v1",
        "oci://host/weights:.v1",
        "oci://host/weights:v1\n",
        "oci://me:secret@host/weights:v1",
        "oci://host/weights:v1?x=1",
        "oci://host/weights:" + 129 * "v",
        "oci://host/" + 256 * "w" + ":v1",
    ],
)
def test_a_malformed_address_is_a_usage_error(address: str) -> None:
    with pytest.raises(UsageError, match="not one in an OCI registry"):
        open_channel(address)


def test_opening_asks_nothing() -> None:
    assert open_channel("oci://127.0.0.1:9/some/weights:v1").address.endswith(":v1")


# --- When all goes well ---------------------------------------------------------------------------


def test_what_is_published_is_what_is_read(
    registry: Registry, tiny_release: Tiny, tmp_path: Path
) -> None:
    recorded = Recorded()
    channel = publish(tiny_release, registry.address(), recorded)
    size = sum(path.stat().st_size for path in files_of(tiny_release[0]))
    sent = size + len("{}")
    assert recorded.stages == {"hash": size, "publish": sent}
    assert recorded.done == sent
    assert sorted(channel.names()) == sorted(contents(tiny_release[0]))
    assert fetch(registry.address(), tmp_path / "back") == contents(tiny_release[0])


def test_the_same_release_has_the_same_digest_everywhere(
    registry: Registry, tiny_release: Tiny
) -> None:
    publish(tiny_release, registry.address("one"))
    publish(tiny_release, registry.address("two", name="else"))
    data = stored(registry.address("one"))
    assert data == stored(registry.address("two", name="else"))
    content = json.loads(data)
    assert content["artifactType"] == channel_module.ARTIFACT_TYPE
    assert json.dumps(content, sort_keys=True, separators=(",", ":")).encode() == data
    types = {row["annotations"][reading.TITLE]: row["mediaType"] for row in content["layers"]}
    assert types[MANIFEST] == "application/json"
    assert types["pnet.pt"] == "application/octet-stream"
    assert content["annotations"]["org.opencontainers.image.version"] == "v1.0"
    assert "created" not in data.decode()


def test_another_client_reads_it(registry: Registry, tiny_release: Tiny, tmp_path: Path) -> None:
    publish(tiny_release, registry.address())
    assert pulled(registry.address(), tmp_path / "pulled") == contents(tiny_release[0])


def test_publishing_again_sends_nothing(
    registry: Registry, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tiny_release, registry.address())
    requests, recorded = methods(monkeypatch), Recorded()
    publish(tiny_release, registry.address(), recorded)
    assert requests == [("GET", "manifests/v1")]
    assert recorded.notes == [f"published already: {registry.address()}"]


def test_another_tag_needs_no_blob_again(
    registry: Registry, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tiny_release, registry.address())
    requests = methods(monkeypatch)
    publish(tiny_release, registry.address("v2"))
    assert {method for method, _ in requests} == {"GET", "HEAD", "PUT"}
    assert [what for method, what in requests if method == "PUT"] == ["manifests/v2"]


# --- What is there already ------------------------------------------------------------------------


def test_nothing_there_is_said(registry: Registry) -> None:
    with pytest.raises(AbsentError, match="nothing is published there") as caught:
        open_channel(registry.address()).names()
    assert registry.address() in str(caught.value)


def test_another_release_under_the_tag_is_left_alone(
    registry: Registry,
    tiny_release: Tiny,
    tmp_path: Path,
    release_maker: Callable[..., Manifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(tiny_release, registry.address())
    before = stored(registry.address())
    other = tmp_path / "other", release_maker(tmp_path / "other", salt="x")
    requests = methods(monkeypatch)
    with pytest.raises(TakenError, match="something else is published there") as caught:
        publish(other, registry.address())
    assert hashlib.sha256(before).hexdigest() in str(caught.value)
    assert {method for method, _ in requests} == {"GET"}
    assert stored(registry.address()) == before


def test_whose_manifest_was_replaced_is_told(
    registry: Registry,
    tiny_release: Tiny,
    tmp_path: Path,
    release_maker: Callable[..., Manifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = tmp_path / "other", release_maker(tmp_path / "other", salt="x")
    publish(other, registry.address("v2"))
    theirs = stored(registry.address("v2"))
    real = reading.Registry.request

    def request(self: reading.Registry, method: str, url: str, **details: Any) -> Any:
        answer = real(self, method, url, **details)
        if method == "PUT" and url.endswith("/manifests/v1"):  # another found the tag free too
            real(self, method, url, **(details | {"data": theirs})).close()
        return answer

    monkeypatch.setattr(reading.Registry, "request", request)
    with pytest.raises(TakenError):
        publish(tiny_release, registry.address())


def test_files_that_the_manifest_does_not_describe_are_not_sent(
    registry: Registry, tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_release[0] / "pnet.pt").write_bytes(b"altered")
    requests = methods(monkeypatch)
    with pytest.raises(CheckFailedError, match="not what the manifest says") as caught:
        publish(tiny_release, registry.address())
    assert "pnet.pt" in str(caught.value)
    assert requests == []


# --- Damage ---------------------------------------------------------------------------------------


def weights(release: Tiny) -> tuple[str, bytes]:
    data = (release[0] / "pnet.pt").read_bytes()
    return hashlib.sha256(data).hexdigest(), data


def test_one_altered_bit_in_the_registry_is_seen(
    registry: Registry, tiny_release: Tiny, tmp_path: Path
) -> None:
    publish(tiny_release, registry.address())
    sha256, _ = weights(tiny_release)
    registry.alter(sha256)
    with pytest.raises(ChannelError, match=r"downloaded file is damaged: pnet\.pt") as caught:
        fetch(registry.address(), tmp_path / "back")
    assert sha256 in str(caught.value)
    assert not (tmp_path / "back" / "pnet.pt").exists()
    assert not list((tmp_path / "back").glob(".*"))


def test_another_client_does_not_see_it(
    registry: Registry, tiny_release: Tiny, tmp_path: Path
) -> None:
    """Why the check above is ours to make. If this fails, oras has learned to look."""
    publish(tiny_release, registry.address())
    sha256, data = weights(tiny_release)
    registry.alter(sha256)
    assert pulled(registry.address(), tmp_path / "pulled")["pnet.pt"] != data


@pytest.mark.parametrize("keep", [0, 100])
def test_a_truncated_file_in_the_registry_is_seen(
    registry: Registry, tiny_release: Tiny, tmp_path: Path, keep: int
) -> None:
    publish(tiny_release, registry.address())
    sha256, data = weights(tiny_release)
    registry.blob(sha256).write_bytes(data[:keep])
    with pytest.raises(ChannelError, match="another size"):
        fetch(registry.address(), tmp_path / "back")
    with pytest.raises(ChannelError, match="holds a damaged file") as caught:
        publish(tiny_release, registry.address("v2"))
    assert f"{len(data)} bytes" in str(caught.value)
    with pytest.raises(AbsentError):
        open_channel(registry.address("v2")).names()


def test_a_lost_file_is_seen(registry: Registry, tiny_release: Tiny, tmp_path: Path) -> None:
    publish(tiny_release, registry.address())
    registry.blob(weights(tiny_release)[0]).unlink()
    with pytest.raises(ChannelError, match="has no such file") as caught:
        fetch(registry.address(), tmp_path / "back")
    assert not isinstance(caught.value, AbsentError)


def test_an_altered_manifest_is_seen(registry: Registry, tiny_release: Tiny) -> None:
    publish(tiny_release, registry.address())
    file = registry.blob(hashlib.sha256(stored(registry.address())).hexdigest())
    altered = file.read_bytes().replace(b'"pnet.pt"', b'"pnet.pu"')  # by one bit, and JSON still
    file.write_bytes(altered)
    for act in (
        lambda: open_channel(registry.address()).names(),
        lambda: publish(tiny_release, registry.address()),
    ):
        with pytest.raises(ChannelError, match="manifest is damaged: its SHA-256 is wrong"):
            act()


def test_a_file_above_the_limit_is_not_read(
    registry: Registry, tiny_release: Tiny, tmp_path: Path
) -> None:
    publish(tiny_release, registry.address())
    with pytest.raises(ChannelError, match="sends too much") as caught:
        fetch(registry.address(), tmp_path / "back", limit=1000)
    assert "1000 bytes" in str(caught.value)


def test_names_lead_nowhere(registry: Registry, tiny_release: Tiny, tmp_path: Path) -> None:
    publish(tiny_release, registry.address())
    _, data = weights(tiny_release)
    evil = ["../../evil", "/etc/evil", "a\x00b", "..", "C:\\evil"]
    registries.push(registry, dict.fromkeys(evil, data), "evil")
    channel = open_channel(registry.address("evil"))
    assert sorted(channel.names()) == sorted(evil)
    (tmp_path / "in").mkdir()
    before = {path for path in tmp_path.rglob("*") if "registry" not in path.parts}
    for number, name in enumerate(evil):
        channel.download(name, tmp_path / "in" / str(number), GREEDY, lambda _size: None)
    after = {path for path in tmp_path.rglob("*") if "registry" not in path.parts}
    assert after - before == {tmp_path / "in" / str(number) for number in range(len(evil))}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"schemaVersion": 1}, "no list of layers"),
        ({"layers": None}, "no list of layers"),
        ({"layers": [3]}, "without a file name"),
        ({"layers": [{"annotations": {reading.TITLE: 7}}]}, "without a file name"),
        ({"title": ""}, "without a file name"),
        ({"size": -1}, "no size"),
        ({"size": True}, "no size"),
        ({"size": "7"}, "no size"),
        ({"digest": "sha512:" + 128 * "0"}, "no SHA-256"),
        ({"digest": "sha256:../../../x"}, "no SHA-256"),
        ({"twice": True}, "named twice"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(change: dict[str, Any], found: str) -> None:
    layer = {"size": 3, "digest": "sha256:" + 64 * "0", "annotations": {reading.TITLE: "x"}}
    layer |= {key: change[key] for key in ("size", "digest") if key in change}
    if "title" in change:
        layer["annotations"] = {reading.TITLE: change["title"]}
    content = {"schemaVersion": 2, "layers": [layer] * (2 if "twice" in change else 1)}
    content |= {key: change[key] for key in ("schemaVersion", "layers") if key in change}
    registry = reading.Registry(reading.parse("oci://host/w:1"))
    with pytest.raises(reading.DownloadError, match="not one of files") as caught:
        registry.files(json.dumps(content).encode())
    assert found in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"null", b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(reading.DownloadError, match="not one of files"):
        reading.Registry(reading.parse("oci://host/w:1")).files(data)


# --- Breaks ---------------------------------------------------------------------------------------


def test_nobody_there(tiny_release: Tiny) -> None:
    with pytest.raises(ChannelError, match="can't be reached"):
        open_channel("oci://127.0.0.1:9/some/weights:v1").names()
    with pytest.raises(ChannelError, match="can't be reached"):
        publish(tiny_release, "oci://127.0.0.1:9/some/weights:v1")


def test_a_cut_upload_shows_nothing_and_is_gone_on_with(
    registry: Registry, tiny_release: Tiny, tmp_path: Path
) -> None:
    (tiny_release[0] / "z.bin").write_bytes(b"z" * 400_000)  # the last, and the longest
    with cutting(registry.host) as cutter:
        address = f"oci://{cutter.host}/some/weights:v1"
        cutter.limit = 200_000
        with pytest.raises(ChannelError, match="can't be reached") as caught:
            publish(tiny_release, address)
        assert "next:" in str(caught.value)
        first = cutter.sent
        assert first > 200_000
        with pytest.raises(AbsentError):
            open_channel(registry.address()).names()
        cutter.limit, cutter.sent = None, 0
        recorded = Recorded()
        publish(tiny_release, address, recorded)
        assert 400_000 < cutter.sent < 410_000  # z.bin and requests, nothing else again
        assert recorded.done == recorded.stages["publish"]
    assert fetch(registry.address(), tmp_path / "back") == contents(tiny_release[0])


def test_a_registry_that_dies_meanwhile(tiny_release: Tiny, tmp_path: Path) -> None:
    (tiny_release[0] / "z.bin").write_bytes(b"z" * 400_000)

    class Killer(Recorded):
        def note(self, text: str) -> None:
            if text == "z.bin":
                running.close()

    with ExitStack() as running:
        registry = running.enter_context(registries.serve(tmp_path / "registry"))
        with pytest.raises(ChannelError, match="can't be reached"):
            publish(tiny_release, registry.address(), Killer())
    with registries.serve(tmp_path / "registry") as again:
        with pytest.raises(AbsentError):
            open_channel(again.address()).names()
        publish(tiny_release, again.address())
        assert fetch(again.address(), tmp_path / "back") == contents(tiny_release[0])


# --- Without oras ---------------------------------------------------------------------------------


def test_without_oras_the_extra_is_named(
    tiny_release: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "oras", None)
    with pytest.raises(MissingPackageError, match="needs oras") as caught:
        open_channel("oci://127.0.0.1:9/w:1").publish(
            files_of(tiny_release[0]), tiny_release[1], Progress()
        )
    assert "facenet-parity[release]" in str(caught.value)
