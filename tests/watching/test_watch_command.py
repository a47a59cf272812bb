"""The command on poses: what it prints and writes, and what it refuses."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slim_fast import watch
from tests.watching.conftest import CLASSES

OPTIONS = ["--window", "16", "--every", "8"]


def test_poses_become_a_film_lines_and_a_timeline(poses, model, tmp_path, capsys, recording):
    film, lines = tmp_path / "new" / "watch.gif", tmp_path / "watch.jsonl"
    command = [str(poses), "--model", str(model), *OPTIONS, "--out", str(film), str(lines)]
    assert watch.main(command) == 0
    said = capsys.readouterr()
    seconds = len(recording) / 30
    assert f"{len(recording)} frames of {seconds:.1f} s, 2 people" in said.out
    records = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    predictions = [record for record in records if "frame" in record]
    assert [record["frame"] for record in predictions] == list(range(8, len(recording) + 1, 8))
    assert {who for record in predictions for who in record["people"]} == {"0", "1"}
    assert all(record["scene"]["class"] in CLASSES for record in predictions)
    segments = [record for record in records if "segment" in record]
    scene = [record["segment"] for record in segments if record["person"] is None]
    assert scene[0][0] == 0
    assert scene[-1][1] == pytest.approx(seconds, abs=1e-3)
    assert all(before[1] == after[0] for before, after in pairwise(scene))
    assert said.out.count(" s  ") == len(segments)
    with Image.open(film) as opened:
        # 10 frames a second
        assert opened.n_frames == pytest.approx(seconds * 10, abs=2)
        assert opened.size[0] == 480
        opened.seek(20)
        first = np.asarray(opened.convert("L"))
        opened.seek(40)
        assert (np.asarray(opened.convert("L")) != first).any()


def test_json_lines_on_stdout_are_alone_there(poses, model, capsys):
    assert watch.main([str(poses), "--model", str(model), *OPTIONS, "--out", "-"]) == 0
    said = capsys.readouterr()
    records = [json.loads(line) for line in said.out.splitlines()]
    assert len(records) > 10
    assert "2 people" in said.err
    assert "步行" in said.out or "wave" in said.out or "kick" in said.out


def test_what_a_flow_says_is_the_model_s_answer(poses, model, classifier, tmp_path, recording):
    """The last line of a recording of one person, computed by hand."""
    import torch

    from slim_fast.watching.carry import carry_over
    from slim_fast.watching.pose_files import open_poses

    alone = [frame for frame in recording if len(frame["landmarks"]) == 1]
    count = len(alone) // 8 * 8
    path = tmp_path / "alone.jsonl"
    path.write_text("".join(f"{json.dumps(frame)}\n" for frame in alone[:count]))
    lines = tmp_path / "a.jsonl"
    assert watch.main([str(path), "--model", str(model), *OPTIONS, "--out", str(lines)]) == 0
    records = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    last = [record for record in records if "frame" in record][-1]
    source = open_poses(str(path), 30, 30)
    carry = carry_over(source, classifier.topology, "xyz")
    clip = np.stack([carry(frame)[0] for frame in source.frames])[-16:]
    clip = clip - clip[0, classifier.topology.centre]
    x = torch.from_numpy(clip).float().permute(2, 0, 1)[None, ..., None]
    with torch.no_grad():
        want = classifier(x)[0].softmax(0)
    assert last["scene"]["class"] == CLASSES[int(want.argmax())]
    # the command's model is optimized, in bfloat16 where that is faster
    assert last["scene"]["confidence"] == pytest.approx(float(want.max()), abs=0.02)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--smooth", "2"], "--smooth 2: must be an odd number of seconds"),
        (["--rate", "0"], "--rate 0: must be above 0"),
        (["--poses-rate", "-1"], "--poses-rate -1: must be above 0"),
        (["--out", "a.webm"], "Cannot write a.webm: name it with the ending .gif, .mp4 or .jsonl"),
        (["--pose-model", "a.task"], "--pose-model finds people in videos"),
        (["--image-size", "0", "4"], "--image-size: both sides"),
        (["--window", "12"], "window=12 must be a multiple"),
        (["--device", "abacus"], "not a device"),
        (["--modle", "x"], "did you mean model"),
    ],
)
def test_bad_options_are_one_sentence(poses, model, tmp_path, monkeypatch, capsys, more, says):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert watch.main([str(poses), "--model", str(model), *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert sorted(tmp_path.iterdir()) == before


def test_a_recording_that_breaks_off_leaves_no_files(poses, model, tmp_path, capsys):
    with poses.open("a") as file:
        file.write('{"landmarks": [[1, 2')
    outputs = [str(tmp_path / name) for name in ("a.gif", "a.jsonl")]
    before = sorted(tmp_path.iterdir())
    assert watch.main([str(poses), "--model", str(model), *OPTIONS, "--out", *outputs]) == 2
    assert "is no JSON, or cut short" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_an_encoder_without_classes_is_refused(poses, make_encoder, tmp_path, capsys):
    make_encoder("ntu-25").save_pretrained(tmp_path / "encoder")
    assert watch.main([str(poses), "--model", str(tmp_path / "encoder")]) == 2
    assert "holds an encoder without classes" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(poses, model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for name in ("a.gif", "a.jsonl"):
        path = str(tmp_path / "file" / name)
        assert watch.main([str(poses), "--model", str(model), *OPTIONS, "--out", path]) == 2
        assert f"Cannot write {path}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cv2", "mediapipe"])
def test_missing_libraries_are_named_with_their_command(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from tests.watching.conftest import write_video

    video = str(write_video(tmp_path / "a.avi"))
    monkeypatch.setitem(sys.modules, name, None)
    assert watch.main([video, "--model", str(model), *OPTIONS]) == 2
    error = capsys.readouterr().err
    assert 'pip install "slim_fast[video]"' in error
    assert {"cv2": "OpenCV", "mediapipe": "MediaPipe"}[name] in error
