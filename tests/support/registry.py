"""Debian's ``docker-registry``, the real server, on loopback; and what breaks it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from support.loopback import Quiet, serving

USER, PASSWORD = "me", "s3cret-pass"
# bcrypt of PASSWORD, at the cost of 2**5 rounds: crypt(3) has made it.
_HTPASSWD = f"{USER}:$2a$05$abcdefghijklmnopqrstuuV7fpPozvyqJfnY19y0802WTlXUm6Rjy\n"

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
http: {{addr: "127.0.0.1:{port}", secret: "of-these-tests"}}
"""
_AUTH = "auth: {{htpasswd: {{realm: tests, path: {file}}}}}\n"


class Registry:
    """A running one. `host` is its address, `storage` its folder."""

    def __init__(self, host: str, storage: Path) -> None:
        self.host, self.storage = host, storage

    def address(self, tag: str = "v1", name: str = "some/weights") -> str:
        return f"oci://{self.host}/{name}:{tag}"

    def blob(self, sha256: str) -> Path:
        """The file that holds a blob, a manifest's too."""
        blobs = self.storage / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return blobs / sha256[:2] / sha256 / "data"

    def alter(self, sha256: str) -> None:
        """Flip one bit in the middle of a blob."""
        file = self.blob(sha256)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)


def program() -> str:
    """Where the program is; the test is skipped where it isn't."""
    path = shutil.which("docker-registry")
    if path is None:
        pytest.skip("docker-registry is absent: apt-get install docker-registry")
    return path


@contextmanager
def serve(folder: Path, *, password: bool = False) -> Iterator[Registry]:
    """Runs one until the block is left. With `password`, only USER may do anything.

    In a folder that one has run in before, the new one has what was published there.
    """
    binary, storage = program(), folder / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    config = _CONFIG.format(storage=storage, port=port)
    if password:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config += _AUTH.format(file=folder / "htpasswd")
    (folder / "config.yml").write_text(config)
    log = folder / "log.txt"
    with log.open("wb") as opened, ExitStack() as stack:
        process = subprocess.Popen(
            [binary, "serve", str(folder / "config.yml")],
            stdout=opened,
            stderr=opened,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        _await(f"http://127.0.0.1:{port}/", process, log)
        yield Registry(f"127.0.0.1:{port}", storage)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    direct = build_opener(ProxyHandler({}))
    for _ in range(600):
        try:
            with direct.open(url):
                return
        except OSError:  # it doesn't listen yet
            if process.poll() is not None:
                break
            time.sleep(0.05)
    pytest.fail(f"docker-registry did not start:\n{log.read_text(errors='replace')}")


def push(registry: Registry, files: Mapping[str, bytes], tag: str = "v1") -> str:
    """Write an artifact with any names and contents, by the plain protocol; return its address."""
    import requests

    from facenet_models.weights import oci

    base, kind = f"http://{registry.host}/v2/some/weights", "application/octet-stream"

    def send(data: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = requests.post(f"{base}/blobs/uploads/", timeout=60).headers["Location"]
        options = {"params": {"digest": digest}, "headers": {"Content-Type": kind}}
        requests.put(place, data, timeout=60, **options).raise_for_status()
        return {"mediaType": kind, "size": len(data), "digest": digest}

    layers = [send(d) | {"annotations": {oci.TITLE: name}} for name, d in files.items()]
    manifest = {"schemaVersion": 2, "mediaType": oci.MANIFEST_TYPE, "layers": layers}
    data = json.dumps(manifest | {"config": send(b"{}")})
    headers = {"Content-Type": oci.MANIFEST_TYPE}
    requests.put(f"{base}/manifests/{tag}", data, headers=headers, timeout=60).raise_for_status()
    return registry.address(tag)


class Gate:
    """A registry that only reads, and wants a token of whoever asks: what public ones do.

    `files` are its paths. `realm` is what it says of where tokens are; `authorizations` what it
    was shown, path by path. Blobs are at `elsewhere`, if that is set.
    """

    def __init__(self, address: str) -> None:
        self.host = address.removeprefix("http://")
        self.realm = f"{address}/token"
        self.token: object = "t0ken-of-the-gate"
        self.elsewhere: str | None = None
        self.files: dict[str, bytes] = {}
        self.authorizations: list[tuple[str, str | None]] = []


@contextmanager
def gate() -> Iterator[Gate]:
    """Runs a `Gate` until the block is left."""

    class Handler(_GateHandler):
        pass

    with serving(Handler) as address:
        Handler.state = Gate(address)
        yield Handler.state


class _GateHandler(Quiet, BaseHTTPRequestHandler):
    state: Gate

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        state, shown = self.state, self.headers.get("Authorization")
        state.authorizations.append((self.path, shown))
        if self.path.startswith("/token?"):
            self.send(200, json.dumps({"token": state.token}).encode())
        elif self.path.startswith("/v2/") and shown != f"Bearer {state.token}":
            scope = "repository:some/weights:pull"
            self.send(
                401,
                b'{"errors": [{"code": "UNAUTHORIZED"}]}',
                ("WWW-Authenticate", f'Bearer realm="{state.realm}",service="s",scope="{scope}"'),
            )
        elif "/blobs/" in self.path and state.elsewhere:
            self.send(307, b"", ("Location", state.elsewhere + self.path))
        elif self.path in state.files:
            self.send(200, state.files[self.path])
        else:
            self.send(404, b"{}")

    def send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class Cutter:
    """A proxy before a server. It cuts each connection after `limit` bytes from the client."""

    def __init__(self, host: str, target: str) -> None:
        self.host, self.target = host, target
        self.limit: int | None = None
        self.sent = 0  # bytes from clients


@contextmanager
def cutting(target: str) -> Iterator[Cutter]:
    """A `Cutter` before the server at `target`, host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        cutter = Cutter(f"127.0.0.1:{listening.getsockname()[1]}", target)
        listening.settimeout(0.05)
        done = threading.Event()
        threads: list[threading.Thread] = []

        def accept() -> None:
            while not done.is_set():
                try:
                    client, _ = listening.accept()
                except TimeoutError:
                    continue
                worker = threading.Thread(target=_relay, args=(cutter, client))
                worker.start()
                threads.append(worker)

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield cutter
        finally:
            done.set()
            for thread in (acceptor, *threads):
                thread.join()


def _relay(cutter: Cutter, client: socket.socket) -> None:
    host, _, port = cutter.target.rpartition(":")
    with client, socket.create_connection((host, int(port))) as server:
        back = threading.Thread(target=_pump, args=(server, client))
        back.start()
        left = cutter.limit
        while left is None or left > 0:
            try:
                data = client.recv(4096 if left is None else min(left, 4096))
                if not data:
                    break
                server.sendall(data)
            except OSError:  # an end has hung up
                break
            cutter.sent += len(data)
            left = None if left is None else left - len(data)
        for end in (client, server):
            _shut(end)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # an end has hung up
        while data := source.recv(65536):
            target.sendall(data)
    _shut(target)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        end.shutdown(socket.SHUT_RDWR)
