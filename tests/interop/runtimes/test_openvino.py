"""OpenVINO: who is computed together, and what it leaves in the process."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from slim_fast import SLiMEncoder
from slim_fast.interop.runtimes.programs import LIMITS
from slim_fast.model.encoder import EncoderConfig
from tests.interop.runtimes.small import is_near

pytest.importorskip("openvino")


def on_two_threads(encoder: SLiMEncoder) -> SLiMEncoder:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        return encoder.optimize(backend="openvino", precision="fp32")
    finally:
        torch.set_num_threads(before)


def test_people_have_threads_of_their_own(encoder):
    fast = on_two_threads(encoder)
    x = torch.randn(5, 3, 8, 5, 1)
    assert is_near(fast(x), encoder(x), LIMITS["fp32"])
    run = fast._runtimes._runs["cls"]
    sizes = [len(run._requests(torch.Size([8, 5, 3]), calls, 1)[0]) for calls in (1, 2)]
    assert sizes == [1, 4]  # two that compute, two that stand ready


def test_an_answer_stays_when_another_one_is_asked(encoder):
    """Requests write into the answers themselves."""
    fast = encoder.optimize(backend="openvino", precision="fp32")
    clips = [torch.randn(7, 3, 8, 5, 1) for _ in range(3)]
    answers = [fast.forward_features(x)["x_norm_patchtokens"] for x in clips]
    for x, answer in zip(clips, answers, strict=True):
        assert is_near(answer, encoder.forward_features(x)["x_norm_patchtokens"], LIMITS["fp32"])


def test_a_request_that_fails_leaves_the_others_right(encoder, monkeypatch):
    fast = on_two_threads(encoder)
    x, run = torch.randn(5, 3, 8, 5, 1), fast._runtimes._runs["cls"]
    want = fast(x)
    count, tensor = iter(range(100)), run._openvino.Tensor

    def broken(*given, **more):
        if next(count) == 4:
            raise MemoryError
        return tensor(*given, **more)

    monkeypatch.setattr(run, "_openvino", type("OpenVINO", (), {"Tensor": staticmethod(broken)}))
    with pytest.raises(MemoryError):
        fast(x)
    assert torch.equal(fast(x), want)


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="fused on x86-64 alone"
)
def test_rotary_embedding_is_fused():
    """A fusion by its form, which would be lost without a word."""
    config = EncoderConfig(width=64, depth=2, heads=2, registers=1, window=8)
    encoder = SLiMEncoder(5, config=config)
    fast = encoder.optimize(backend="openvino", precision="fp32")
    requests, _ = fast._runtimes._runs["last"]._requests(torch.Size([16, 5, 3]), 1, 1)
    operations = requests[0].get_compiled_model().get_runtime_model().get_ordered_ops()
    kinds = [str(each.get_rt_info()["layerType"].astype(str)) for each in operations]
    assert kinds.count("RoPE") == 2 * config.depth


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_thread_takes_people_two_by_two(encoder, precision):
    fast = encoder.optimize(backend="openvino", precision=precision)
    run = fast._runtimes._runs["cls"]
    shares = [run.share(people) for people in (1, 2, 5)]
    assert shares == [{(1, 1): 1}, {(1, 2): 2}, {(1, 2): 4, (1, 1): 1}]
    for people in (1, 2, 5):
        x = torch.randn(people, 3, 8, 5, 1)
        assert is_near(fast(x), encoder(x), LIMITS[precision])
    assert [key[2:] for key in fast._runtimes._is_right if key[:2] == ("cls", 8)][-3:] == [
        *map(tuple, shares)
    ]


CTRL_C = """
import gc, os, signal, sys
from slim_fast import SLiMEncoder
from slim_fast.interop.runtimes import check
from slim_fast.model.encoder import EncoderConfig
check._SHAPES = check._SHAPES[:1]
small = EncoderConfig(width=16, depth=1, heads=2, registers=1, window=8)
encoders = [SLiMEncoder(5, config=small).optimize(backend="openvino") for _ in range(2)]
assert "openvino_telemetry" not in sys.modules
while encoders:
    del encoders[0]
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_after_encoders_are_gone_and_nothing_is_sent(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (done.stdout, done.returncode) == ("stopped\n", 0), done.stderr
    assert not list(tmp_path.rglob("*openvino*"))  # where its telemetry keeps an identity
