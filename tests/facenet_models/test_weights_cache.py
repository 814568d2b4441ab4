"""Downloads from a real server that misbehaves: whole under their name, or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("requests", reason="downloads need requests")
pytest.importorskip("filelock", reason="downloads need filelock")

from support.file_server import FileServer, serve

from facenet_common.errors import DownloadError, OutputError, WeightsError
from facenet_models.weights import cache, http
from facenet_models.weights.cache import fetch

BODY = random.Random(7).randbytes(700_001)
HASH = sha256(BODY).hexdigest()
VARIABLES = ("FACENET_OFFLINE", "FACENET_MIRROR", "FACENET_WEIGHTS", "TORCH_HOME")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BACKOFF", 0.0)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve(BODY) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.pt"


def left(target: Path) -> set[str]:
    """The files beside `target`, but for the lock, which is empty and stays."""
    names = {path.name for path in target.parent.iterdir()} if target.parent.exists() else set()
    return names - {f".{target.name}.lock"}


PART, PART_NOTE = ".file.part.pt", ".file.part.pt.json"


def ranges(server: FileServer) -> list[str | None]:
    return [request.range for request in server.requests]


# --- When all goes well ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["", "no-length", "redirect"])
def test_a_file_is_downloaded_once(server: FileServer, target: Path, fault: str) -> None:
    server.faults = [fault]
    assert fetch(server.url, target, sha256=HASH, progress=False) == target
    assert target.read_bytes() == BODY
    assert left(target) == {"file.pt"}
    asked = len(server.requests)
    fetch(server.url, target, sha256=HASH, progress=False)
    assert len(server.requests) == asked


def test_the_bar_names_the_file(
    server: FileServer, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch(server.url, target, sha256=HASH)
    shown = capfd.readouterr()
    assert "file.pt" in shown.err
    assert "700.0" in shown.err  # kB, both of them
    assert shown.out == ""


# --- Faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("503", "the server refuses"),
        ("busy-for-an-hour", "the server refuses"),
        ("404", "no such file"),
        ("page", "sent a web page"),
        ("page-as-bytes", "did not send a weight file"),
        ("empty", "did not send a weight file"),
        ("gzip", "compresses"),
        ("cut-at-once", "broke off"),
        ("redirect-nowhere", "can't be reached"),
        ("redirect-loop", "the request failed"),
        ("wrong-bytes", "SHA-256 is wrong|not the weight file"),
        ("length-too-small", "SHA-256 is wrong|not the weight file"),
    ],
)
def test_each_fault_is_an_error_and_leaves_nothing(
    server: FileServer, target: Path, fault: str, message: str, known: bool
) -> None:
    def check(path: Path) -> None:
        if path.read_bytes() != BODY:
            raise WeightsError("damaged", found="something else")

    server.faults = [fault] * (1 + http.RETRIES if fault == "503" else 1)
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(server.url, target, sha256=HASH if known else None, check=check, progress=False)
    assert server.faults == [fault] * (fault == "redirect-loop")
    assert server.url in str(caught.value)
    assert "next:" in str(caught.value)
    assert left(target) == set()
    server.faults = []
    fetch(server.url, target, sha256=HASH if known else None, check=check, progress=False)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x.pt", "ftp://127.0.0.1/x.pt", "no address", "http://", "http://["]
)
def test_an_address_where_nobody_is(target: Path, url: str) -> None:
    with pytest.raises(DownloadError):
        fetch(url, target, progress=False)
    assert left(target) == set()


def test_no_server_fills_the_disk(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_BYTES", 100_000)
    for fault in ("", "no-length"):
        server.faults = [fault]
        with pytest.raises(DownloadError, match="sends too much"):
            fetch(server.url, target, sha256=HASH, progress=False)
        assert left(target) == set()


def test_passwords_are_not_shown(server: FileServer, target: Path) -> None:
    server.faults = ["404"]
    with pytest.raises(DownloadError) as caught:
        fetch(server.url.replace("//", "//me:secret@") + "?token=secret", target, progress=False)
    assert "secret" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="can't be kept") as caught:
        fetch(server.url, tmp_path / "file" / "x.pt", progress=False)
    assert str(tmp_path / "file") in str(caught.value)


@pytest.mark.parametrize("package", ["requests", "filelock"])
def test_a_missing_package_is_named(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(cache, "missing", lambda names: [n for n in names if n == package])
    with pytest.raises(DownloadError, match=f"needs {package}") as caught:
        fetch(server.url, target, sha256=HASH)
    assert str(target) in str(caught.value)
    assert server.requests == []


# --- Breaks ---------------------------------------------------------------------------------------


def test_a_break_is_continued_in_the_same_call(server: FileServer, target: Path) -> None:
    server.faults = ["cut", "cut"]
    fetch(server.url, target, sha256=HASH, progress=False)
    assert target.read_bytes() == BODY
    first, second, third = ranges(server)
    assert first is None
    assert second is not None
    assert third is not None
    assert 0 < int(second[6:-1]) < int(third[6:-1]) < len(BODY)
    assert server.requests[1].if_range == '"v1"'
    assert left(target) == {"file.pt"}


def test_a_server_that_falls_silent_is_a_break(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TIMEOUT", (5.0, 1.0))
    server.faults = ["stall"]
    fetch(server.url, target, sha256=HASH, progress=False)
    assert [bool(wanted) for wanted in ranges(server)] == [False, True]


@pytest.mark.parametrize("fault", ["503", "busy-for-a-second"])
def test_a_busy_server_is_asked_again(server: FileServer, target: Path, fault: str) -> None:
    server.faults = [fault]
    began = time.monotonic()
    fetch(server.url, target, sha256=HASH, progress=False)
    assert len(server.requests) == 2
    assert fault == "503" or time.monotonic() - began >= 1  # its Retry-After


def test_a_busy_server_costs_nothing_that_is_here(server: FileServer, target: Path) -> None:
    break_off(server, target)
    server.faults = ["busy-for-an-hour"]
    with pytest.raises(DownloadError, match="the server refuses") as caught:
        fetch(server.url, target, sha256=HASH, progress=False)
    assert "429" in str(caught.value)
    assert "Retry-After: 3600" in str(caught.value)
    assert "bytes are kept" in str(caught.value)
    fetch(server.url, target, sha256=HASH, progress=False)
    assert [bool(wanted) for wanted in ranges(server)] == [True, True]


def test_a_short_body_is_a_break_for_old_libraries_too(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib3.response import HTTPResponse

    def lenient(self: HTTPResponse, *args: Any, **kwargs: Any) -> None:  # as urllib3 1.26 is
        initialise(self, *args, **{**kwargs, "enforce_content_length": False})

    initialise = HTTPResponse.__init__
    monkeypatch.setattr(HTTPResponse, "__init__", lenient)
    server.faults = ["cut", "cut-at-once"]
    with pytest.raises(DownloadError, match="broke off") as caught:
        fetch(server.url, target, progress=False)
    assert f"of {len(BODY):,} bytes" in str(caught.value)
    assert not target.exists()


def break_off(server: FileServer, target: Path) -> None:
    """A call that fails with the first half kept, where that is possible."""
    server.faults = ["cut", "cut-at-once"]
    with pytest.raises(DownloadError, match="broke off"):
        fetch(server.url, target, sha256=HASH, progress=False)
    assert not target.exists()
    server.requests.clear()


def test_a_break_is_continued_by_the_next_call(server: FileServer, target: Path) -> None:
    break_off(server, target)
    assert left(target) == {PART, PART_NOTE}
    kept = (target.parent / PART).read_bytes()
    assert kept == BODY[: len(kept)] != b""
    fetch(server.url, target, sha256=HASH, progress=False)
    assert ranges(server) == [f"bytes={len(kept)}-"]
    assert target.read_bytes() == BODY
    assert left(target) == {"file.pt"}


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_what_cannot_be_told_apart_is_not_continued(
    server: FileServer, target: Path, etag: str | None
) -> None:
    server.etag = etag
    break_off(server, target)
    assert left(target) == set()
    fetch(server.url, target, sha256=HASH, progress=False)
    assert ranges(server) == [None]


def test_a_server_without_ranges_starts_anew(server: FileServer, target: Path) -> None:
    server.ranges = False
    break_off(server, target)
    fetch(server.url, target, sha256=HASH, progress=False)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("validate", [True, False])
def test_a_file_that_changed_meanwhile_is_not_mixed(
    server: FileServer, target: Path, validate: bool
) -> None:
    break_off(server, target)
    server.body, server.etag, server.validate = BODY[::-1], '"v2"', validate
    fetch(server.url, target, progress=False)
    assert target.read_bytes() == BODY[::-1]


def test_halves_that_do_not_fit_are_thrown_away(server: FileServer, target: Path) -> None:
    break_off(server, target)
    part = target.parent / PART
    part.write_bytes(bytes(part.stat().st_size))
    fetch(server.url, target, sha256=HASH, progress=False)
    assert target.read_bytes() == BODY
    assert [bool(wanted) for wanted in ranges(server)] == [True, False]


def test_a_part_that_is_complete_already(server: FileServer, target: Path) -> None:
    break_off(server, target)
    (target.parent / PART).write_bytes(BODY)  # killed just before the renaming
    fetch(server.url, target, sha256=HASH, progress=False)
    assert target.read_bytes() == BODY


def test_another_range_than_asked_for_is_refused(server: FileServer, target: Path) -> None:
    break_off(server, target)
    server.faults = ["wrong-range"]
    with pytest.raises(DownloadError, match="another range"):
        fetch(server.url, target, sha256=HASH, progress=False)
    assert left(target) == set()


@pytest.mark.parametrize("note", ["", "[]", "{", '{"url": 1}', '{"version": "x"}'])
def test_a_damaged_note_starts_anew(server: FileServer, target: Path, note: str) -> None:
    break_off(server, target)
    (target.parent / PART_NOTE).write_text(note)
    fetch(server.url, target, sha256=HASH, progress=False)
    assert ranges(server) == [None]


# --- Hashes ---------------------------------------------------------------------------------------


def test_a_file_in_the_cache_is_checked_on_every_load(server: FileServer, target: Path) -> None:
    fetch(server.url, target, sha256=HASH, progress=False)
    target.write_bytes(BODY[:-1] + b"!")
    with pytest.raises(WeightsError, match="SHA-256 is wrong") as caught:
        fetch(server.url, target, sha256=HASH, progress=False)
    assert caught.value.expected == HASH
    assert caught.value.file == str(target)


def test_an_unknown_hash_is_kept_and_holds(server: FileServer, target: Path) -> None:
    checked: list[Path] = []
    fetch(server.url, target, check=checked.append, progress=False)
    assert len(checked) == 1
    note = target.with_name("file.pt.sha256")
    assert note.read_text() == f"{HASH}  file.pt\n"
    fetch(server.url, target, check=checked.append, progress=False)
    assert len(checked) == 1
    target.write_bytes(BODY + b"!")
    with pytest.raises(WeightsError, match="SHA-256 is wrong"):
        fetch(server.url, target, progress=False)
    target.unlink()
    server.body = b"other" + BODY
    with pytest.raises(DownloadError, match="SHA-256 is wrong") as caught:
        fetch(server.url, target, progress=False)
    assert str(note) in str(caught.value)
    assert left(target) == {note.name}
    note.unlink()
    fetch(server.url, target, progress=False)


def test_a_file_that_was_there_before_is_checked_then_trusted(target: Path) -> None:
    def refuse(_: Path) -> None:
        raise WeightsError("damaged")

    target.parent.mkdir()
    target.write_bytes(BODY)
    with pytest.raises(WeightsError, match="damaged"):
        fetch("http://unused", target, check=refuse)
    assert left(target) == {"file.pt"}
    fetch("http://unused", target)
    assert left(target) == {"file.pt", "file.pt.sha256"}
    fetch("http://unused", target, check=refuse)


# --- Where from, where to -------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_offline_says_where_the_file_belongs(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FACENET_OFFLINE", value)
    with pytest.raises(DownloadError, match="FACENET_OFFLINE forbids") as caught:
        fetch(server.url, target, sha256=HASH)
    assert str(target) in str(caught.value)
    assert server.url in str(caught.value)
    assert server.requests == []
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert fetch(server.url, target, sha256=HASH) == target


def test_offline_0_is_online(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACENET_OFFLINE", "0")
    fetch(server.url, target, sha256=HASH, progress=False)


def test_a_mirror_takes_the_place_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://github.com/a/b/x.pt"
    assert cache.mirrored(url) == url
    monkeypatch.setenv("FACENET_MIRROR", "http://mirror:81/prefix/")
    assert cache.mirrored(url) == "http://mirror:81/prefix/a/b/x.pt"


def test_the_cache_is_facenet_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_folder() == Path("/home/me/.cache/torch/checkpoints")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.cache_folder() == Path("/xdg/torch/checkpoints")
    monkeypatch.setenv("TORCH_HOME", "~/t")
    assert cache.cache_folder() == Path("/home/me/t/checkpoints")


# --- Several processes ----------------------------------------------------------------------------


def start(server: FileServer, target: Path) -> subprocess.Popen[bytes]:
    """A process that downloads; it imports no torch."""
    code = (
        "import sys; from pathlib import Path; from facenet_models.weights.cache import fetch\n"
        f"fetch({server.url!r}, Path({str(target)!r}), sha256={HASH!r}, progress=False)\n"
        "assert 'torch' not in sys.modules"
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_processes_that_want_the_same_file_download_it_once(
    server: FileServer, target: Path
) -> None:
    server.pause = 0.03  # long enough for both to come
    processes = [start(server, target) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(server.requests) == 1
    assert target.read_bytes() == BODY
    assert left(target) == {"file.pt"}


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_killed_process_leaves_what_the_next_continues(server: FileServer, target: Path) -> None:
    server.pause = 0.2
    process = start(server, target)
    part = target.parent / PART
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert not target.exists()
    server.pause = 0.0
    fetch(server.url, target, sha256=HASH, progress=False)
    assert target.read_bytes() == BODY
    first, second = ranges(server)
    assert (first, bool(second)) == (None, True)
