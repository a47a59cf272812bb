"""The authors' release: encoder and probes, from a server that holds files in its format."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.__main__ import main
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.data.readers.ntu import ACTIONS
from slim_fast.evaluation.features import extract_features
from slim_fast.evaluation.grid import load_grid
from slim_fast.evaluation.grid.classifiers import Choice
from slim_fast.evaluation.grid.files import name_classifier
from slim_fast.interop.ctrgcn import Model
from slim_fast.interop.export.module import ExportModule
from slim_fast.interop.streaming import Stream
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology
from tests.interop.checkpoints.released import REPOSITORY, SUBFOLDER, save_probes, write_release
from tests.interop.conftest import noisy

SIZES = EncoderConfig(width=32, depth=5, heads=1)
NAME = "classifier_4_blocks_avgpool_True_lr_0_00125"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def encoder() -> SLiMEncoder:
    return noisy(SLiMEncoder("ntu-25", config=SIZES), 0.1)


@pytest.fixture
def folder(encoder, tmp_path) -> Path:
    write_release(tmp_path / "release", encoder)
    return tmp_path / "release" / SUBFOLDER


@pytest.fixture
def cache(tmp_path) -> ClipCache:
    rng = np.random.default_rng(0)
    with CacheWriter(tmp_path / "cache", get_topology("ntu-25"), "xyz") as writer:
        for i in range(24):
            clip = rng.normal(0, 0.4, (64, 25, 3, 1 + i % 2)) * (1 + 0.5 * (i % 3))
            side = {"cs": "train" if i < 18 else "test"}
            writer.add(Clip(clip.astype(np.float32), f"c{i}", i % 3, split=side))
    return ClipCache.open(tmp_path / "cache")


def probe_logits(folder: Path, encoder: SLiMEncoder, name: str, x: torch.Tensor) -> torch.Tensor:
    """As the recipe writes it down: CLS of the last blocks, oldest first, then the mean patch of
    the last one, tokens summed over valid people first.
    """
    blocks, pool = int(name.split("_")[1]), "True" in name
    state = torch.load(next((folder / "linear").glob("*.pth")), weights_only=True)["model"]
    layers = encoder.get_intermediate_layers(x, blocks, return_class_token=True)
    valid = x.permute(0, 4, 1, 2, 3).flatten(2).any(2)  # (B, M)
    summed = [
        tuple((t.unflatten(0, valid.shape) * valid.view(*valid.shape, *[1] * (t.dim() - 1))).sum(1)
              for t in layer)
        for layer in layers
    ]  # fmt: skip
    features = torch.cat([cls for _, cls in summed] + [summed[-1][0].mean(1)] * pool, 1)
    key = f"classifiers_dict.{name}.linear"
    return features @ state[f"{key}.weight"].t() + state[f"{key}.bias"]


def clips() -> torch.Tensor:
    x = torch.randn(3, 3, 64, 25, 2)
    x[0, ..., 1] = 0
    return x


@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    [NAME, "classifier_4_blocks_avgpool_False_lr_0_02500"]
    + [f"classifier_1_blocks_avgpool_{pool}_lr_0_00025" for pool in (True, False)],
)
def test_a_probe_reads_what_the_recipe_says(folder, encoder, name):
    classifier = SLiMClassifier.from_pretrained(folder, probe=name)
    x = clips()
    expected = probe_logits(folder, encoder, name, x)
    torch.testing.assert_close(classifier(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        classifier.optimize(torch.float32)(x), expected, rtol=1e-4, atol=1e-3
    )
    (exported,) = ExportModule(classifier)(x)
    torch.testing.assert_close(exported, expected, rtol=1e-4, atol=1e-3)
    assert len(classifier.class_names) == 60
    assert (classifier.class_names[0], classifier.class_names[57]) == (
        "drink water",
        "shaking hands",
    )


@torch.no_grad()
def test_a_probe_is_saved_streamed_and_put_into_adapters(folder, tmp_path):
    classifier = SLiMClassifier.from_pretrained(folder, probe=NAME)
    classifier.save_pretrained(tmp_path / "saved")
    back = SLiMClassifier.from_pretrained(tmp_path / "saved")
    assert (back.cls_blocks, back.class_names) == (4, classifier.class_names)
    x = clips()
    assert torch.equal(back(x), classifier(x))
    assert torch.equal(Model(pretrained=tmp_path / "saved")(x), classifier(x))
    frames = x[0, ..., 0].permute(1, 2, 0)[:, None]  # (T, M, V, C)
    (prediction,) = Stream(back, 64, 64).push(frames)
    centred = x[:1] - x[:1, :, :1, 1:2, :1]
    torch.testing.assert_close(prediction.logits, back(centred[..., :1])[0], rtol=1e-4, atol=1e-4)
    with pytest.warns(UserWarning, match=r"of 60 classes, is not taken"):
        SLiMClassifier.from_pretrained(tmp_path / "saved", cls_blocks=2)


def test_which_probe_is_the_best(folder, encoder, cache, tmp_path):
    with pytest.warns(UserWarning, match=f"its 48 probes is the best: {NAME} is taken"):
        unseen = SLiMClassifier.from_pretrained(folder, probe="best")
    file = next((folder / "linear").glob("*.pth"))
    state = torch.load(file)["model"]
    assert torch.equal(unseen.head.weight, state[f"classifiers_dict.{NAME}.linear.weight"])
    noted = "classifier_1_blocks_avgpool_False_lr_0_00025"
    save_probes(tmp_path / "noted.pth", 32, 60, f"87.9 with {noted}")
    best = SLiMClassifier.from_pretrained(folder, probe="best", probes=tmp_path / "noted.pth")
    assert (best.pool, best.cls_blocks) == ("cls", 1)
    # on labelled clips: one probe is fitted to them, the others are drawn at random
    train = np.flatnonzero(cache.splits["cs"] == 1)
    features = extract_features(encoder, cache, train, blocks=4)
    labels = torch.from_numpy(cache.label[train])
    inputs = torch.cat([features.cls.flatten(1), features.patches], 1).double()
    bordered = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    target = torch.nn.functional.one_hot(labels, 3).double() - 0.5
    solution = torch.linalg.lstsq(bordered, target).solution.t().float()
    save_probes(file, 32, 3)
    content = torch.load(file)
    key = "classifiers_dict.classifier_4_blocks_avgpool_True_lr_0_00500.linear"
    content["model"] |= {
        f"{key}.weight": solution[:, :-1].contiguous(),
        f"{key}.bias": solution[:, -1],
    }
    torch.save(content, file)
    fitted = SLiMClassifier.from_pretrained(folder, probe="best", labelled=cache.path)
    assert torch.equal(fitted.head.weight, solution[:, :-1])
    assert fitted.class_names is None
    assert fitted.num_classes == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"probe": "classifier_4_blocks_avgpool_True_lr_0_00126"}, f"did you mean {NAME}?"),
        ({"probe": "best", "probes": "no.pth"}, "name a file of classifiers"),
        ({"probes": "no.pth"}, 'pass probe="best" too'),
        ({"probe": "best", "labelled": "no"}, "is not a clip cache"),
    ],
)
def test_wrong_probes(folder, options, says):
    with pytest.raises(UserError, match=re.escape(says)):
        SLiMClassifier.from_pretrained(folder, **options)


def test_missing_and_ambiguous_probes(folder, cache):
    (file,) = (folder / "linear").glob("*.pth")
    for name in ("slim_ntu60_best_xview", "another"):
        (file.parent / f"{name}.pth").write_bytes(file.read_bytes())
    assert SLiMClassifier.from_pretrained(folder, probe=NAME).num_classes == 60  # xsub is its own
    file.unlink()
    with pytest.raises(UserError, match=r"several files of probes \(another.pth, slim_ntu60"):
        SLiMClassifier.from_pretrained(folder, probe=NAME)
    for path in (folder / "linear").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="There are no linear probes beside"):
        SLiMClassifier.from_pretrained(folder, probe=NAME)
    save_probes(folder / "linear" / "two.pth", 32, 2)
    with pytest.raises(UserError, match="labels up to 2, and the probes know 2 classes"):
        SLiMClassifier.from_pretrained(folder, probe="best", labelled=cache)


@pytest.mark.parametrize("place", [f"{SUBFOLDER}/linear/", "linear/"])
def test_from_the_server_by_name(server, folder, encoder, place):
    server.put(REPOSITORY, folder.parent)
    files = server.files[REPOSITORY]["main"]
    name = "slim_ntu60_best_xsub.pth"
    files[place + name] = files.pop(f"{SUBFOLDER}/linear/{name}")
    back = SLiMEncoder.from_pretrained(REPOSITORY, subfolder=SUBFOLDER)
    assert all(torch.equal(t, encoder.state_dict()[n]) for n, t in back.state_dict().items())
    assert server.fetched() == {f"{SUBFOLDER}/config.json", f"{SUBFOLDER}/model.safetensors"}
    classifier = SLiMClassifier.from_pretrained(f"{REPOSITORY}/{SUBFOLDER}", probe=NAME)
    assert server.fetched() >= {place + name}
    assert classifier.class_names[0] == "drink water"


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/use-an-encoder.md"])
def test_the_documentations_example_runs_as_it_stands(server, tmp_path, page):
    """In a process of its own, pointed to the server as anybody would: by HF_ENDPOINT."""
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (example,) = (block for block in blocks if REPOSITORY in block)
    write_release(tmp_path / "release", SLiMEncoder(), note=f"best: {NAME}")
    server.put(REPOSITORY, tmp_path / "release")
    env = {**os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home")}
    np.save(tmp_path / "clip.npy", np.random.default_rng(0).normal(0, 0.4, (90, 25, 3)))
    command = [sys.executable, "-W", "error::UserWarning", "-c", example]
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=99
    )
    assert done.returncode == 0, done.stderr
    if page == "README.md":
        name, _, share = done.stdout.rpartition(", ")
        assert name in ACTIONS[:60]
        assert re.fullmatch(r"\d+%\n", share)
    else:
        assert done.stdout == "('drink water', 'eat meal', 'brush teeth')\n"


def test_commands_take_a_probe(server, folder, tmp_path, capsys, monkeypatch):
    server.put(REPOSITORY, folder.parent)
    monkeypatch.chdir(tmp_path)
    command = ["export", f"{REPOSITORY}/{SUBFOLDER}", "--to", "torch-export", "--no-check"]
    assert main([*command, "--probe", NAME]) == 0
    assert "(B, 60)" in capsys.readouterr().out
    assert main([*command, "--probe", "bst"]) == 2
    assert "holds no probe 'bst'" in capsys.readouterr().err


def test_a_run_keeps_its_probes(tmp_path, encoder, cache):
    """What `evaluate linear` leaves is found, with the classes of the clips it was trained on."""
    encoder.save_pretrained(tmp_path / "run" / "encoder")
    command = [
        "evaluate",
        "linear",
        str(tmp_path / "run"),
        "--data",
        str(cache.path),
        "--seeds",
        "1",
    ]
    assert main([*command, "--iterations", "3", "--seeds", "1"]) == 0
    classifier = SLiMClassifier.from_pretrained(tmp_path / "run", probe="best")
    assert classifier.class_names == cache.classes
    grid, _, chosen = load_grid(tmp_path / "run/evaluation/cache/linear.pth", 32, 5)
    assert isinstance(chosen, Choice)
    assert torch.equal(classifier.head.weight, grid.find(chosen)[0])
    assert name_classifier(chosen).startswith("classifier_")
