"""The example that runs an ONNX file with numpy and onnxruntime alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import slim_fast
from slim_fast.interop.export import (
    describe_export,
)
from tests.interop.export.conftest import answers

EXAMPLE = Path(__file__).parents[3] / "examples" / "onnx_inference.py"


def run_example(*arguments: Path) -> str:
    """In a Python that can import neither torch nor slim_fast."""
    block = (
        "import sys; sys.modules.update(torch=None, slim_fast=None, slim_kernels=None); "
        "del sys.argv[0]; "
    )
    run = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-c", block + run, str(EXAMPLE), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("frames", [30, 150])
def test_the_example_needs_no_torch(encoder, encoder_onnx, tmp_path, frames):
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 40
    clip = (3 + np.random.default_rng(0).normal(0, 0.4, (frames, 25, 3, 2))).astype(np.float32)
    # the first person comes later, so that the second is the one who is there longest
    clip[: frames // 3, ..., 0] = 0
    clip[frames * 3 // 10 : frames * 2 // 5, ..., 1] = 0  # nobody, and then the first alone
    clip[frames // 2 :, 3:6, :, 0] = clip[frames // 2, 7, 0] = 0  # joints that were not detected
    clip[:, 9, 1, 1] = np.nan
    np.save(tmp_path / "clip.npy", clip)
    printed = run_example(encoder_onnx, tmp_path / "clip.npy", tmp_path / "answers.npz")
    assert printed == "cls (1, 2, 16), patches (1, 2, 200, 16), present (1, 2)\n"
    got = np.load(tmp_path / "answers.npz")
    x = slim_fast.preprocess(clip, "ntu-25")
    for name, want in zip(("cls", "patches", "present"), answers(encoder, x), strict=True):
        np.testing.assert_allclose(
            got[name], want.numpy(), rtol=1e-3, atol=1e-4 * float(want.float().abs().max())
        )


def test_the_example_prints_the_top_classes(classifier, classifier_onnx, tmp_path):
    clip = np.random.default_rng(1).normal(0, 0.4, (64, 17, 3)).astype(np.float32)
    np.savez(tmp_path / "clip.npz", positions=clip)
    lines = run_example(
        classifier_onnx, tmp_path / "clip.npz", tmp_path / "answers.npz"
    ).splitlines()
    logits = np.load(tmp_path / "answers.npz")["logits"][0]
    order = np.argsort(-logits)
    assert lines == ["logits (1, 4)", *(f"class {k}: logit {logits[k]:.2f}" for k in order)]
    named = onnx.load(classifier_onnx)
    classifier.name_classes(names := ["walk", "wave", "jump", "fall"])
    onnx.helper.set_model_props(named, describe_export(classifier))
    onnx.save(named, tmp_path / "named.onnx")
    lines = run_example(
        tmp_path / "named.onnx", tmp_path / "clip.npz", tmp_path / "answers.npz"
    ).splitlines()
    assert lines[1:] == [f"class {names[k]}: logit {logits[k]:.2f}" for k in order]
    classifier.name_classes(None)
