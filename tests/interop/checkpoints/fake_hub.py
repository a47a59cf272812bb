"""A server that answers as the hub does, as far as its client asks in these tests."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMITS = {"main": "a" * 40, "old": "b" * 40}


LARGE = (".safetensors", ".pth")
"""Files that the hub keeps apart from git, under their SHA-256."""


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _etags(path: str, content: bytes) -> dict[str, str]:
    etags = {"ETag": f'"{git_digest(content)}"'}
    if path.endswith(LARGE):
        etags["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        etags["X-Linked-Size"] = str(len(content))
    return etags


class FakeHub:
    """A server's repositories: name -> revision -> path -> bytes; and what it was asked, with which
    token.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.bodies: dict[str, bytes] = {}
        self.writable = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                path = self.path.split("?")[0]
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, path, self.headers.get("Authorization")))
                if body:
                    outer.bodies[path] = body
                status, content, headers = outer.reply(path.strip("/").split("/"), body)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = answer

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, name: str, folder: Path, inside: str = "", revision: str = "main") -> None:
        files = self.files.setdefault(name, {}).setdefault(revision, {})
        paths = (path for path in folder.rglob("*") if path.is_file())
        files.update({inside + p.relative_to(folder).as_posix(): p.read_bytes() for p in paths})

    def reply(self, parts: list[str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        as_json = {"Content-Type": "application/json"}
        if parts == ["api", "validate-yaml"]:
            return 200, b'{"errors": [], "warnings": []}', as_json
        if parts[:3] == ["api", "repos", "create"]:
            if not self.writable:
                return (
                    403,
                    b'{"error": "no write access"}',
                    {**as_json, "X-Error-Message": "no write access"},
                )
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'somebody'}/{wanted['name']}"
            return (
                200,
                json.dumps({"url": f"{self.address}/{name}", "name": name}).encode(),
                as_json,
            )
        api = parts[:2] == ["api", "models"]
        name, (action, *rest) = "/".join(parts[2 * api : 2 * api + 2]), parts[2 * api + 2 :] or [""]
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return 200, json.dumps({"files": files}).encode(), as_json
        if action == "commit":
            url = f"{self.address}/{name}/commit/{COMMITS['main']}"
            return (
                200,
                json.dumps(
                    {"commitUrl": url, "commitOid": COMMITS["main"], "success": True}
                ).encode(),
                as_json,
            )
        if name not in self.files:
            return (
                404,
                b"",
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
            )
        revision = next((r for r, commit in COMMITS.items() if rest and rest[0] in (r, commit)), "")
        if revision not in self.files[name]:
            return (
                404,
                b"",
                {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"},
            )
        files = self.files[name][revision]
        if action == "revision":
            about = {
                "id": name,
                "modelId": name,
                "sha": COMMITS[revision],
                "private": False,
                "tags": [],
            }
            return (
                200,
                json.dumps({**about, "siblings": [{"rfilename": f} for f in files]}).encode(),
                as_json,
            )
        if action == "tree":
            tree = [
                {"type": "file", "path": f, "size": len(b), "oid": git_digest(b)}
                for f, b in files.items()
            ]
            return 200, json.dumps(tree).encode(), as_json
        path = "/".join(rest[1:])
        if path not in files:
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return (
            200,
            files[path],
            {**_etags(path, files[path]), "X-Repo-Commit": COMMITS[revision]},
        )

    def fetched(self) -> set[str]:
        return {path.split("/resolve/")[1][41:] for _, path, _ in self.asked if "/resolve/" in path}
