"""Encoders in OpenVINO and onnxruntime answer as in PyTorch, or say why they do not."""

import copy
import logging
import sys

import pytest
import torch

from slim_fast import SLiMClassifier, UserError
from slim_fast.interop.export import export_torch
from slim_fast.interop.runtimes import choose, onnx_session, openvino_model
from slim_fast.interop.runtimes.programs import LIMITS, programs_of
from tests.interop.runtimes.small import is_near, made

WAYS = [
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
]
PACKAGES = {"openvino": ["openvino"], "onnxruntime": ["onnx", "onnxruntime"]}


@pytest.fixture(scope="module", params=WAYS, ids=" ".join)
def pair(request, encoder):
    """The encoder in a runtime, and how far off its answers may be."""
    backend, precision = request.param
    for name in PACKAGES[backend]:
        pytest.importorskip(name)
    return encoder.optimize(backend=backend, precision=precision), LIMITS[precision]


def crowd(frames: int = 24) -> torch.Tensor:
    """(2, 3, frames, 5, 3): two people in the first clip, one in the other."""
    x = torch.randn(2, 3, frames, 5, 3)
    x[0, ..., 1] = x[1, ..., 0] = x[1, ..., 2] = 0
    return x


PRESENT = torch.tensor([True, False, True, False, True, False])


def test_answers_are_those_of_float32(pair, encoder):
    fast, limit = pair
    for x in (crowd(), crowd(8)[:1], torch.zeros(1, 3, 8, 5, 2), torch.randn(7, 3, 8, 5, 1)):
        assert is_near(fast(x), encoder(x), limit)
        got, want = fast.forward_features(x), encoder.forward_features(x)
        assert got.keys() == want.keys()
        assert torch.equal(got["people"], want["people"])
        for name in want.keys() - {"masks", "people"}:
            assert is_near(got[name], want[name], limit)
    assert not fast(crowd())[~PRESENT].any()


def test_clips_of_several_lengths_and_people(pair, encoder):
    fast, limit = pair
    clips = [crowd(), torch.randn(1, 3, 8, 5, 2)]
    for got, want in zip(
        fast.forward_features(clips), encoder.forward_features(clips), strict=True
    ):
        assert is_near(got["x_norm_patchtokens"], want["x_norm_patchtokens"], limit)


def test_what_no_runtime_has_is_left_to_pytorch(pair, encoder):
    fast, limit = pair
    x, masks = crowd(), torch.rand(6, 15) < 0.5
    assert is_near(fast(x, masks), encoder(x, masks), max(limit, LIMITS["bf16"]))
    layers = fast.get_intermediate_layers(x, 2, return_class_token=True)
    for got, want in zip(
        layers, encoder.get_intermediate_layers(x, 2, return_class_token=True), strict=True
    ):
        assert is_near(got[0], want[0], LIMITS["bf16"])


def test_absent_people_are_not_computed(pair, monkeypatch):
    fast, _ = pair
    seen = []
    for kind, run in fast._runtimes._runs.items():
        count = lambda x, run=run: seen.append(len(x)) or run(x)  # noqa: E731
        monkeypatch.setitem(fast._runtimes._runs, kind, count)
    fast(crowd())
    fast.forward_features(crowd())
    fast(torch.zeros(1, 3, 8, 5, 2))
    assert seen == [3, 3]


def test_a_classifier_answers_too():
    pytest.importorskip("openvino")
    classifier = made(SLiMClassifier, 4, "coco-17", "xyc")
    fast = classifier.optimize(backend="openvino", precision="fp32")
    x = torch.randn(2, 3, 16, 17, 2)
    torch.testing.assert_close(fast(x), classifier(x), rtol=1e-3, atol=1e-3)


def doubled(loader):
    load = loader.load

    def load_doubled(program, precision):
        run = load(program, precision)
        return lambda x: [2 * y for y in run(x)]

    return load_doubled


def test_a_wrong_answer_is_refused_or_left_out(encoder, monkeypatch, caplog):
    for name in ("openvino", "onnx", "onnxruntime"):
        pytest.importorskip(name)
    monkeypatch.setattr(openvino_model, "load", doubled(openvino_model))
    with pytest.raises(UserError, match=r"openvino fp32 is off by .* choose another backend"):
        encoder.optimize(backend="openvino", precision="fp32")
    with caplog.at_level(logging.INFO, "slim_fast"):
        fast = encoder.optimize(backend="auto", precision="fp32")
    assert "openvino fp32 is off by" in caplog.text
    assert not any("openvino" in name for name in fast.answered_by.values())


def test_a_length_that_a_runtime_gets_wrong_is_left_to_pytorch(encoder, caplog):
    for name in PACKAGES["onnxruntime"]:
        pytest.importorskip(name)
    fast = encoder.optimize(backend="onnxruntime")
    right, calls = fast._runtimes._runs["cls"], []

    def run(clips):
        calls.append(clips.shape[1])
        return [2 * y if clips.shape[1] == 32 else y for y in right(clips)]

    fast._runtimes._runs["cls"] = run
    for frames in (32, 40, 32, 40):
        x = crowd(frames)
        assert is_near(fast(x), encoder(x), LIMITS["bf16"])
    assert calls == [32, 40, 40]
    assert "onnxruntime fp32 is off by 1.0e+00 of PyTorch's answer for clips of 32" in caplog.text


@pytest.mark.parametrize("best", ["torch", "onnxruntime"])
def test_the_fastest_of_each_kind_is_taken_and_said(encoder, monkeypatch, caplog, best):
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name)
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    asked = []

    def times(sides):
        for run in sides.values():
            run()
        asked.append(list(sides))
        fastest = best if len(asked) == 1 else "torch"
        return {name: 0.01 if name.startswith(fastest) else 0.02 for name in sides}

    monkeypatch.setattr(choose, "time_sides", times)
    with caplog.at_level(logging.INFO, "slim_fast"):
        fast = encoder.optimize(backend="auto", precision="fp32", clips=crowd())
    assert asked == [["torch fp32", "onnxruntime fp32"]] * 2
    assert fast.answered_by == {"cls": f"{best} fp32", "last": "torch fp32"}
    assert f"CLS of 2 clips by {best} fp32 (torch fp32" in caplog.text
    assert 'pip install "slim_fast[openvino]"' in caplog.text
    x = crowd()
    assert is_near(fast(x), encoder(x), LIMITS["fp32"])
    assert set(fast._runtimes._runs) == ({"cls"} if best != "torch" else set())


@pytest.mark.parametrize(
    ("backend", "name", "extra"),
    [("openvino", "openvino", "openvino"), ("onnxruntime", "onnxruntime", "onnx")],
)
def test_missing_packages_are_named(encoder, monkeypatch, backend, name, extra):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf'needs {name}: pip install "slim_fast\[{extra}\]"'):
        encoder.optimize(backend=backend)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "tensorrt"}, "backend='tensorrt'; use auto, torch, openvino, onnxruntime"),
        ({"precision": "fp8"}, "precision='fp8'; use auto, fp32"),
        ({"precision": "int8"}, 'torch does not compute in int8: use backend="onnxruntime"'),
        ({"backend": "openvino", "precision": "int8"}, "openvino does not compute in int8"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "does not compute in bf16: choose fp32"),
        ({"backend": "openvino", "dtype": torch.float32}, "dtype is PyTorch's"),
        ({"precision": "fp32", "dtype": torch.float32}, "dtype is PyTorch's"),
        ({"backend": "auto", "cuda_graphs": True}, "cuda_graphs=True is PyTorch's"),
    ],
)
def test_what_does_not_go_together_is_said(encoder, options, says):
    with pytest.raises(UserError, match=says):
        encoder.optimize(**options)


def test_hooks_are_named(encoder):
    hooked = copy.deepcopy(encoder)
    hooked.blocks[0].register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match="onnxruntime calls no hooks: remove them first"):
        hooked.optimize(backend="onnxruntime")


def test_it_stays_what_it_is(tmp_path, encoder):
    for name in PACKAGES["onnxruntime"]:
        pytest.importorskip(name)
    fast = encoder.optimize(backend="onnxruntime")
    with pytest.raises(UserError, match="can't be copied"):
        copy.deepcopy(fast)
    with pytest.raises(UserError, match=r"optimize\(\) was called on"):
        fast.optimize(backend="onnxruntime")
    with pytest.raises(UserError, match=r"Export the encoder that optimize\(\) was called on"):
        export_torch(fast, tmp_path / "encoder.pt2")


def test_a_slow_side_is_timed_once_and_the_others_in_turn():
    calls = {"quick": 0, "slow": 0}
    now = [0.0]

    def run(name, seconds):
        calls[name] += 1
        now[0] += seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose.time, "perf_counter", lambda: now[0])
        sides = {"quick": lambda: run("quick", 0.1), "slow": lambda: run("slow", 1.0)}
        seconds = choose.time_sides(sides)
    assert seconds == pytest.approx({"quick": 0.1, "slow": 1.0})
    assert calls["slow"] == 2
    assert calls["quick"] > 2


def test_onnxruntime_takes_pytorchs_threads(encoder, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    options = []
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda content, given, **more: options.append(given) or session(content, given, **more),
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    onnx_session.load(programs_of(encoder)["cls"], "fp32")
    assert options[0].intra_op_num_threads == 3
