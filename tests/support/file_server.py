"""An HTTP server on loopback that serves one file, well or badly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

from support.loopback import Quiet, serving

PAGE = b"\n<!DOCTYPE html><html><title>Sign in</title></html>"


class Request(NamedTuple):
    """A request of a client."""

    path: str
    range: str | None
    if_range: str | None


class FileServer:
    """`body` under every path; `faults` are used up, one a request, then all goes well.

    `ranges`: partial answers are given. `validate`: ``If-Range`` is honoured. `pause`: seconds
    between pieces.
    """

    def __init__(self, body: bytes, address: str) -> None:
        self.body = body
        self.url = f"{address}/some/file.pt"
        self.etag: str | None = '"v1"'
        self.ranges = True
        self.validate = True
        self.pause = 0.0
        self.faults: list[str] = []
        self.requests: list[Request] = []


@contextmanager
def serve(body: bytes) -> Iterator[FileServer]:
    """Runs one until the block is left."""

    class Handler(_Handler):
        pass

    with serving(Handler) as address:
        Handler.state = FileServer(body, address)
        yield Handler.state


class _Handler(Quiet, BaseHTTPRequestHandler):
    state: FileServer

    def do_GET(self) -> None:
        state, wanted = self.state, self.headers.get("Range")
        state.requests.append(Request(self.path, wanted, self.headers.get("If-Range")))
        fault = state.faults.pop(0) if state.faults else ""
        answer = getattr(self, "answer_" + fault.replace("-", "_"), None)
        if answer is not None:
            answer()
        else:
            self.answer(fault, wanted)

    def answer(self, fault: str, wanted: str | None) -> None:
        """The file, or from where the client wants it."""
        state, body, start = self.state, self.state.body, 0
        fresh = not state.validate or self.headers.get("If-Range") in (None, state.etag)
        if wanted and state.ranges and fresh:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
        if fault == "wrong-bytes":
            body = bytes(len(body))
        rest = body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        if start:
            first = start + 1 if fault == "wrong-range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if state.etag:
            self.send_header("ETag", state.etag)
        if fault != "no-length":
            understated = len(rest) // 2 if fault == "length-too-small" else len(rest)
            self.send_header("Content-Length", str(understated))
        self.end_headers()
        half = rest[: len(rest) // 2]
        self.send_body({"cut": half, "stall": half, "cut-at-once": b""}.get(fault, rest))
        if fault == "stall":
            self.rfile.read(1)  # until the client leaves

    def send_body(self, body: bytes, piece: int = 16384) -> None:
        try:
            for i in range(0, len(body), piece):
                self.wfile.write(body[i : i + piece])
                time.sleep(self.state.pause)
        except OSError:  # the client has left
            pass

    def answer_503(self) -> None:
        self.send_error(503, "Service Unavailable")

    def answer_busy_for_a_second(self) -> None:
        self.busy("1")

    def answer_busy_for_an_hour(self) -> None:
        self.busy("3600")

    def busy(self, wait: str) -> None:
        self.send_response(429)
        self.send_header("Retry-After", wait)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer_404(self) -> None:
        self.send_error(404)

    def answer_page(self) -> None:
        self.send(PAGE, "text/html; charset=utf-8")

    def answer_page_as_bytes(self) -> None:
        self.send(PAGE, "application/octet-stream")

    def answer_empty(self) -> None:
        self.send(b"", "application/octet-stream")

    def answer_gzip(self) -> None:
        self.send(b"\x1f\x8b", "application/octet-stream", ("Content-Encoding", "gzip"))

    def answer_redirect_nowhere(self) -> None:
        self.redirect("http://127.0.0.1:9/nobody")  # the port "discard": nobody listens

    def answer_redirect_loop(self) -> None:
        self.state.faults.append("redirect-loop")
        self.redirect(self.path)

    def answer_redirect(self) -> None:
        self.redirect("/elsewhere/file.pt")

    def redirect(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, body: bytes, kind: str, *headers: tuple[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.send_body(body)
