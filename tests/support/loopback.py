"""HTTP servers on loopback: one for the length of a block, quiet ones, ones that fail on demand."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answers with `handler` until the block is left; gives the address, without a slash."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Quiet:
    """A handler that says nothing on the terminal."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Files(Quiet, SimpleHTTPRequestHandler):
    """Serves a folder."""


class Json(Quiet, BaseHTTPRequestHandler):
    """Answers with JSON, unless `fault` is "cut-after": the connection is cut instead."""

    fault = ""  # the kind of what goes wrong with this request

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        """`body` None is none; underscores in the names of `headers` are dashes."""
        if self.fault == "cut-after":
            return
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def answer_stored(self, data: bytes) -> None:
        """Stored bytes; "cut": half of them, "understated": half of the length, "endless"."""
        if self.fault == "cut-after":
            return
        self.send_response(200)
        if self.fault != "endless":
            length = len(data) // 2 if self.fault == "understated" else len(data)
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if self.fault == "cut" else data)
        with suppress(OSError):  # the client has had enough
            while self.fault == "endless":
                self.wfile.write(bytes(65536))


@dataclass
class Fault:
    """Do `act` at the next requests that match, after `skip` more, and fail as it says."""

    verb: str
    path: str
    kind: str
    times: int = 1
    skip: int = 0
    act: Callable[[], object] = lambda: None


@dataclass
class Service:
    """A service of two hosts: `url`, and `elsewhere`, which stores the bytes."""

    url: str = ""
    elsewhere: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    elsewhere_headers: list[dict[str, str]] = field(default_factory=list)

    def fail(self, verb: str, path: str, kind: str, times: int = 1, skip: int = 0) -> Fault:
        fault = Fault(verb, path, kind, times, skip)
        self.faults.append(fault)
        return fault

    def when(self, verb: str, path: str, act: Callable[[], object], skip: int = 0) -> None:
        """Have `act` done once, just before such a request, which goes well."""
        self.faults.append(Fault(verb, path, "", skip=skip, act=act))

    def note(self, verb: str, path: str) -> str:
        """Note a request, and give the kind of its fault."""
        self.requests.append((verb, path))
        return self.fault(verb, path)

    def fault(self, verb: str, path: str) -> str:
        """The kind of a fault that is for this request, which uses it up; "" where none is."""
        for fault in self.faults:
            if fault.times and fault.verb == verb and re.search(fault.path, path):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                fault.act()
                return fault.kind
        return ""

    def count(self, verb: str, path: str) -> int:
        """How many such requests came."""
        return sum(v == verb and bool(re.search(path, p)) for v, p in self.requests)

    @contextmanager
    def running(
        self, api: type[BaseHTTPRequestHandler], elsewhere: type[BaseHTTPRequestHandler]
    ) -> Iterator[None]:
        """Run both hosts for the length of a block; their handlers have this as `state`."""
        hosts = [type("Bound", (handler,), {"state": self}) for handler in (api, elsewhere)]
        with serving(hosts[0]) as self.url, serving(hosts[1]) as elsewhere:
            self.elsewhere = elsewhere.replace("127.0.0.1", "localhost")  # another name, too
            yield
