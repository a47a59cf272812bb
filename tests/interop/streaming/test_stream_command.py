"""The head fitted to windows, and the command that streams a recorded clip."""

import numpy as np
import pytest
import torch

from slim_fast import SLiMClassifier, UserError
from slim_fast import stream as command
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.evaluation.linear import fit_linear_head
from slim_fast.evaluation.probe import select_held_out
from slim_fast.interop.streaming.window_head import fit_window_head
from slim_fast.skeletons import get_topology

NTU = get_topology("ntu-25")
CLASSES = ["still", "waving"]


@pytest.fixture
def cache(tmp_path):
    """20 training and 4 test clips of 36 frames; one class moves its hand, the other doesn't."""
    rng = np.random.default_rng(0)
    body = rng.normal(0, 0.5, (25, 3, 1))
    with CacheWriter(tmp_path / "cache", NTU, classes=CLASSES) as writer:
        for number in range(24):
            clip = body + rng.normal(0, 0.02, (36, 25, 3, 1)) + rng.normal(3, 1, (1, 1, 3, 1))
            clip[:, NTU.joints.index("left_hand"), 0, 0] += number % 2 * np.sin(np.arange(36))
            side = {"all": "train" if number < 20 else "test"}
            writer.add(Clip(clip, f"clip {number}", number % 2, number // 4, split=side))
    return ClipCache.open(tmp_path / "cache")


@pytest.fixture
def run(make_encoder, tmp_path):
    make_encoder("ntu-25").save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_the_head_is_fitted_to_windows_of_neighbouring_frames(cache, run):
    classifier, train = SLiMClassifier.from_pretrained(run), cache.split()[0]
    windows, decay = fit_window_head(classifier, cache, train, 16)
    clips, of = [], []
    for row, number in enumerate(train):
        for end in (8, 16, 24, 32):
            cut = torch.from_numpy(cache.clip(number)[max(0, end - 16) : end, ..., 0])
            clips.append((cut - cut[0, NTU.centre]).permute(2, 0, 1)[None, ..., None])
            of.append(row)
    assert windows == len(clips) == 80
    pooled = SLiMClassifier.from_pretrained(run, num_classes=0).optimize()
    with torch.no_grad():
        features = torch.cat([pooled(clip) for clip in clips])
    labels = torch.from_numpy(cache.label[train][of])
    weight, bias, chosen = fit_linear_head(
        features.float(), labels, select_held_out(cache, train)[of], 2
    )
    assert decay == chosen
    got, want = (
        features.double() @ w.double().t() + b.double()
        for w, b in ((classifier.head.weight, classifier.head.bias), (weight, bias))
    )
    # packings round differently, and LBFGS stops a little elsewhere
    assert (got - want).norm() <= 1e-2 * want.norm()
    assert (got.argmax(1) == labels).float().mean() > 0.9


def test_clips_that_are_too_short_or_of_another_skeleton_are_named(cache, run, make_classifier):
    train = cache.split()[0]
    with pytest.raises(UserError, match=r"No training clip .* is 40 frames long"):
        fit_window_head(SLiMClassifier.from_pretrained(run), cache, train, 80)
    with pytest.raises(UserError, match="takes 5 joints"):
        fit_window_head(make_classifier(), cache, train, 16)


def test_a_clip_is_streamed_and_the_saved_classifier_says_the_same(cache, run, tmp_path, capsys):
    options = ["--data", str(cache.path), "--window", "16", "--every", "4"]
    kept, film = tmp_path / "kept", tmp_path / "a.gif"
    assert (
        command.main([str(run), *options, "--out", str(film), "--save-classifier", str(kept)]) == 0
    )
    said = capsys.readouterr().out
    assert (
        "one linear layer was fitted to its frozen features of 80 windows of 20 training clips"
        in said
    )
    assert "clip 20, recorded as still:" in said
    assert "36 frames, 9 with a prediction" in said
    answers = [line.split() for line in said.splitlines() if line.endswith("%")]
    assert [int(line[0]) for line in answers] == list(range(8, 37, 4))
    assert [line[1] for line in answers].count("still,") >= 7
    assert film.read_bytes().startswith(b"GIF89a")
    assert command.main([str(kept), *options, "--out", str(film), "--clip", "20"]) == 0
    again = capsys.readouterr().out
    assert "fitted" not in again
    assert [line.split() for line in again.splitlines() if line.endswith("%")] == answers
    assert command.main([str(kept), *options, "--save-classifier", str(kept)]) == 2
    assert "is a classifier already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--clip", "nobody"], "has no clip 'nobody'"),
        (["--clip", "24"], "a number below 24"),
        (["--out", "a.webm"], ".gif or .mp4"),
        (["--window", "12"], "window=12 must be a multiple"),
        (["--every", "0"], "every=0"),
        (["--split", "other"], "no split 'other'"),
        (["--data", "nothing"], "not a clip cache"),
        (["--device", "abacus"], "not a device"),
    ],
)
def test_bad_input_is_one_sentence(cache, run, tmp_path, capsys, monkeypatch, more, says):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert command.main([str(run), "--data", str(cache.path), "--window", "16", *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert sorted(tmp_path.iterdir()) == before


def test_a_classifier_of_other_classes_and_a_missing_run(cache, make_classifier, tmp_path, capsys):
    make_classifier(3, "ntu-25").save_pretrained(tmp_path / "three")
    assert command.main([str(tmp_path / "three"), "--data", str(cache.path)]) == 2
    assert "knows 3 classes" in capsys.readouterr().err
    assert command.main([str(tmp_path / "no/such/run"), "--data", str(cache.path)]) == 2
    assert "no folder or file" in capsys.readouterr().err


def test_ctrl_c_ends_with_130(cache, run, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "fit_window_head", interrupted)
    assert command.main([str(run), "--data", str(cache.path), "--window", "16"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"
