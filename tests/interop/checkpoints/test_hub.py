"""Hugging Face, as far as its client goes: huggingface_hub against a server of this test's own."""

import base64
import builtins
import json
import socket
from typing import Any

import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.model.encoder import EncoderConfig
from tests.interop.checkpoints.fake_hub import COMMITS

pytest.importorskip("huggingface_hub.constants", reason="these tests need huggingface_hub")


def same(a: SLiMEncoder, b: SLiMEncoder) -> bool:
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


def test_a_repository_is_fetched_without_what_is_not_needed(server, make_encoder, tmp_path):
    encoder = make_encoder()
    encoder.save_pretrained(tmp_path / "made")
    (tmp_path / "made" / "training.pth").write_bytes(b"large")
    (tmp_path / "made" / "README.md").write_text("text")
    server.put("owner/name", tmp_path / "made")
    back = SLiMEncoder.from_pretrained(
        "owner/name", cache_dir=tmp_path / "cache", token="hf_secret"
    )
    assert same(encoder, back)
    assert server.fetched() == {"config.json", "slim_fast.json", "model.safetensors"}
    assert {token for _, path, token in server.asked if "name" in path} == {"Bearer hf_secret"}
    assert not (tmp_path / "default cache").exists()
    assert list((tmp_path / "cache").glob("models--owner--name/snapshots/*/model.safetensors"))
    before = len(server.asked)
    SLiMEncoder.from_pretrained("owner/name", cache_dir=tmp_path / "cache", skip_empty=False)
    # it was in the cache
    assert not [path for _, path, _ in server.asked[before:] if "/resolve/" in path]
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
        UserError,
        match=r"owner/name: check the path\. If it is a Hugging Face name, check .*revision.*\(",
    ):
        SLiMEncoder.from_pretrained("owner/name", revision="never")


@pytest.mark.parametrize("inside", ["", "a/"])
def test_a_repository_of_one_pth(server, make_encoder, tmp_path, inside):
    encoder = make_encoder(config=EncoderConfig(width=64, depth=1, heads=2))
    (tmp_path / "made").mkdir()
    torch.save(
        {"teacher": {f"backbone.{k}": v for k, v in encoder.state_dict().items()}},
        tmp_path / "made" / "x.pth",
    )
    server.put("owner/name", tmp_path / "made", inside)
    server.put("owner/name", tmp_path / "made", inside + "deeper/")
    assert same(encoder, SLiMEncoder.from_pretrained("owner/name", inside.strip("/") or None))
    assert server.fetched() == {inside + "x.pth"}


def test_unknown_repositories(server):
    for name in ("owner/unknown", "unknown"):
        with pytest.raises(UserError) as error:
            SLiMEncoder.from_pretrained(name)
        sentence = str(error.value)
        assert f"There is no folder or file {name}: check the path." in sentence
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
            assert same(
                encoder, SLiMEncoder.from_pretrained("owner/name", cache_dir=tmp_path / "cache")
            )
            with pytest.raises(
                UserError,
                match=r"There is no folder or file owner/name: check the path.*the network \(",
            ):
                SLiMEncoder.from_pretrained("owner/name", cache_dir=tmp_path / "empty")
            with pytest.raises(
                UserError, match=r"Hugging Face did not take owner/name .*the network"
            ):
                encoder.push_to_hub("owner/name")
            assert len(server.asked) == asked


def test_without_huggingface_hub(make_encoder, monkeypatch):
    whole = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.split(".")[0] == "huggingface_hub":
            raise ImportError(name)
        return whole(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError, match=r"no folder or file owner/name: check .*pip install huggingface_hub\."
    ):
        SLiMEncoder.from_pretrained("owner/name")
    with pytest.raises(UserError, match=r"push_to_hub needs huggingface_hub: pip install"):
        make_encoder().push_to_hub("owner/name")


@pytest.mark.parametrize("name", ["owner/name", "name"])
def test_what_is_pushed_is_what_is_loaded(server, make_classifier, tmp_path, name):
    classifier = make_classifier(3)
    whole = name if "/" in name else f"somebody/{name}"
    address = classifier.push_to_hub(
        name, token="hf_secret", private=True, commit_message="first", revision="old"
    )
    assert address == f"{server.address}/{whole}/commit/{COMMITS['main']}"
    assert {token for _, path, token in server.asked if "name" in path} == {"Bearer hf_secret"}
    wanted = json.loads(server.bodies["/api/repos/create"])
    assert wanted.get("visibility") == "private" or wanted["private"]  # by the client's age
    lines = [
        json.loads(line) for line in server.bodies[f"/api/models/{whole}/commit/old"].splitlines()
    ]
    assert lines[0]["value"]["summary"] == "first"
    (tmp_path / "pushed").mkdir()
    for line in lines[1:]:
        (tmp_path / "pushed" / line["value"]["path"]).write_bytes(
            base64.b64decode(line["value"]["content"])
        )
    server.put(whole, tmp_path / "pushed")
    assert same(classifier, SLiMClassifier.from_pretrained(whole))


def test_a_card_in_the_repository_stays(server, make_encoder, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "README.md").write_text("written by hand")
    server.put("owner/name", tmp_path / "there")
    make_encoder().push_to_hub("owner/name")
    pushed = server.bodies["/api/models/owner/name/commit/main"].splitlines()[1:]
    paths = {json.loads(line)["value"]["path"] for line in pushed}
    assert paths == {"config.json", "model.safetensors", "slim_fast.json"}


def test_what_cannot_be_pushed(server, make_encoder):
    encoder = make_encoder()
    with pytest.raises(TypeError, match="comit_message"):
        encoder.push_to_hub("owner/name", comit_message="typo")
    with pytest.raises(UserError, match=r"Hugging Face did not take not a name \("):
        encoder.push_to_hub("not a name")
    with pytest.raises(UserError, match="optimized encoder can't be saved"):
        encoder.optimize().push_to_hub("owner/other")
    server.writable = False
    with pytest.raises(
        UserError,
        match=r"Hugging Face did not take owner/name \(.*403.*\)\. Check the name, the token",
    ):
        encoder.push_to_hub("owner/name")
    assert not [path for _, path, _ in server.asked if "commit" in path or "other" in path]
