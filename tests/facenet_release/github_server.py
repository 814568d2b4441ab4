"""A server on loopback that speaks GitHub's REST API for releases, well or badly.

After https://docs.github.com/rest/releases: drafts are seen by writers only and are found by
lists, not by tags; assets come in pages with a ``Link`` header; names are made safe; an
broken upload leaves an asset in the state "starter"; a download redirects to another host.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.loopback import Json, Service

API, UPLOADS = "/api/v3", "/api/uploads"  # as GitHub Enterprise Server has them
WRITER, READER, SECRET_QUERY = "ghp_writer0123456789", "ghp_reader0123456789", "sig=s3cr3tsignature"


@dataclass
class Asset:
    """What is stored. `data` may have gone bad since `digest` was sent."""

    id: int
    name: str
    data: bytes
    state: str = "uploaded"


@dataclass
class Release:
    """A release; `draft` until it is published."""

    id: int
    tag: str
    name: str
    body: str
    draft: bool
    assets: list[Asset] = field(default_factory=list)


@dataclass
class GitHubServer(Service):
    """The repository ``owner/repo`` and all requests."""

    releases: list[Release] = field(default_factory=list)
    digests: bool = True
    page: int = 2  # never more than this on a page, so that small tests have pages
    tokens: set[str] = field(default_factory=lambda: {WRITER, READER})
    last_id: int = 0
    uploads_at: str = ""  # where answers say that uploads go; "" is here

    def new_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def add(self, tag: str, body: str = "", draft: bool = False, **assets: bytes) -> Release:
        """A release that is there already; dots in assets' names are written as ``__``."""
        release = Release(self.new_id(), tag, tag, body, draft)
        for name, data in assets.items():
            release.assets.append(Asset(self.new_id(), name.replace("__", "."), data))
        self.releases.append(release)
        return release

    def public(self) -> list[Release]:
        return [release for release in self.releases if not release.draft]


@contextmanager
def serve() -> Iterator[GitHubServer]:
    """Runs one, and the other host, until the block is left."""
    state = GitHubServer()
    with state.running(_Api, _Elsewhere):
        state.url += API
        yield state


class _Handler(Json, BaseHTTPRequestHandler):
    state: GitHubServer

    def refuse(self, status: int, message: str, *codes: str, **headers: str) -> None:
        errors = {"errors": [{"resource": "R", "code": c, "field": "name"} for c in codes]}
        sent = {"message": message, "documentation_url": "https://docs.github.com/rest"}
        self.answer(status, sent | (errors if codes else {}), **headers)


class _Elsewhere(_Handler):
    """The host that stores the bytes. It gets the signed address only."""

    def do_POST(self) -> None:
        self.state.elsewhere_headers.append(dict(self.headers))

    def do_GET(self) -> None:
        state = self.state
        state.elsewhere_headers.append(dict(self.headers))
        parts = urlsplit(self.path)
        assert parts.query == SECRET_QUERY
        number = int(parts.path.rpartition("/")[2])
        asset = next(a for r in state.releases for a in r.assets if a.id == number)
        self.fault = state.fault("GET", "elsewhere")
        self.answer_stored(asset.data + (b"!" if self.fault == "longer" else b""))


class _Api(_Handler):
    def do_GET(self) -> None:
        self.route()

    def do_POST(self) -> None:
        self.route()

    def do_PATCH(self) -> None:
        self.route()

    def do_DELETE(self) -> None:
        self.route()

    def route(self) -> None:
        state, path = self.state, urlsplit(self.path).path
        self.query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        scheme, _, self.token = self.headers.get("Authorization", "").partition(" ")
        self.fault = state.note(self.command, path)
        if self.fault == "cut":
            return
        if self.fault == "500":
            self.refuse(500, "Server Error")
        elif self.fault == "limit":
            self.refuse(403, "API rate limit exceeded for user", retry_after="0")
        elif self.fault == "long-limit":
            self.refuse(429, "You have exceeded a secondary rate limit", retry_after="900")
        elif self.fault == "redirect":
            self.answer(307, Location=f"{state.elsewhere}/1?{SECRET_QUERY}")
        elif self.fault == "echo":
            self.refuse(400, f"I don't like {self.headers.get('Authorization')}")
        elif self.fault == "nonsense":
            self.answer(200, ["what?"])
        elif self.token and (scheme not in ("token", "Bearer") or self.token not in state.tokens):
            self.refuse(401, "Bad credentials")
        else:
            self.dispatch(path)

    def dispatch(self, path: str) -> None:
        for wanted, pattern, method, writes in ROUTES:
            match = re.fullmatch(pattern, path)
            if wanted == self.command and match:
                if writes and self.token == READER:
                    self.refuse(403, "Resource not accessible by personal access token")
                elif writes and self.token != WRITER:
                    self.refuse(404, "Not Found")
                else:
                    getattr(self, method)(*match.groups())
                return
        self.refuse(404, "Not Found")

    def body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def find(self, number: str) -> Release | None:
        wanted = (r for r in self.state.releases if r.id == int(number))
        release = next((r for r in wanted if not r.draft or self.token == WRITER), None)
        if release is None:
            self.refuse(404, "Not Found")
        return release

    def paged(self, rows: list[Any]) -> None:
        size = min(int(self.query.get("per_page", 30)), self.state.page)
        page = int(self.query.get("page", 1))
        headers = {}
        if page * size < len(rows):
            path = urlsplit(self.path).path
            url = f"{self.state.url.removesuffix(API)}{path}?per_page={size}&page={page + 1}"
            headers["Link"] = f'<{url}>; rel="next", <{url}>; rel="last"'
        self.answer(200, rows[(page - 1) * size : page * size], **headers)

    def release_row(self, release: Release) -> dict[str, Any]:
        base = self.state.url.removesuffix(API)
        tail = f"/repos/owner/repo/releases/{release.id}"
        return {
            "url": base + API + tail,
            "upload_url": f"{self.state.uploads_at or base + UPLOADS}{tail}/assets{{?name,label}}",
            "id": release.id,
            "tag_name": release.tag,
            "name": release.name,
            "body": release.body,
            "draft": release.draft,
            "prerelease": False,
            "assets": [self.asset_row(asset) for asset in release.assets[: self.state.page]],
        }

    def asset_row(self, asset: Asset) -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(asset.data).hexdigest()
        return {
            "url": f"{self.state.url}/repos/owner/repo/releases/assets/{asset.id}",
            "id": asset.id,
            "name": asset.name,
            "label": "",
            "state": asset.state,
            "size": len(asset.data),
            "digest": digest if self.state.digests and asset.state == "uploaded" else None,
        }

    def list_releases(self) -> None:
        seen = [r for r in self.state.releases if not r.draft or self.token == WRITER]
        self.paged([self.release_row(release) for release in reversed(seen)])

    def get_release(self, number: str) -> None:
        release = self.find(number)
        if release:
            self.answer(200, self.release_row(release))

    def get_by_tag(self, tag: str) -> None:
        found = [r for r in self.state.public() if r.tag == tag.replace("%2F", "/")]
        if found:
            self.answer(200, self.release_row(found[0]))
        else:
            self.refuse(404, "Not Found")

    def create(self) -> None:
        sent = self.body()
        assert sent["draft"] is True
        release = self.state.add(sent["tag_name"], sent["body"], draft=True)
        release.name = sent["name"]
        self.answer(201, self.release_row(release))

    def update(self, number: str) -> None:
        release, sent = self.find(number), self.body()
        if release is None:
            return
        if not sent["draft"] and any(
            r.tag == sent["tag_name"] and r is not release for r in self.state.public()
        ):
            self.refuse(422, "Validation Failed", "already_exists")
            return
        release.draft, release.name, release.body = sent["draft"], sent["name"], sent["body"]
        self.answer(200, self.release_row(release))

    def delete(self, number: str) -> None:
        release = self.find(number)
        if release:
            assert release.draft, "a published release was deleted"
            self.state.releases.remove(release)
            self.answer(204)

    def list_assets(self, number: str) -> None:
        release = self.find(number)
        if release:
            self.paged([self.asset_row(asset) for asset in release.assets])

    def get_asset(self, number: str) -> None:
        for release in self.state.releases:
            for asset in release.assets:
                if asset.id == int(number) and (not release.draft or self.token == WRITER):
                    if self.headers["Accept"] == "application/octet-stream":
                        where = f"{self.state.elsewhere}/{asset.id}?{SECRET_QUERY}"
                        self.answer(302, Location=where)
                    else:
                        self.answer(200, self.asset_row(asset))
                    return
        self.refuse(404, "Not Found")

    def delete_asset(self, number: str) -> None:
        for release in self.state.releases:
            for asset in release.assets:
                if asset.id == int(number):
                    assert release.draft, "a published asset was deleted"
                    release.assets.remove(asset)
                    self.answer(204)
                    return
        self.refuse(404, "Not Found")

    def upload(self, number: str) -> None:
        release = self.find(number)
        if release is None:
            return
        assert release.draft, "a published release was added to"
        assert self.headers["Content-Type"] == "application/octet-stream"
        name = re.sub(r"[^A-Za-z0-9._-]", ".", self.query["name"])
        if any(asset.name == name for asset in release.assets):
            self.refuse(422, "Validation Failed", "already_exists")
            return
        asset = Asset(self.state.new_id(), name, b"", "starter")
        release.assets.append(asset)
        size = int(self.headers["Content-Length"])
        if self.fault == "cut-upload":
            self.rfile.read(size // 2)
            return
        data = self.rfile.read(size)
        if self.fault == "starter":
            self.refuse(502, "Bad Gateway")
            return
        if self.fault == "corrupt":
            data = bytes([data[0] ^ 1]) + data[1:]
        if self.fault == "rename":
            asset.name = "renamed"
        asset.data, asset.state = data, "uploaded"
        self.answer(201, self.asset_row(asset))


_REPO = "/repos/owner/repo"
# Verb, path, method, and whether it needs the right to write.
ROUTES = (
    ("GET", f"{API}{_REPO}/releases", "list_releases", False),
    ("GET", f"{API}{_REPO}/releases/tags/([^/]+)", "get_by_tag", False),
    ("GET", rf"{API}{_REPO}/releases/(\d+)", "get_release", False),
    ("GET", rf"{API}{_REPO}/releases/(\d+)/assets", "list_assets", False),
    ("GET", rf"{API}{_REPO}/releases/assets/(\d+)", "get_asset", False),
    ("POST", f"{API}{_REPO}/releases", "create", True),
    ("PATCH", rf"{API}{_REPO}/releases/(\d+)", "update", True),
    ("DELETE", rf"{API}{_REPO}/releases/(\d+)", "delete", True),
    ("DELETE", rf"{API}{_REPO}/releases/assets/(\d+)", "delete_asset", True),
    ("POST", rf"{UPLOADS}{_REPO}/releases/(\d+)/assets", "upload", True),
)
