"""Requests to a server with encryption: a real one on loopback, whose certificate is made here."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path

import pytest

pytest.importorskip("requests", reason="requests need requests")
pytest.importorskip("cryptography", reason="makes the certificate")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.file_server import FileServer, serve
from support.loopback import Quiet, serving

from facenet_common.errors import DownloadError
from facenet_models.weights import http
from facenet_models.weights.download import read


def certificate(folder: Path) -> Path:
    """A key, and its certificate for this machine, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The certificate, which requests trusts."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(http, "BACKOFF", 0.0)
    file = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    return file


@pytest.fixture
def elsewhere() -> Iterator[FileServer]:
    """A server without encryption."""
    with serve(b"contents") as running:
        yield running


@pytest.fixture
def address(trusted: Path, elsewhere: FileServer) -> Iterator[str]:
    """A server with encryption; its ``/down`` redirects to `elsewhere`, ``/up`` to itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted)

    class Handler(Quiet, BaseHTTPRequestHandler):
        def setup(self) -> None:
            self.request = context.wrap_socket(
                self.request, server_side=True, do_handshake_on_connect=False
            )
            super().setup()

        def handle(self) -> None:
            with suppress(ssl.SSLError):  # the client does not accept the certificate
                super().handle()

        def finish(self) -> None:
            super().finish()
            self.request.close()

        def do_GET(self) -> None:
            targets = {"/down": elsewhere.url, "/up": "/file"}
            self.send_response(302 if self.path in targets else 200)
            if self.path in targets:
                self.send_header("Location", targets[self.path])
            data = b"" if self.path in targets else b"encrypted"
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as plain:
        yield plain.replace("http://", "https://")


def test_redirects_with_encryption_are_followed(address: str) -> None:
    assert read(http.Source(f"{address}/up", limit=20)) == b"encrypted"


def test_no_redirect_gives_up_encryption(address: str, elsewhere: FileServer) -> None:
    with pytest.raises(DownloadError, match="redirects to an address without encryption"):
        http.send("GET", f"{address}/down")
    assert elsewhere.requests == []


def test_a_certificate_of_nobody_known_is_not_accepted(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(DownloadError, match="certificate is not accepted") as caught:
        http.send("GET", f"{address}/file")
    assert "verify failed" in str(caught.value)


def test_netrc_is_not_for_hosts_of_redirects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(
        "machine 127.0.0.1 login me password first\nmachine localhost login me password second\n"
    )
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("NO_PROXY", "*")
    seen: dict[str, str | None] = {}

    class Elsewhere(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen["elsewhere"] = self.headers.get("Authorization")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Elsewhere) as address:
        other = address.replace("127.0.0.1", "localhost")

        class First(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen["first"] = self.headers.get("Authorization")
                self.send_response(302)
                self.send_header("Location", f"{other}/file.pt")
                self.send_header("Content-Length", "0")
                self.end_headers()

        with serving(First) as url:
            http.send("GET", f"{url}/file.pt").close()
    assert seen["first"] is not None
    assert seen["elsewhere"] is None
