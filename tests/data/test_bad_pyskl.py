"""PYSKL pickles with flaws, of other content, or garbled."""

import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options, open_source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology
from tests.data.pyskl_files import save


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": "jump"}, "label is not a whole number"),
        ({"img_shape": (0, 5)}, r"img_shape is not \(height, width\)"),
        ({"img_shape": (np.inf, 5)}, r"img_shape is not \(height, width\)"),
        ({"keypoint_score": np.ones((1, 3))}, "keypoint_score is not"),
        (
            {"keypoint": np.full((1, 4, 17, 2), "a")},
            "no annotation with a 4-dimensional 'keypoint'",
        ),
    ],
)
def test_a_flaw_of_all_items_is_named(tmp_path, change, reason) -> None:
    items = [
        {"frame_dir": name, "label": 0, "keypoint": np.ones((1, 4, 17, 2))} | change
        for name in "abc"
    ]
    with pytest.raises(UserError, match=reason) as error:
        open_source(save(tmp_path / "a.pkl", items))
    assert ("keypoint'" in str(error.value)) == ("keypoint" in change)


def test_one_coordinate_a_joint_is_refused(tmp_path) -> None:
    items = [
        {"label": 0, "img_shape": (720, 1280), "keypoint": np.full((1, 4, 17, width), 9.0)}
        for width in (2, 1)
    ]
    with pytest.raises(UserError, match="clip 'clip000001' has 17 joints of 1 channels"):
        convert(save(tmp_path / "a.pkl", items), tmp_path / "out", Options())


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.sampled_from(
        [
            1 << 70,
            -(1 << 5000),
            float("nan"),
            float("inf"),
            1e300,
            2 + 1j,
            b"\xff",
            "",
            "a",
            "train",
        ]
    )
    | hnp.arrays(
        st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?", "U1", "S2"]),
        hnp.array_shapes(min_dims=0, max_dims=5),
    )
    | st.tuples(*[st.integers(0, 4)] * 3, st.sampled_from([2, 3, 4])).map(np.ones),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


def test_deep_and_huge_content_is_refused_in_one_sentence(tmp_path) -> None:
    deep, huge = (), 1 << 20000  # more digits than Python prints
    for _ in range(300):
        deep = (deep,)
    good = {"frame_dir": "a", "label": 0, "keypoint": np.ones((1, 4, 17, 2))}
    for odd in (deep, huge, [huge], {huge: deep}):
        for key in (
            "frame_dir",
            "label",
            "keypoint",
            "keypoint_score",
            "img_shape",
            "total_frames",
        ):
            list(open_source(save(tmp_path / "a.pkl", [good, good | {key: odd}])).clips)
            with suppress(UserError):
                list(open_source(save(tmp_path / "a.pkl", [{huge: 1, deep: 2, key: odd}])).clips)
        for split in ({"train": odd}, {"train": [odd]}, odd):
            with pytest.raises(UserError, match="split"):
                open_source(save(tmp_path / "a.pkl", [good], split))
    with pytest.raises(UserError, match="split"):
        open_source(save(tmp_path / "a.pkl", [good], {huge: ["a"], deep: ["a"]}))


KEYS = (
    "frame_dir",
    "label",
    "keypoint",
    "keypoint_score",
    "img_shape",
    "original_shape",
    "total_frames",
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=3), max_size=3),
    ODD | st.dictionaries(st.sampled_from(["train", "val", "x", 3, b"test"]), ODD, max_size=3),
    st.sampled_from([None, "xy", "xyz", "xyc", "xyzc"]),
    st.sampled_from([None, "coco-17", "ntu-25"]),
)
def test_odd_content_is_read_or_refused_in_one_sentence(
    tmp_path_factory, changes, split, channels, topology
) -> None:
    good = {
        "frame_dir": "a",
        "label": 0,
        "keypoint": np.ones((1, 4, 17, 2)),
        "img_shape": (4, 4),
        "total_frames": 4,
    }
    folder = tmp_path_factory.mktemp("p")
    path = save(folder / "a.pkl", [good | change for change in changes], split)
    try:
        convert(path, folder / "c", Options(topology and get_topology(topology), channels))
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 (some can be read)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"keypoint": None}, "keypoint is not"),
        ({"keypoint": np.ones((6, 25, 3))}, "keypoint is not"),
        ({"keypoint": [[1], [1, 2]]}, "keypoint is not"),
        ({"label": "jump"}, "label is not"),
        ({"label": 0.5}, "label is not"),
        ({"img_shape": (0, 5)}, "img_shape is not"),
        ({"img_shape": "big"}, "img_shape is not"),
    ],
)
def test_bad_annotations_are_problems(tmp_path, walkers, change, reason) -> None:
    good = {"frame_dir": "good", "label": 0, "keypoint": walkers(6).transpose(3, 0, 1, 2)}
    source = open_source(save(tmp_path / "a.pkl", [good | {"frame_dir": "bad"} | change, good]))
    assert [clip.name for clip in source.clips] == ["good"]
    assert [problem.item for problem in source.problems] == ["bad"]
    assert source.problems[0].reason.startswith(reason)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not of PYSKL's form"),
        ({"annotations": []}, "not of PYSKL's form"),
        ((["a"], [0]), "not of PYSKL's form"),
        (
            {"annotations": [{"x": 1}]},
            "no annotation with a 4-dimensional 'keypoint': the first has x",
        ),
        ({"annotations": [{"keypoint": np.ones((1, 2, 20, 3))}]}, "20 joints of 3 coordinates"),
        (
            {"annotations": [{"keypoint": np.ones((1, 2, 25, 3))}], "split": [1]},
            "'split' that is not a dict",
        ),
    ],
)
def test_other_pickles(tmp_path, content, message) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "a.pkl")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=5),
    st.sampled_from([2, 4, 5]),
    st.integers(0, 3000) | st.none(),
)
def test_garbled_files_are_read_or_refused_in_one_sentence(
    tmp_path_factory, changes, protocol, cut
) -> None:
    item = {
        "label": np.int64(1),
        "keypoint": np.ones((1, 4, 17, 2), np.float16),
        "img_shape": (4, 4),
    }
    item |= {"keypoint_score": np.ones((1, 4, 17), np.float16), "total_frames": 4}
    folder = tmp_path_factory.mktemp("p")
    path = save(
        folder / "a.pkl",
        [{"frame_dir": "a"} | item] * 2,
        {"train": ["a"], "val": np.array(["a"])},
        protocol,
    )
    data = bytearray(path.read_bytes()[:cut])
    for place, byte in changes:
        if data:
            data[place % len(data)] = byte
    path.write_bytes(data)
    try:
        convert(path, folder / "c")
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 (some can be read)
