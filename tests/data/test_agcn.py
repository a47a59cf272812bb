import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options, open_source
from slim_fast.data.readers import stream as stream_module
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology


def save(
    folder,
    side: str,
    count: int,
    stem: str = "data_joint",
    names=None,
    labels=None,
    joints: int = 25,
):
    folder.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(count).normal(size=(count, 3, 8, joints, 2)).astype(np.float32)
    np.save(folder / f"{side}_{stem}.npy", data)
    names = names or [f"S001C002P003R001A{i + 1:03d}.skeleton" for i in range(count)]
    (folder / f"{side}_label.pkl").write_bytes(
        pickle.dumps((names, list(range(count)) if labels is None else labels))
    )
    return data


@pytest.mark.parametrize("stem", ["data_joint", "data"])
def test_a_folder_of_train_and_val(tmp_path, monkeypatch, stem) -> None:
    monkeypatch.setattr(stream_module, "CHUNK_BYTES", 10_000)
    folder = tmp_path / "ntu" / "xview"
    train, val = save(folder, "train", 5, stem), save(folder, "val", 3, stem)
    source = open_source(folder)
    clips = list(source.clips)
    assert (source.topology.name, source.channels, source.num_clips) == ("ntu-25", "xyz", 8)
    assert [clip.split["ntu60-xview"] for clip in clips] == ["train"] * 5 + ["test"] * 3
    assert [clip.label for clip in clips] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert {(clip.subject, clip.camera, clip.setup) for clip in clips} == {(3, 2, 1)}
    for clip, expected in zip(clips, [*train, *val], strict=True):
        np.testing.assert_array_equal(clip.positions, expected.transpose(1, 2, 0, 3))


def test_a_linked_folder_says_what_its_name_or_its_targets_says(tmp_path) -> None:
    save(tmp_path / "store" / "ntu120" / "xsub", "train", 2)
    save(tmp_path / "store" / "17", "train", 2)
    (tmp_path / "ntu60").mkdir()
    for link, target, split in (
        ("mine", "store/ntu120/xsub", "ntu120-xsub"),
        ("ntu60/xview", "store/17", "ntu60-xview"),
    ):
        (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)
        assert {name for clip in open_source(tmp_path / link).clips for name in clip.split} == {
            split
        }
    (tmp_path / "mine" / "val_data_joint.npy").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"val_data_joint.npy cannot be read"):
        open_source(tmp_path / "mine")


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
        (
            lambda folder: (folder / "train_label.pkl").unlink(),
            "needs its labels beside it in train_label.pkl",
        ),
        (
            lambda folder: (folder / "train_label.pkl").write_bytes(pickle.dumps((["a"], [0]))),
            "1 names and 1 labels",
        ),
        (
            lambda folder: (folder / "train_label.pkl").write_bytes(pickle.dumps(5)),
            r"must hold \(names, labels\)",
        ),
        (
            lambda folder: (folder / "train_label.pkl").write_bytes(
                pickle.dumps((["a"] * 3, ["x"] * 3))
            ),
            "not whole",
        ),
        (
            lambda folder: (folder / "train_label.pkl").write_bytes(
                pickle.dumps((["a"] * 3, [0, 1, 1 << 70]))
            ),
            "not whole",
        ),
        (
            lambda folder: (folder / "train_label.pkl").write_bytes(
                pickle.dumps(([["a"], ["b", "c"], None], [0] * 3))
            ),
            "not text",
        ),
        (
            lambda folder: (folder / "train_label.pkl").write_bytes(pickle.dumps((None, [0] * 3))),
            r"must hold \(names, labels\)",
        ),
        (
            lambda folder: (folder / "train_label.pkl").write_bytes(b"\x80\x04cos\nsystem\n."),
            "names os.system",
        ),
        (
            lambda folder: np.save(folder / "train_data_joint.npy", np.ones((3, 3, 3))),
            r"has shape \(3, 3, 3\)",
        ),
        (
            lambda folder: np.save(
                folder / "train_data_joint.npy", np.array([{}]), allow_pickle=True
            ),
            "Python objects",
        ),
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


VALUES = (
    st.none()
    | st.integers(-2, 70)
    | st.sampled_from([1 << 70, 0.5, 2.0, float("nan"), b"\xff", "a", True])
)
LISTS = (
    st.lists(VALUES | st.lists(VALUES, max_size=2), max_size=4)
    | st.tuples(VALUES, VALUES)
    | VALUES
    | hnp.arrays(
        st.sampled_from(["i8", "f4", "U2", "S1", "?"]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=3),
    )
)


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["f4", "f8", "i2", "?", "U1", "c8"]),
        st.tuples(*[st.integers(0, 3)] * 3, st.sampled_from([17, 25, 2]), st.integers(0, 2))
        | hnp.array_shapes(min_dims=0, max_dims=6, max_side=3),
    ),
    st.tuples(LISTS, LISTS) | LISTS | st.dictionaries(st.text(max_size=2), LISTS, max_size=2),
    st.sampled_from([None, "ntu-25", "coco-17"]),
    st.integers(0, 4000) | st.none(),
    st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=2),
)
def test_odd_content_is_read_or_refused_in_one_sentence(
    tmp_path_factory, data, labels, name, cut, changes
) -> None:
    folder = tmp_path_factory.mktemp("agcn")
    np.save(folder / "train_data.npy", data)
    (folder / "train_label.pkl").write_bytes(pickle.dumps(labels))
    garbled = bytearray((folder / "train_data.npy").read_bytes()[:cut])
    for place, byte in changes:
        if garbled:
            garbled[place % len(garbled)] = byte
    (folder / "train_data.npy").write_bytes(garbled)
    try:
        convert(folder, folder / "out", Options(name and get_topology(name)))
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 (some can be read)


def test_sides_by_their_usual_names_and_what_is_not_read(tmp_path) -> None:
    folder = tmp_path / "ntu"
    for side in ("Training", "valid"):
        save(folder, side, 1, "data", names=[side])
    (folder / "valid_label.pkl").rename(folder / "valid_labels.pkl")
    save(folder, "holdout", 1)
    (folder / "Training_label.pkl").write_bytes(pickle.dumps((["Training"], [0], [17])))
    source = open_source(folder)
    assert {clip.name: clip.split["default"] for clip in source.clips} == {
        "Training": "train",
        "valid": "test",
    }
    assert [warning.removeprefix(str(folder)) for warning in source.warnings] == [
        " has holdout_data_joint.npy, which was ignored: it is named after no known subset",
        "/Training_label.pkl has 3 lists, of which all but names and labels were ignored",
    ]


def test_validation_beside_a_test_side_is_on_neither(tmp_path) -> None:
    for side in ("train", "val", "test"):
        save(tmp_path / "ntu", side, 1, names=[side])
    clips = {clip.name: dict(clip.split) for clip in open_source(tmp_path / "ntu").clips}
    assert clips == {"train": {"default": "train"}, "val": {}, "test": {"default": "test"}}
    (clip,) = open_source(
        tmp_path / "ntu" / "val_data_joint.npy", Options(get_topology("ntu-25"))
    ).clips
    assert clip.split == {"default": "test"}
