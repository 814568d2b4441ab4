"""A server on loopback that speaks the Hugging Face hub's protocol, well or badly.

What huggingface_hub asks for: info, refs, create, preupload, the batch and verify calls of
git's large-file storage (LFS), commits as lines of JSON, tags, and downloads that redirect to
another host. Repositories are commits in a row: each is a mapping of names to contents.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from support.loopback import Json, Service

TOKEN, SECRET_QUERY = "hf_writer0123456789", "X-Amz-Signature=s3cr3tsignature"
LARGE = (".pt", ".safetensors")  # what goes to the large-file storage


class Entry(NamedTuple):
    """A file of a commit: its contents, or the hash and size of its large object."""

    data: bytes
    oid: str | None = None
    size: int = 0


@dataclass
class Repo:
    """`commits` by name, in order; `main` and the tags name some of them."""

    commits: dict[str, dict[str, Entry]] = field(default_factory=dict)
    main: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, Entry]) -> str:
        name = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[name] = files
        self.main = name
        return name

    def find(self, revision: str) -> str | None:
        name = self.tags.get(revision, self.main if revision == "main" else revision)
        return name if name in self.commits else None


@dataclass
class HubServer(Service):
    """All repositories, large objects, and all requests."""

    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    agents: set[str] = field(default_factory=set)

    def add(self, name: str = "owner/repo", **files: bytes) -> Repo:
        """A repository that is there already; dots in names are written as ``__``."""
        repo = self.repos[name] = Repo()
        entries = {key.replace("__", "."): Entry(data) for key, data in files.items()}
        repo.commit({".gitattributes": Entry(b"*.pt filter=lfs\n")} | entries)
        return repo

    def contents(self, repo: Repo, commit: str) -> dict[str, bytes]:
        """Return the files that a download of that commit gives."""
        return {
            name: self.objects[entry.oid] if entry.oid else entry.data
            for name, entry in repo.commits[commit].items()
            if name != ".gitattributes"
        }


@contextmanager
def serve() -> Iterator[HubServer]:
    """Runs one, and the other host, until the block is left."""
    state = HubServer()
    with state.running(_Api, _Elsewhere):
        yield state


class _Handler(Json, BaseHTTPRequestHandler):
    state: HubServer

    def refuse(self, status: int, message: str, code: str = "") -> None:
        headers = {"X_Error_Message": message} | ({"X_Error_Code": code} if code else {})
        self.answer(status, {"error": message}, **headers)

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def begin(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.fault = self.state.note(self.command, path)
        return path


class _Elsewhere(_Handler):
    """The host that stores large objects. It gets the signed address only."""

    def do_PUT(self) -> None:
        path = self.begin()
        self.state.elsewhere_headers.append(dict(self.headers))
        size = int(self.headers["Content-Length"])
        if self.fault == "cut":
            self.rfile.read(size // 2)
            return
        data = self.rfile.read(size)
        if self.fault == "500":
            self.refuse(500, "Internal Error")
            return
        if self.fault == "corrupt":
            data = bytes([data[0] ^ 1]) + data[1:]
        self.state.objects[path.rpartition("/")[2]] = data
        self.answer(200)

    def do_GET(self) -> None:
        path = self.begin()
        self.state.elsewhere_headers.append(dict(self.headers))
        if self.fault == "500":
            self.refuse(500, "Internal Error")
        else:
            self.answer_stored(self.state.objects[path.rpartition("/")[2]])


class _Api(_Handler):
    def do_GET(self) -> None:
        self.route()

    def do_POST(self) -> None:
        self.route()

    def route(self) -> None:
        path = self.begin()
        self.state.agents.add(self.headers.get("User-Agent", ""))
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.fault == "cut":
            return
        if self.fault == "500":
            self.refuse(500, "Internal Error")
        elif self.fault == "403":
            self.refuse(403, "You don't have the rights")
        elif self.fault == "echo":
            self.refuse(400, f"I don't like {self.headers.get('Authorization')}")
        elif self.fault == "nonsense":
            self.answer(200, "what?")
        elif self.token and self.token not in self.state.tokens:
            self.refuse(401, "Invalid credentials in Authorization header")
        else:
            self.dispatch(path)

    def dispatch(self, path: str) -> None:
        verb = self.command
        if (verb, path) == ("POST", "/api/repos/create"):
            self.create()
            return
        if (verb, path) == ("POST", "/api/validate-yaml"):
            self.answer(200, {"errors": [], "warnings": []})
            return
        for wanted, pattern, method in ROUTES:
            match = re.fullmatch(pattern, path)
            if wanted == verb and match:
                repo = self.state.repos.get(match[1])
                if repo is None and not self.token:
                    self.refuse(401, "Invalid username or password.")
                elif repo is None:
                    self.refuse(404, "Repository not found", "RepoNotFound")
                elif verb == "POST" and not self.token:
                    self.refuse(401, "Invalid username or password.")
                else:
                    getattr(self, method)(repo, *match.groups()[1:])
                return
        self.refuse(404, "Not Found")

    def create(self) -> None:
        sent = json.loads(self.read())
        name = f"{sent['organization']}/{sent['name']}"
        url = f"{self.state.url}/{name}"
        if name in self.state.repos:  # the hub says where, too
            self.answer(409, {"error": "You already created this model repo", "url": url})
        else:
            self.state.add(name)
            self.answer(200, {"url": url, "id": "1", "name": name})

    def find(self, repo: Repo, revision: str) -> str | None:
        commit = repo.find(revision)
        if commit is None:
            self.refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def info(self, repo: Repo, revision: str) -> None:
        commit = self.find(repo, revision)
        if commit is None:
            return
        files = []
        for name, (data, oid, size) in repo.commits[commit].items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            row = {"rfilename": name, "blobId": blob, "size": size if oid else len(data)}
            if oid:
                row["lfs"] = {"sha256": oid, "size": size, "pointerSize": 130}
            files.append(row)
        self.answer(200, {"id": "owner/repo", "sha": commit, "siblings": files})

    def refs(self, repo: Repo) -> None:
        def row(kind: str, name: str, commit: str) -> dict[str, str]:
            return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}

        tags = [row("tags", name, commit) for name, commit in repo.tags.items()]
        branches = [row("heads", "main", repo.main)]
        self.answer(200, {"branches": branches, "tags": tags, "converts": []})

    def preupload(self, repo: Repo, _revision: str) -> None:
        files = json.loads(self.read())["files"]
        rows = []
        for file in files:
            mode = "lfs" if file["path"].endswith(LARGE) else "regular"
            row = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            entry = repo.commits[repo.main].get(file["path"])
            if entry:
                data = entry.data
                row["oid"] = entry.oid or hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            rows.append(row)
        self.answer(200, {"files": rows})

    def batch(self, _repo: Repo) -> None:
        sent = json.loads(self.read())
        assert "xet" not in sent["transfers"]
        objects = []
        for wanted in sent["objects"]:
            row = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.state.objects:
                to = f"{self.state.elsewhere}/{wanted['oid']}?{SECRET_QUERY}"
                verify = f"{self.state.url}/owner/repo.git/info/lfs/objects/verify"
                row["actions"] = {"upload": {"href": to}, "verify": {"href": verify}}
            objects.append(row)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def verify(self, _repo: Repo) -> None:
        sent = json.loads(self.read())
        data = self.state.objects.get(sent["oid"], b"")
        good = len(data) == sent["size"]
        if self.fault != "blind":
            good = good and hashlib.sha256(data).hexdigest() == sent["oid"]
        if good:
            self.answer(200, {})
        else:
            self.state.objects.pop(sent["oid"], None)
            self.refuse(422, "Object doesn't match its hash")

    def commit(self, repo: Repo, revision: str) -> None:
        assert revision == "main"
        lines = [json.loads(line) for line in self.read().splitlines()]
        assert lines[0]["key"] == "header"
        if lines[0]["value"].get("parentCommit", repo.main) != repo.main:
            self.refuse(412, "A commit has happened since")
            return
        files = dict(repo.commits[repo.main])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = Entry(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                assert value["oid"] in self.state.objects
                files[value["path"]] = Entry(b"pointer", value["oid"], value["size"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        if self.fault == "lose":
            files.pop("pnet.md", None)
        oid = repo.commit(files)
        self.answer(200, {"commitUrl": f"{self.state.url}/c/{oid}", "commitOid": oid})

    def tag(self, repo: Repo, revision: str) -> None:
        sent = json.loads(self.read())
        commit = self.find(repo, revision)
        if commit is None:
            return
        if sent["tag"] in repo.tags:
            self.refuse(409, "Tag reference exists already")
            return
        repo.tags[sent["tag"]] = commit
        self.answer(200, {})

    def resolve(self, repo: Repo, revision: str, name: str) -> None:
        commit = self.find(repo, revision)
        if commit is None:
            return
        entry = repo.commits[commit].get(name)
        if entry is None:
            self.refuse(404, "Entry not found", "EntryNotFound")
        elif entry.oid:
            where = f"{self.state.elsewhere}/{entry.oid}?{SECRET_QUERY}"
            self.answer(302, Location=where)
        else:
            self.answer_stored(entry.data)


_REPO = "([^/]+/[^/]+)"
ROUTES = (
    ("GET", f"/api/models/{_REPO}/revision/(.+)", "info"),
    ("GET", f"/api/models/{_REPO}/refs", "refs"),
    ("POST", f"/api/models/{_REPO}/preupload/(.+)", "preupload"),
    ("POST", f"/api/models/{_REPO}/commit/(.+)", "commit"),
    ("POST", f"/api/models/{_REPO}/tag/(.+)", "tag"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", "batch"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/verify", "verify"),
    ("GET", f"/{_REPO}/resolve/([0-9a-f]+|main)/(.+)", "resolve"),
)
