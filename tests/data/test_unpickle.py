import io
import os
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slim_fast.data.readers.pickled_values import LazyArray, SpilledBytes, parse_list, read_array
from slim_fast.data.readers.stream import ArrayStream
from slim_fast.data.readers.unpickle import load_pickle
from slim_fast.errors import UserError

PROTOCOLS = (2, 3, 4, 5)


def round_trip(tmp_path: Path, value: object, protocol: int = 4) -> object:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    return load_pickle(tmp_path / "a.pkl", tmp_path)


def plain(value: object) -> object:
    return value.read().tolist() if isinstance(value, LazyArray) else value


DTYPES = st.sampled_from(["<f2", "<f4", ">f8", "<i8", ">i2", "u1", "?", "<U3", "S5"])


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.sampled_from(PROTOCOLS),
    DTYPES,
    st.sampled_from(["C", "F", "transposed", "sliced", "read-only"]),
)
def test_arrays_are_what_the_real_unpickler_gives(
    tmp_path_factory, data, protocol, dtype, layout
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7))
    array = data.draw(hnp.arrays(dtype, shape))
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "transposed" and array.ndim > 2:
        array = array.transpose(1, 2, 0, *range(3, array.ndim))
    elif layout == "sliced" and array.ndim:
        array = array[::2]
    elif layout == "read-only":
        array.flags.writeable = False
    found = round_trip(tmp_path_factory.mktemp("p"), array, protocol)
    assert isinstance(found, LazyArray)
    assert found.shape == array.shape
    assert found.read().dtype == array.dtype
    np.testing.assert_array_equal(found.read(), array)


def test_a_transposed_array_keeps_its_shape(tmp_path_factory) -> None:
    """Protocol 5 writes it as it lies, with the order of its axes."""
    array = np.arange(24.0).reshape(2, 3, 1, 4).transpose(1, 2, 0, 3)
    found = round_trip(tmp_path_factory.mktemp("p"), array, 5)
    assert found.shape == (3, 1, 2, 4)
    np.testing.assert_array_equal(found.read(), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_data_set_survives_with_its_identities(tmp_path, protocol) -> None:
    shared = np.random.default_rng(0).normal(size=(60, 50)).astype(np.float16)
    value = {
        "a": [shared, shared, shared.copy()],
        "label": np.int64(7),
        "f": np.float32(1.5),
        "b": np.bool_(True),
        "text": "é" * 3,
        "long": 1 << 80,
        "set": {1, 2},
        "none": None,
        "tuple": (1.5, True, b"x"),
        "empty": np.zeros(0),
    }
    found = round_trip(tmp_path, value, protocol)
    assert isinstance(found, dict)
    first, second, third = found["a"]
    assert first is second
    assert first is not third
    assert isinstance(first.data, SpilledBytes)
    np.testing.assert_array_equal(third.read(), shared)
    assert [found[key] for key in ("label", "f", "b", "text", "long", "set", "none", "tuple")] == [
        value[key] for key in ("label", "f", "b", "text", "long", "set", "none", "tuple")
    ]
    assert found["empty"].read().shape == (0,)


def test_numpy_1_names_are_known(tmp_path) -> None:
    array = np.arange(6.0)
    data = pickle.dumps(array, 2)
    assert b"numpy._core" in data or b"numpy.core" in data
    for core in (b"numpy.core", b"numpy._core"):
        (tmp_path / "a.pkl").write_bytes(
            data.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", core)
        )
        np.testing.assert_array_equal(read_array(load_pickle(tmp_path / "a.pkl")), array)


def test_python_2_strings(tmp_path) -> None:
    # what Python 2 wrote for {"x": array([1, 2], uint8)}: byte strings where Python 3 has text and
    # bytes
    text = (
        b"\x80\x02}U\x01xcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x02\x01\xfftbs."
    )
    (tmp_path / "a.pkl").write_bytes(text)
    assert {key: plain(value) for key, value in load_pickle(tmp_path / "a.pkl").items()} == {
        "x": [1, 255]
    }


class Attack:
    def __init__(self, function, *args) -> None:
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 1, *PROTOCOLS])
@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (Attack(os.system, "touch pwned"), "(posix|nt).system"),
        (Attack(eval, "1"), "(builtins|__builtin__).eval"),
        (Attack(getattr, "", "join"), "(builtins|__builtin__).getattr"),
        (Attack(open, "pwned", "w"), "open"),
        (Attack(np.load, "x.npy"), "numpy.load"),
        (Attack(bytearray, 1 << 40), "bytearray"),
        (Path("x"), "Path"),
    ],
)
def test_anything_beyond_arrays_is_refused_and_named(
    tmp_path, monkeypatch, attack, name, protocol
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"a\.pkl is refused: its pickle names .*{name}"):
        round_trip(tmp_path, {"annotations": [attack]}, protocol)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pkl"]


def test_objects_and_structures_inside_arrays_are_refused(tmp_path) -> None:
    for array in (
        np.array([{}, []], object),
        np.zeros(2, [("x", "f4")]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "V4"),
    ):
        for protocol in PROTOCOLS:
            with pytest.raises(UserError, match=r"refused: it holds|not a readable pickle"):
                round_trip(tmp_path, array, protocol)


@pytest.mark.parametrize(
    "code",
    [
        # BUILD with state on an allowed class
        b"\x80\x04cbuiltins\ndict\nN}\x8c\x04evil\x8c\x01xs\x86b.",
        b"\x80\x04c_codecs\nencode\n}\x8c\x04evilK\x01sb.",  # ... on one of our functions
        b"\x80\x02cnumpy\nndarray\n}U\x04evilK\x01sb.",  # ... on a marker
        b"\x80\x02\x82\x01.",  # extension registry
        b"\x80\x02K\x01Q.",  # persistent id
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02(ios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02(cos\nsystem\n\x8c\x01xo.",
    ],
)
def test_hand_made_pickles_are_refused(tmp_path, code) -> None:
    pickletools.dis(code, io.StringIO()) if b"\x82" not in code else None  # they are well formed
    (tmp_path / "a.pkl").write_bytes(code)
    with pytest.raises(UserError, match="refused"):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("size", [1 << 31, 1 << 62, (1 << 64) - 1])
@pytest.mark.parametrize("opcode", [pickle.BINBYTES8, pickle.BYTEARRAY8, pickle.BINUNICODE8])
def test_a_length_that_lies_claims_no_memory(tmp_path, opcode, size) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x05" + opcode + struct.pack("<Q", size) + b"abc")
    with pytest.raises(UserError, match="cut short"):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_cut_is_called_cut_short(tmp_path, protocol) -> None:
    value = {
        "annotations": [
            {"keypoint": np.ones((1, 9, 25, 3)), "label": np.int64(i)} for i in range(2)
        ]
    }
    data = pickle.dumps(value, protocol)
    for cut in range(0, len(data), 37):
        (tmp_path / "a.pkl").write_bytes(data[:cut])
        with pytest.raises(UserError, match=r"a\.pkl is cut short"):
            load_pickle(tmp_path / "a.pkl")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5),
    st.sampled_from(PROTOCOLS),
)
def test_garbled_pickles_end_in_one_sentence_or_load(tmp_path_factory, changes, protocol) -> None:
    value = {
        "split": {"train": ["a"]},
        "annotations": [{"keypoint": np.ones((1, 9, 5, 3)), "label": np.int64(1)}],
    }
    data = bytearray(pickle.dumps(value, protocol))
    for place, byte in changes:
        data[place % len(data)] = byte
    path = tmp_path_factory.mktemp("p") / "a.pkl"
    path.write_bytes(data)
    try:
        load_pickle(path)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017 (some still load)


def lying_array(shape: tuple[int, ...], code: str) -> bytes:
    return (
        pickle.dumps(Attack(np.zeros(0).__reduce__()[0], np.ndarray, (0,), b"b"), 2)[:-1]
        + pickle.dumps((1, shape, np.dtype(code), False, b""), 2)[2:-1]
        + b"b."
    )


@pytest.mark.parametrize(
    ("shape", "code"),
    [((0,) * 70, "f8"), ((0, 1 << 62), "f8"), ((1 << 40,), "U0"), ((1 << 40, 2), "S0")],
)
def test_shapes_that_no_array_has_are_refused(tmp_path, shape, code) -> None:
    (tmp_path / "a.pkl").write_bytes(lying_array(shape, code))
    with pytest.raises(UserError, match=r"not a readable pickle|cut short"):
        load_pickle(tmp_path / "a.pkl")


def test_characters_that_do_not_exist_are_refused(tmp_path) -> None:
    data = pickle.dumps(np.array(["ab", "c"]), 2)
    (tmp_path / "a.pkl").write_bytes(data)
    assert parse_list(load_pickle(tmp_path / "a.pkl")) == ["ab", "c"]
    (tmp_path / "a.pkl").write_bytes(data.replace(b"c\0\0\0", b"\x7f\x7f\x7f\x7f"))
    with pytest.raises(UserError, match=r"not a readable pickle|cut short"):
        load_pickle(tmp_path / "a.pkl")
    np.save(tmp_path / "a.npy", np.array(["ab", "c"]))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-8] + b"\x7f" * 8)
    with pytest.raises(UserError, match="characters that do not exist"):
        ArrayStream(tmp_path / "a.npy").read_all()
