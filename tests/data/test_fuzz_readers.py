"""Whatever a file holds, a reader gives clips or one sentence, and never a traceback."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slim_fast.data.readers import Options
from tests.data.strategies import SETTINGS, options, told

DTYPES = ("f4", "f2", "f8", ">f4", "i4", "i8", "u8", "u1", "?", "c8", "<U3", "S3", "M8[s]")


NUMBERS = (
    0,
    1,
    -1,
    3,
    255,
    2**62,
    -(2**63),
    2**64 - 1,
    10**30,
    0.5,
    1e39,
    float("nan"),
    float("inf"),
)


NAMES = (
    "a",
    "b",
    "a.mp4",
    "c/a.avi",
    "S001C002P003R001A004",
    "",
    "train",
    "test",
    "ä",
    b"a",
    b"\xff",
    0,
    1,
    7,
    None,
)


@st.composite
def arrays(draw: st.DrawFn, *sizes: int) -> np.ndarray:
    """Of about that shape and of any type, now and then with values at the ends of what numbers can
    be.
    """
    shape = [draw(st.sampled_from([size, size, size, size, 0, 1, size + 1])) for size in sizes]
    if draw(st.integers(0, 9)) == 0:
        shape = shape[:-1] if draw(st.booleans()) else [*shape, 2]
    dtype = (
        np.dtype(draw(st.sampled_from(DTYPES))) if draw(st.integers(0, 3)) == 0 else np.dtype("f4")
    )
    values = np.random.default_rng(draw(st.integers(0, 9))).integers(-2, 9, shape)
    array = values.astype("i8").astype(dtype) if dtype.kind == "M" else values.astype(dtype)
    if array.size and dtype.kind in "fiu" and draw(st.integers(0, 3)) == 0:
        extreme = [
            n for n in NUMBERS if dtype.kind == "f" or (n == n and abs(n) < 2**64 and n == int(n))
        ]
        info = None if dtype.kind == "f" else np.iinfo(dtype)
        fitting = [n for n in extreme if info is None or info.min <= n <= info.max]
        with np.errstate(over="ignore"):
            array.reshape(-1)[draw(st.integers(0, array.size - 1))] = np.array(
                draw(st.sampled_from(fitting)), dtype
            )
    return np.asfortranarray(array) if draw(st.integers(0, 9)) == 0 else array


@st.composite
def members(draw: st.DrawFn) -> tuple[dict[str, Any], Options]:
    """Those of an npz: one of its three forms with some columns, under right and wrong names."""
    joints, numbers = draw(st.sampled_from([17, 20, 25])), draw(st.sampled_from([2, 3, 3, 4, 7]))
    count = draw(st.integers(0, 3))
    form = draw(st.sampled_from(["clips", "frames", "single", "train and test"]))
    people = draw(st.sampled_from([[], [1], [2]]))
    if form == "clips":
        found = {"clips": draw(arrays(count, 5, joints, numbers, *people))}
    elif form == "frames":
        found = {"x": draw(arrays(12, joints, numbers, 1))}
        for name in ("start", draw(st.sampled_from(["length", "lengths", "frames"]))):
            found[name] = draw(arrays(count))
    elif form == "single":
        found = {f"clip{i}": draw(arrays(5, joints, numbers, *people)) for i in range(count)}
    else:
        width = joints * numbers
        found = {
            f"x_{side}": draw(arrays(count, 5, width))
            for side in ("train", draw(st.sampled_from(["val", "test"])))
        }
        found |= {
            f"y_{side}": draw(labels(count)) for side in ("train", "test") if draw(st.booleans())
        }
    names = [
        "labels",
        "label",
        "y",
        "subjects",
        "subject",
        "split",
        "splits",
        "names",
        "name",
        "lengths",
        "what",
    ]
    for name in draw(st.lists(st.sampled_from(names), max_size=3)):
        found[name] = draw(labels(count))
    return found, draw(options(joints, numbers))


@st.composite
def labels(draw: st.DrawFn, count: int) -> np.ndarray:
    kind = draw(st.sampled_from(["words", "bytes", "one-hot", "array", "objects"]))
    if kind == "words":
        return np.array(
            draw(
                st.lists(
                    st.sampled_from(["train", "test", "", "ä"]), min_size=count, max_size=count
                )
            ),
            "U5",
        )
    if kind == "bytes":
        return np.array(
            draw(st.lists(st.sampled_from([b"train", b"\xff"]), min_size=count, max_size=count)),
            "S5",
        )
    if kind == "objects":
        return np.array([{}] * count, object)
    return draw(arrays(count, 3) if kind == "one-hot" else arrays(count))


@SETTINGS
@given(members(), st.booleans())
def test_npz(
    tmp_path_factory: pytest.TempPathFactory, given: tuple[dict[str, Any], Options], packed: bool
) -> None:
    found, chosen = given
    path = tmp_path_factory.mktemp("f") / "ntu.npz"
    (np.savez_compressed if packed else np.savez)(path, **found)
    told(path, chosen)


@st.composite
def annotations(draw: st.DrawFn) -> tuple[Any, Options]:
    """A pickle of about PYSKL's form."""
    joints, numbers = draw(st.sampled_from([17, 25])), draw(st.sampled_from([2, 3, 3, 4]))
    items: list[Any] = []
    for _ in range(draw(st.integers(0, 3))):
        item: dict[Any, Any] = {
            "frame_dir": draw(st.sampled_from(NAMES)),
            "label": draw(
                st.sampled_from(
                    [*NUMBERS, "jump", b"jump", None, np.int64(2), np.array(1), np.ones(2), {}]
                )
            ),
            "keypoint": draw(arrays(2, 4, joints, numbers)),
        }
        if draw(st.booleans()):
            item["keypoint_score"] = draw(arrays(2, 4, joints))
        if draw(st.booleans()):
            size = st.sampled_from(
                [(720, 1280), (0, 1), (720,), "big", None, np.array([9, 9]), (float("nan"), 1), {}]
            )
            item["img_shape"] = draw(size)
        if draw(st.booleans()):
            item["total_frames"] = draw(st.sampled_from([*NUMBERS, "x", None]))
        if draw(st.integers(0, 4)) == 0:
            item["keypoint"] = draw(
                st.sampled_from([item["keypoint"].tolist(), [[1], [1, 2]], None, "x", b"x", {}])
            )
        if draw(st.integers(0, 5)) == 0:
            del item[draw(st.sampled_from(sorted(item)))]
        items.append(draw(st.sampled_from([item, item, item, item, item, item, [], None, {}])))
    lists = st.one_of(
        st.lists(st.sampled_from(NAMES), max_size=4),
        st.sampled_from(
            [None, "a", 3, {"a": 1}, np.array(["a", "b"]), np.arange(2), [[1]], [{}], (True, False)]
        ),
    )
    keys = st.sampled_from(
        ["train", "val", "Test", "xsub_train", "xsub_val", "odd", "", 3, b"train", None, ("a",)]
    )
    split = draw(
        st.one_of(st.dictionaries(keys, lists, max_size=3), st.sampled_from([None, [], "train", 3]))
    )
    content: Any = {"split": split, "annotations": items}
    content = draw(
        st.sampled_from([content, content, content, content, items, (items, [0]), split])
    )
    return content, draw(options(joints, numbers))


@SETTINGS
@given(annotations(), st.sampled_from([2, 4, 5]))
def test_pyskl(
    tmp_path_factory: pytest.TempPathFactory, given: tuple[Any, Options], protocol: int
) -> None:
    content, chosen = given
    path = tmp_path_factory.mktemp("f") / "ntu.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    told(path, chosen)


@SETTINGS
@given(st.data(), st.sampled_from([17, 25]), st.sampled_from([2, 3, 3, 4, 7]))
def test_agcn(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, joints: int, numbers: int
) -> None:
    folder = tmp_path_factory.mktemp("ntu")
    for side in data.draw(
        st.lists(st.sampled_from(["train", "val", "test"]), min_size=1, unique=True)
    ):
        count = data.draw(st.integers(0, 3))
        np.save(folder / f"{side}_data.npy", data.draw(arrays(count, numbers, 5, joints, 2)))
        names = data.draw(
            st.lists(st.sampled_from([*NAMES, [], [1, [2]]]), min_size=count, max_size=count)
        )
        whole = st.lists(
            st.sampled_from([*NUMBERS, 0, 1, 2, "x", b"x", None, []]),
            min_size=count,
            max_size=count,
        )
        numbered = data.draw(st.one_of(whole, labels(count)))
        if isinstance(numbered, np.ndarray) and numbered.dtype.hasobject:
            numbered = "labels"
        content = data.draw(
            st.sampled_from(
                [(names, numbered), (names, numbered), [names], names, {"label": numbered}, 3]
            )
        )
        (folder / f"{side}_label.pkl").write_bytes(pickle.dumps(content))
    told(folder, data.draw(options(joints, numbers)))
