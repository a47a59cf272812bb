"""onnxruntime's int8, with ranges of activations found in each call, or in clips before."""

import logging

import pytest
import torch

from slim_fast import SLiMEncoder, UserError
from slim_fast.interop.runtimes.programs import LIMITS
from slim_fast.model.encoder import EncoderConfig

INT8 = {"backend": "onnxruntime", "precision": "int8"}


@pytest.fixture(scope="module")
def encoder() -> SLiMEncoder:
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name)
    torch.manual_seed(3)
    made = SLiMEncoder(5, config=EncoderConfig(width=16, depth=2, heads=2, registers=2, window=16))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made.eval().requires_grad_(False)


def clips(count: int, scale: float = 1.0) -> torch.Tensor:
    """(count, 3, 16, 5, 2), the second person of the first clip absent."""
    x = scale * torch.randn(count, 3, 16, 5, 2)
    x[0, ..., 1] = 0
    return x


def test_calibrated_answers_do_not_depend_on_the_others_of_a_call(encoder):
    x = clips(5)
    plain, want = encoder.optimize(**INT8), encoder(x)
    for like in (clips(30), clips(30).double()):
        fast = encoder.optimize(**INT8, calibration=like)
        assert fast.answered_by == {"cls": "onnxruntime int8", "last": "onnxruntime int8"}
        got = fast(x)
        assert 0 < (got - want).norm() < LIMITS["int8"] * want.norm()
        assert torch.equal(torch.cat([fast(clip[None]) for clip in x]), got)
    assert not torch.equal(torch.cat([plain(clip[None]) for clip in x]), plain(x))


def test_clips_beyond_the_calibrated_range_are_left_to_pytorch(encoder, caplog):
    fast, x = encoder.optimize(**INT8, calibration=clips(30, 0.01)), clips(3)
    with caplog.at_level(logging.WARNING, "slim_fast"):
        got = fast(x)
    assert "onnxruntime int8 is off by" in caplog.text
    assert (got - encoder(x)).norm() < LIMITS["bf16"] * got.norm()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "onnxruntime", "calibration": clips(2)}, "precision='auto': leave calib"),
        ({**INT8, "calibration": torch.zeros(2, 3, 16, 5, 2)}, "nobody is in the clips of calib"),
        (
            {**INT8, "calibration": torch.randn(2, 3, 16, 4, 2)},
            r"got \(2, 3, 16, 4, 2\)",
        ),
    ],
)
def test_calibration_that_cannot_work_is_named(encoder, options, says):
    with pytest.raises(UserError, match=says):
        encoder.optimize(**options)
