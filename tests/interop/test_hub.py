"""Hugging Face, as far as its client goes: the installed huggingface_hub against a server of this test's own."""

import base64
import builtins
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.model.encoder import EncoderConfig

constants = pytest.importorskip("huggingface_hub.constants", reason="these tests need huggingface_hub")

COMMITS = {"main": "a" * 40, "old": "b" * 40}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class FakeHub:
    """A server's repositories: name -> revision -> path -> bytes; and what it was asked, with which token."""

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
        files.update({inside + file.name: file.read_bytes() for file in folder.iterdir()})

    def reply(self, parts: list[str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        as_json = {"Content-Type": "application/json"}
        if parts[:3] == ["api", "repos", "create"]:
            if not self.writable:
                return 403, b'{"error": "no write access"}', {**as_json, "X-Error-Message": "no write access"}
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'somebody'}/{wanted['name']}"
            return 200, json.dumps({"url": f"{self.address}/{name}", "name": name}).encode(), as_json
        api = parts[:2] == ["api", "models"]
        name, (action, *rest) = "/".join(parts[2 * api : 2 * api + 2]), parts[2 * api + 2 :] or [""]
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return 200, json.dumps({"files": files}).encode(), as_json
        if action == "commit":
            url = f"{self.address}/{name}/commit/{COMMITS['main']}"
            return 200, json.dumps({"commitUrl": url, "commitOid": COMMITS["main"], "success": True}).encode(), as_json
        if name not in self.files:
            return 404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        revision = next((r for r, commit in COMMITS.items() if rest and rest[0] in (r, commit)), "")
        if revision not in self.files[name]:
            return 404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
        files = self.files[name][revision]
        if action == "revision":
            about = {"id": name, "modelId": name, "sha": COMMITS[revision], "private": False, "tags": []}
            return 200, json.dumps({**about, "siblings": [{"rfilename": f} for f in files]}).encode(), as_json
        if action == "tree":
            tree = [{"type": "file", "path": f, "size": len(b), "oid": _digest(b)} for f, b in files.items()]
            return 200, json.dumps(tree).encode(), as_json
        path = "/".join(rest[1:])
        if path not in files:
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return 200, files[path], {"ETag": f'"{_digest(files[path])}"', "X-Repo-Commit": COMMITS[revision]}

    def fetched(self) -> set[str]:
        return {path.split("/resolve/")[1][41:] for _, path, _ in self.asked if "/resolve/" in path}


@pytest.fixture
def point_to(monkeypatch, tmp_path) -> Callable[..., None]:
    """Makes the client ask `address` alone, without this machine's token and cache."""

    def point(address: str, offline: bool = False) -> None:
        for name, value in (
            ("ENDPOINT", address),
            ("HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"),
            ("HF_HUB_OFFLINE", offline),
            ("HF_HUB_CACHE", str(tmp_path / "default cache")),
            ("HF_TOKEN_PATH", str(tmp_path / "no token")),
            ("AGENT_HARNESSES_PATH", str(tmp_path / "no list")),
            ("HF_HUB_DISABLE_XET", True),
        ):
            monkeypatch.setattr(constants, name, value, raising=False)  # not every version has all

    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("HF_")]:
        monkeypatch.delenv(name)
    return point


@pytest.fixture
def server(point_to) -> Iterator[FakeHub]:
    fake = FakeHub()
    point_to(fake.address)
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def same(a: SLiMEncoder, b: SLiMEncoder) -> bool:
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


def test_a_repository_is_fetched_without_what_is_not_needed(server, make_encoder, tmp_path):
    encoder = make_encoder()
    encoder.save_pretrained(tmp_path / "made")
    (tmp_path / "made" / "training.pth").write_bytes(b"large")
    (tmp_path / "made" / "README.md").write_text("text")
    server.put("owner/name", tmp_path / "made")
    back = SLiMEncoder.from_pretrained("owner/name", cache_dir=tmp_path / "cache", token="hf_secret")
    assert same(encoder, back)
    assert server.fetched() == {"config.json", "slim_fast.json", "model.safetensors"}
    assert {token for _, path, token in server.asked if "name" in path} == {"Bearer hf_secret"}
    assert not (tmp_path / "default cache").exists()
    assert list((tmp_path / "cache").glob("models--owner--name/snapshots/*/model.safetensors"))
    before = len(server.asked)
    SLiMEncoder.from_pretrained("owner/name", cache_dir=tmp_path / "cache", skip_empty=False)
    assert not [path for _, path, _ in server.asked[before:] if "/resolve/" in path]  # it was in the cache
    assert server.asked[-1][2] is None
    SLiMEncoder.from_pretrained("owner/name")
    assert (tmp_path / "default cache").exists()


def test_subfolders_and_revisions(server, make_encoder, make_classifier, tmp_path):
    models = {
        ("", "main"): make_encoder(),
        ("a/b/", "main"): make_classifier(3),
        ("a/b/", "old"): make_encoder("coco-17"),
    }
    for number, ((inside, revision), model) in enumerate(models.items()):
        model.save_pretrained(tmp_path / str(number))
        server.put("owner/name", tmp_path / str(number), inside, revision)
    assert same(models["", "main"], SLiMEncoder.from_pretrained("owner/name"))
    back = SLiMClassifier.from_pretrained("owner/name", "a/b")
    assert back.num_classes == 3
    assert same(models["a/b/", "main"], back)
    assert same(back, SLiMClassifier.from_pretrained("owner/name", subfolder="/a/b/"))
    for revision in ("old", COMMITS["old"]):
        back = SLiMEncoder.from_pretrained("owner/name", subfolder="a/b", revision=revision)
        assert same(models["a/b/", "old"], back)
    with pytest.raises(UserError, match=r"is no encoder folder"):
        SLiMEncoder.from_pretrained("owner/name", revision="old")
    with pytest.raises(
        UserError, match=r"owner/name, and Hugging Face did not give it \(.*Check the name, the revision"
    ):
        SLiMEncoder.from_pretrained("owner/name", revision="never")


@pytest.mark.parametrize("inside", ["", "a/"])
def test_a_repository_of_one_pth(server, make_encoder, tmp_path, inside):
    encoder = make_encoder(config=EncoderConfig(width=64, depth=1, heads=2))
    (tmp_path / "made").mkdir()
    torch.save({"teacher": {f"backbone.{k}": v for k, v in encoder.state_dict().items()}}, tmp_path / "made" / "x.pth")
    server.put("owner/name", tmp_path / "made", inside)
    server.put("owner/name", tmp_path / "made", inside + "deeper/")
    assert same(encoder, SLiMEncoder.from_pretrained("owner/name", inside.strip("/") or None))
    assert server.fetched() == {inside + "x.pth"}


def test_unknown_repositories(server):
    for name in ("owner/unknown", "unknown"):
        with pytest.raises(UserError) as error:
            SLiMEncoder.from_pretrained(name)
        sentence = str(error.value)
        assert f"There is no folder or file {name}, and Hugging Face did not give it" in sentence
        assert "404" in sentence
        assert "\n" not in sentence


def test_without_network(server, point_to, make_encoder, tmp_path):
    encoder = make_encoder()
    encoder.save_pretrained(tmp_path / "made")
    server.put("owner/name", tmp_path / "made")
    SLiMEncoder.from_pretrained("owner/name", cache_dir=tmp_path / "cache")
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for offline in (False, True):
            point_to(nowhere, offline)
            asked = len(server.asked)
            assert same(encoder, SLiMEncoder.from_pretrained("owner/name", cache_dir=tmp_path / "cache"))
            with pytest.raises(
                UserError, match=r"There is no folder or file owner/name.*the network, or give the path"
            ):
                SLiMEncoder.from_pretrained("owner/name", cache_dir=tmp_path / "empty")
            with pytest.raises(UserError, match=r"Hugging Face did not take owner/name .*the network"):
                encoder.push_to_hub("owner/name")
            assert len(server.asked) == asked


def test_without_huggingface_hub(make_encoder, monkeypatch):
    whole = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.split(".")[0] == "huggingface_hub":
            raise ImportError(name)
        return whole(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"no folder or file owner/name; .*pip install huggingface_hub\."):
        SLiMEncoder.from_pretrained("owner/name")
    with pytest.raises(UserError, match=r"push_to_hub needs huggingface_hub: pip install"):
        make_encoder().push_to_hub("owner/name")


@pytest.mark.parametrize("name", ["owner/name", "name"])
def test_what_is_pushed_is_what_is_loaded(server, make_classifier, tmp_path, name):
    classifier = make_classifier(3)
    whole = name if "/" in name else f"somebody/{name}"
    address = classifier.push_to_hub(name, token="hf_secret", private=True, commit_message="first", revision="old")
    assert address == f"{server.address}/{whole}/commit/{COMMITS['main']}"
    assert {token for _, path, token in server.asked if "name" in path} == {"Bearer hf_secret"}
    wanted = json.loads(server.bodies["/api/repos/create"])
    assert wanted.get("visibility") == "private" or wanted["private"]  # by the client's age
    lines = [json.loads(line) for line in server.bodies[f"/api/models/{whole}/commit/old"].splitlines()]
    assert lines[0]["value"]["summary"] == "first"
    (tmp_path / "pushed").mkdir()
    for line in lines[1:]:
        (tmp_path / "pushed" / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
    server.put(whole, tmp_path / "pushed")
    assert same(classifier, SLiMClassifier.from_pretrained(whole))


def test_what_cannot_be_pushed(server, make_encoder):
    encoder = make_encoder()
    with pytest.raises(TypeError, match="comit_message"):
        encoder.push_to_hub("owner/name", comit_message="typo")
    with pytest.raises(UserError, match=r"Hugging Face did not take not a name \("):
        encoder.push_to_hub("not a name")
    with pytest.raises(UserError, match="frozen encoder can't be saved"):
        encoder.optimize().push_to_hub("owner/other")
    server.writable = False
    with pytest.raises(
        UserError, match=r"Hugging Face did not take owner/name \(.*403.*\)\. Check the name, the token"
    ):
        encoder.push_to_hub("owner/name")
    assert not [path for _, path, _ in server.asked if "commit" in path or "other" in path]
