"""A hub on the loopback that answers as the real one does to ``huggingface_hub``: the tree listing, ``resolve`` with
its redirects (large files to another host, small ones to a cached path), and the error codes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from forked import forked

REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".parquet", ".bin")


@dataclass
class Hub:
    """Repositories by API path ("models/owner/name", "datasets/owner/name"), each a mapping from path to bytes."""

    repositories: dict[str, dict[str, bytes]]
    faults: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""
    cdn: str = ""


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if path.startswith("/cdn/"):
            self.content(path)
        elif path.startswith("/api/resolve-cache/"):
            kind, owner, name, _, *file = path.removeprefix("/api/resolve-cache/").split("/")
            self.small_file(self.hub.repositories[f"{kind}/{owner}/{name}"]["/".join(file)])
        elif path.startswith("/api/"):
            self.tree(path.removeprefix("/api/"))
        elif "/resolve/" in path:
            self.resolve(path)
        else:
            self.send(200, b"<html></html>", {"Content-Type": "text/html"})

    def send(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, "Content-Type": "application/json"})

    def repository(self, key: str, revision: str) -> dict[str, bytes] | None:
        """The files, or None after an error was sent."""
        if key not in self.hub.repositories:
            self.refuse(401, "RepoNotFound")
        elif revision != REVISION:
            self.refuse(404, "RevisionNotFound")
        else:
            return self.hub.repositories[key]
        return None

    def tree(self, path: str) -> None:
        kind, owner, name, _, revision = path.split("/")
        files = self.repository(f"{kind}/{owner}/{name}", revision)
        if files is None:
            return
        listing = []
        for file, content in files.items():
            entry: dict[str, Any] = {"type": "file", "path": file, "size": len(content), "oid": _git_sha1(content)}
            if file.endswith(LARGE):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
            listing.append(entry)
        self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def resolve(self, path: str) -> None:
        key, _, rest = path.strip("/").partition("/resolve/")
        key = key if key.startswith("datasets/") else f"models/{key}"
        revision, _, file = rest.partition("/")
        files = self.repository(key, revision)
        if files is None:
            return
        if file not in files:
            return self.refuse(404, "EntryNotFound")
        if not file.endswith(LARGE):
            location = f"/api/resolve-cache/{key}/{revision}/{file}"
            return self.send(307, b"", {"Location": location, "X-Repo-Commit": REVISION})
        sha256 = hashlib.sha256(files[file]).hexdigest()
        headers = {
            "Location": f"{self.hub.cdn}/cdn/{key}/{file}?signature=x",
            "X-Repo-Commit": REVISION,
            "X-Linked-ETag": f'"{sha256}"',
            "X-Linked-Size": str(len(files[file])),
        }
        self.send(302, b"Found. Redirecting", headers)

    def small_file(self, content: bytes) -> None:
        self.send(200, content, {"ETag": f'"{_git_sha1(content)}"', "X-Repo-Commit": REVISION})

    def content(self, path: str) -> None:
        kind, owner, name, *file = path.removeprefix("/cdn/").split("/")
        content = self.hub.repositories[f"{kind}/{owner}/{name}"]["/".join(file)]
        fault = self.hub.faults.get("/".join(file))
        if fault == "other bytes":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "too short":
            content = content[: len(content) // 2]
        self.send(200, content, {"ETag": '"of-the-cdn"'})


class _HangingUp(_Handler):
    def answer(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        self.close_connection = True


@contextmanager
def hanging_up():
    """A server that hangs up on whoever asks; yields the Hub, whose ``asked`` says who did."""
    with serving({}, _HangingUp) as hub:
        yield hub


@contextmanager
def serving(repositories: dict[str, dict[str, bytes]], handler: type[_Handler] = _Handler):
    """Serve repositories; yields the Hub, whose ``faults`` may be set while it runs."""
    hub = Hub(repositories)
    handler = type("Handler", (handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.endpoint, hub.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def fetch(arguments: list[str]) -> int:
    """Fetch or encode what params.yaml asks for; print the folder written, or the refusal, in a line at the end."""
    from internal_kd.errors import UserError
    from internal_kd.params import parse_params, read_yaml
    from internal_kd.plan.study import plan_study
    from internal_kd.steps.encode import encode_task
    from internal_kd.steps.fetch import fetch_encoder, fetch_task

    try:
        inputs = next(iter(plan_study(parse_params(read_yaml("params.yaml"))).tasks.values()))
        make, artefact = {
            "fetch_task": (fetch_task, inputs.data),
            "fetch_encoder": (fetch_encoder, inputs.encoder),
            "encode_task": (encode_task, inputs),
        }[arguments[0]]
        make(artefact)
        end = str(artefact.folder)
    except UserError as error:
        end = f"refused: {error}"
    sys.stderr.flush()
    print(f"\n{end}")
    return 0


def run_step(verb: str, project: Path, endpoint: str, **environment: str) -> tuple[str, str]:
    """Run fetch_task, fetch_encoder or encode_task for ``project/params.yaml`` in a process of its own.

    The hub's address is read when huggingface_hub is imported, hence the process. Returns the folder written ("" when
    refused) and the line of the refusal ("" when it went well).
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(project / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = forked("fetch", verb, folder=project, env=clean | own | environment)
    assert done.code == 0, done.output
    end = done.output.splitlines()[-1]
    return ("", end.removeprefix("refused: ")) if end.startswith("refused: ") else (end, "")
