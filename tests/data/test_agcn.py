import pickle

import numpy as np
import pytest

from slim_fast.data.readers import Options, open_source
from slim_fast.data.readers import stream as stream_module
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology


def save(folder, side: str, count: int, stem: str = "data_joint", names=None, labels=None, joints: int = 25):
    folder.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(count).normal(size=(count, 3, 8, joints, 2)).astype(np.float32)
    np.save(folder / f"{side}_{stem}.npy", data)
    names = names or [f"S001C002P003R001A{i + 1:03d}.skeleton" for i in range(count)]
    (folder / f"{side}_label.pkl").write_bytes(pickle.dumps((names, list(range(count)) if labels is None else labels)))
    return data


@pytest.mark.parametrize("stem", ["data_joint", "data"])
def test_a_folder_of_train_and_val(tmp_path, monkeypatch, stem) -> None:
    monkeypatch.setattr(stream_module, "CHUNK_BYTES", 10_000)
    folder = tmp_path / "ntu" / "xview"
    train, val = save(folder, "train", 5, stem), save(folder, "val", 3, stem)
    source = open_source(folder)
    clips = list(source.clips)
    assert (source.topology.name, source.channels, source.expected) == ("ntu-25", "xyz", 8)
    assert [clip.split["ntu60-xview"] for clip in clips] == ["train"] * 5 + ["test"] * 3
    assert [clip.label for clip in clips] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert {(clip.subject, clip.camera, clip.setup) for clip in clips} == {(3, 2, 1)}
    for clip, expected in zip(clips, [*train, *val], strict=True):
        np.testing.assert_array_equal(clip.positions, expected.transpose(1, 2, 0, 3))


def test_one_file_and_labels_as_an_array(tmp_path) -> None:
    save(tmp_path / "mine", "train", 4, labels=np.array([3, 2, 1, 0]), names=list("abcd"))
    clips = list(open_source(tmp_path / "mine" / "train_data_joint.npy").clips)
    assert [(clip.name, clip.label, dict(clip.split)) for clip in clips] == [
        (name, 3 - i, {"default": "train"}) for i, name in enumerate("abcd")
    ]


def test_kinetics_skeletons_name_their_topology_and_confidence(tmp_path) -> None:
    save(tmp_path / "kinetics", "train", 2, "data", joints=18)
    with pytest.raises(UserError, match=r"18 joints of 3 coordinates.*openpose-18 would fit"):
        open_source(tmp_path / "kinetics")
    source = open_source(tmp_path / "kinetics", Options(get_topology("openpose-18"), "xyc"))
    assert source.channels == "xyc"
    assert len(list(source.clips)) == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "train_label.pkl").unlink(), "needs its labels beside it in train_label.pkl"),
        (lambda folder: (folder / "train_label.pkl").write_bytes(pickle.dumps((["a"], [0]))), "1 names and 1 labels"),
        (lambda folder: (folder / "train_label.pkl").write_bytes(pickle.dumps(5)), r"must hold \(names, labels\)"),
        (lambda folder: (folder / "train_label.pkl").write_bytes(pickle.dumps((["a"] * 3, ["x"] * 3))), "not whole"),
        (lambda folder: (folder / "train_label.pkl").write_bytes(b"\x80\x04cos\nsystem\n."), "asks for os.system"),
        (lambda folder: np.save(folder / "train_data_joint.npy", np.ones((3, 3, 3))), r"has shape \(3, 3, 3\)"),
        (lambda folder: np.save(folder / "train_data_joint.npy", np.array([{}]), allow_pickle=True), "Python objects"),
        (
            lambda folder: (folder / "train_data_joint.npy").write_bytes(
                (folder / "train_data_joint.npy").read_bytes()[:5000]
            ),
            "cut short",
        ),
    ],
)
def test_damage_is_one_sentence(tmp_path, damage, message) -> None:
    save(tmp_path / "ntu", "train", 3)
    damage(tmp_path / "ntu")
    with pytest.raises(UserError, match=message):
        list(open_source(tmp_path / "ntu").clips)
