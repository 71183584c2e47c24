"""A stand-in of the hub's HTTP API on this machine, and a run to hand on."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

WRITER, READER = "hf_writer", "hf_reader"


class StandIn:
    """What the hub keeps: repositories with branches and commits, and what was asked of it.

    Attributes:
        repos: ORG/NAME -> {"private": bool, "refs": branch -> commit, "commits": commit -> path -> content}.
        asked: "METHOD path" of every request.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.address = ""

    def add_commit(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        repo = self.repos.setdefault(name, {"private": False, "refs": {}, "commits": {}})
        known = {**repo["commits"].get(repo["refs"].get(branch, ""), {}), **files}
        commit = hashlib.sha1(repr((sorted(known.items()), len(repo["commits"]))).encode()).hexdigest()
        repo["commits"][commit], repo["refs"][branch] = known, commit
        return commit


class Handler(BaseHTTPRequestHandler):
    hub: StandIn

    def log_message(self, *_: object) -> None:
        return

    def answer(self, status: int, body: object = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def begin(self) -> bytes:
        self.hub.asked.append(f"{self.command} {self.path}")
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # --- writing

    def do_POST(self) -> None:
        body = self.begin()
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if self.token not in (WRITER, READER):
            return self.answer(401, {"error": "Invalid username or password."})
        if self.token == READER:
            return self.answer(403, {"error": "You don't have the rights to create a model under this namespace"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            url = f"{self.hub.address}/{name}"
            if name in self.hub.repos:
                return self.answer(409, {"error": "You already created this model repo", "url": url})
            self.hub.add_commit(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
            self.hub.repos[name]["private"] = asked.get("private") or asked.get("visibility") == "private"
            return self.answer(200, {"url": url})
        if self.path.endswith("/info/lfs/objects/batch"):
            return self.answer(200, self.lfs_batch(json.loads(body)))
        name, what, branch = self.split()
        if what == "preupload":
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if what == "branch":
            repo = self.hub.repos[name]
            repo["refs"][branch] = repo["refs"]["main"]
            return self.answer(200, {})
        if what == "commit":
            commit = self.hub.add_commit(name, self.read_commit(body), branch)
            url = f"{self.hub.address}/{name}/commit/{commit}"
            return self.answer(200, {"commitUrl": url, "commitOid": commit, "success": True})
        return self.answer(404, {"error": "unknown"})

    def do_PUT(self) -> None:
        body = self.begin()
        self.hub.blobs[hashlib.sha256(body).hexdigest()] = body
        self.answer(200)

    def lfs_batch(self, asked: dict) -> dict:
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{o['oid']}", "header": {}}}}
            for o in asked["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def read_commit(self, body: bytes) -> dict[str, bytes]:
        files = {}
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = self.hub.blobs[entry["value"]["oid"]]
        return files

    # --- reading

    def do_GET(self) -> None:
        self.begin()
        if self.path.startswith("/api/models/"):
            name, what, revision = self.split()
        else:
            org, repo_name, what, revision, *rest = self.path.strip("/").split("/")
            name = f"{org}/{repo_name}"
        repo = self.hub.repos.get(name)
        if repo is None or (repo["private"] and self.token not in (WRITER, READER)):
            return self.answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        commit = repo["refs"].get(revision, revision)
        if commit not in repo["commits"]:
            return self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        files = repo["commits"][commit]
        if what == "resolve":
            content = files["/".join(rest)]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(200, content, ETag=etag, X_Repo_Commit=commit)
        if what == "tree":
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self.answer(200, listed)
        siblings = [{"rfilename": path} for path in files]
        return self.answer(200, {"id": name, "sha": commit, "siblings": siblings, "private": repo["private"]})

    def do_HEAD(self) -> None:
        self.do_GET()

    def split(self) -> tuple[str, str, str]:
        """/api/models/ORG/NAME/WHAT/REVISION, the last two perhaps left out."""
        path = self.path.partition("?")[0].removeprefix("/api/models/")
        org, name, *rest = path.split("/")
        what, revision = (*rest, "info", "main")[:2] if len(rest) != 1 else (rest[0], "main")
        return f"{org}/{name}", what, revision


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[StandIn]:
    """The stand-in, in place of huggingface.co; nobody is logged in, and nothing was fetched before."""
    from huggingface_hub import constants

    stand_in = StandIn()
    handler = type("BoundHandler", (Handler,), {"hub": stand_in})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    stand_in.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", stand_in.address)
    files = f"{stand_in.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose store is another service
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.chdir(tmp_path)
    yield stand_in
    server.shutdown()
    server.server_close()


@pytest.fixture
def logged_in(hub, monkeypatch) -> StandIn:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    return hub


@pytest.fixture
def run_folder(tiny_ablation) -> Path:
    return tiny_ablation / "fused"
