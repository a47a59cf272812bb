"""Videos: frames in their order and colours, at the rate asked for; MediaPipe where it is there."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from slim_fast import watch
from slim_fast.errors import UserError
from slim_fast.watching import mediapipe_finder
from slim_fast.watching.video import open_video
from tests.watching.conftest import BoxFinder, write_video

cv2 = pytest.importorskip("cv2", reason="no OpenCV")


@pytest.mark.parametrize(("rate", "kept"), [(30, 60), (15, 30), (20, 40)])
def test_frames_come_in_order_at_the_rate(tmp_path: Path, rate: float, kept: int) -> None:
    finder = BoxFinder()
    source = open_video(str(write_video(tmp_path / "a.avi")), rate, lambda: finder)
    assert source.total == kept
    assert source.seconds == 2
    frames = list(source.frames)
    assert len(frames) == kept
    assert finder.is_closed
    assert finder.seconds == [frame.seconds for frame in frames]
    for frame in frames:
        number = round(frame.seconds * 30)
        assert frame.people == (number >= 10)
        assert frame.picture is not None
        red, green, blue = frame.picture[-5, 5].astype(int)
        assert red > 200
        assert max(green, blue) < 60
    # the bar walks two pixels a frame
    middles = np.array(finder.middles)
    assert np.diff(middles).mean() == pytest.approx(60 / rate, abs=0.2)


def test_a_video_is_watched_from_end_to_end(model, tmp_path, monkeypatch, capsys):
    video = write_video(tmp_path / "walk.avi")
    asked = []

    def make_finder(*arguments):
        asked.append(arguments)
        return BoxFinder()

    monkeypatch.setattr(watch, "make_finder", make_finder)
    outputs = [str(tmp_path / name) for name in ("a.gif", "a.mp4", "a.jsonl")]
    command = [str(video), "--model", str(model), "--window", "16", "--people", "2"]
    assert watch.main([*command, "--out", *outputs]) == 0
    assert asked == [(2, None)]
    assert "60 frames of 2.0 s, 1 people" in capsys.readouterr().out
    records = [json.loads(line) for line in Path(outputs[2]).read_text("utf-8").splitlines()]
    seen = {record["frame"]: record["people"] for record in records if "frame" in record}
    assert seen[8] == {}
    assert all(people.keys() == {"0"} for frame, people in seen.items() if frame > 20)
    film = cv2.VideoCapture(outputs[1])
    assert film.get(cv2.CAP_PROP_FPS) == 30
    pictures = []
    while (read := film.read())[0]:
        pictures.append(read[1])
    assert len(pictures) == 60
    # the video's own picture is below the figure: red stays red in OpenCV's order
    blue, green, red = pictures[30][112, 5].astype(int)
    assert red > 150
    assert max(blue, green) < 90


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    for name, says in (("a.mp4", "cannot read .* as a video"), ("b.mp4", "There is no video")):
        with pytest.raises(UserError, match=says):
            open_video(str(tmp_path / name), 30, BoxFinder)
    with pytest.raises(UserError, match="cannot read camera 97: try another number"):
        open_video("97", 30, BoxFinder)


def test_a_camera_ends_by_ctrl_c_and_what_was_seen_counts(model, tmp_path, monkeypatch, capsys):
    class Camera:
        frames = 0

        def isOpened(self) -> bool:
            return True

        def get(self, _) -> float:
            return 0.0

        def grab(self) -> bool:
            self.frames += 1
            if self.frames > 40:
                raise KeyboardInterrupt
            return True

        def retrieve(self):
            picture = np.zeros((90, 160, 3), np.uint8)
            picture[20:80, self.frames : self.frames + 20] = 255
            return True, picture

        def release(self) -> None:
            pass

    clock = iter(np.arange(0, 100, 1 / 30))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Camera())
    monkeypatch.setattr("slim_fast.watching.video.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(watch, "make_finder", lambda *_: BoxFinder())
    film = tmp_path / "camera.gif"
    assert watch.main(["0", "--model", str(model), "--window", "16", "--out", str(film)]) == 0
    said = capsys.readouterr().out
    assert "40 frames of 1.4 s" in said or "40 frames of 1.3 s" in said
    assert "person 0" in said
    assert film.stat().st_size > 1000


def test_a_window_that_cannot_open_is_one_sentence(model, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise cv2.error("no windows")

    monkeypatch.setattr(cv2, "imshow", fail)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    monkeypatch.setattr(watch, "make_finder", lambda *_: BoxFinder())
    video = str(write_video(tmp_path / "a.avi"))
    assert watch.main([video, "--model", str(model), "--window", "16", "--show"]) == 2
    assert "cannot open a window here" in capsys.readouterr().err


def test_q_in_the_window_ends_it(model, tmp_path, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 20 else -1)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    monkeypatch.setattr(watch, "make_finder", lambda *_: BoxFinder())
    video = str(write_video(tmp_path / "a.avi"))
    assert watch.main([video, "--model", str(model), "--window", "16", "--show"]) == 0
    assert "20 frames of 0.7 s" in capsys.readouterr().out
    assert len(shown) == 20


def test_mediapipe_finds_the_person_in_a_picture_of_a_package() -> None:
    """The portrait that matplotlib ships, of head, shoulders and arms."""
    pytest.importorskip("mediapipe", reason='pip install "slim_fast[video]"')
    try:
        finder = mediapipe_finder.make_finder(2)
    except UserError as error:
        pytest.skip(str(error))  # a release without networks
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    picture = np.asarray(Image.open(path).convert("RGB"))
    for number in range(3):
        world, image = finder(picture, number / 30)
    finder.close()
    assert world.shape == image.shape == (1, 33, 4)
    nose, left, right = image[0, 0], image[0, 11], image[0, 12]  # shoulders
    assert nose[1] < min(left[1], right[1])
    assert right[0] < nose[0] < left[0]
    assert world[0, 0, 1] < world[0, 11, 1] < 0
    assert 0.2 < abs(world[0, 11, 0] - world[0, 12, 0]) < 0.5  # metres from shoulder to shoulder


def test_a_pose_model_that_is_none_is_named(tmp_path) -> None:
    pytest.importorskip("mediapipe", reason='pip install "slim_fast[video]"')
    (tmp_path / "a.task").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"MediaPipe cannot load .*a.task"):
        mediapipe_finder.make_finder(2, tmp_path / "a.task")
