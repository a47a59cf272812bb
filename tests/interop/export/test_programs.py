"""Exported programs against the model that they were made of, in the runtimes that people use."""

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import slim_fast
from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.export import main
from slim_fast.interop.export import (
    OPSET,
    describe_export,
    export_torch,
    torch_program,
)
from slim_fast.interop.export.module import ExportModule
from slim_fast.interop.export.verify import check
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import Topology, get_topology
from tests.interop.export.conftest import SMALL, answers, made

# Of the operations that the documentation of TensorRT's ONNX parser lists as supported, those that
# models of ours may have; LayerNormalization since TensorRT 8.6.
IN_TENSORRT = """
    Add And Cast Concat Constant ConstantOfShape Cos Div Equal Exp Expand Flatten Gather Gemm
    Greater GreaterOrEqual Identity LayerNormalization Less LessOrEqual MatMul Max Min Mul Neg
    Not Or Pow Range ReduceMax ReduceMean ReduceMin ReduceSum Reshape Shape Sigmoid Sin Slice
    Softmax Split Sqrt Squeeze Sub Transpose Unsqueeze Where
"""
# (B, T, M)
SIZES = [(1, 8, 1), (3, 8, 2), (1, 32, 3), (2, 64, 1), (2, 120, 2)]


def crowd(
    model, batch: int, frames: int, people: int, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(B, C, T, V, M): people are missing, and where there are two clips nobody is in the last; a
    confidence stays.
    """
    x = torch.randn(batch, model.channels, frames, model.joints, people, dtype=dtype)
    coordinates = len(model.channel_names.rstrip("c"))
    x[0, :coordinates, ..., 1:2] = 0
    if batch > 1:
        x[-1, :coordinates] = 0
    return x


def assert_same(model, run) -> None:
    for size in SIZES:
        x = crowd(model, *size)
        for got, want in zip(run(x), answers(model, x), strict=True):
            assert got.dtype == want.dtype
            torch.testing.assert_close(
                got, want, rtol=1e-4, atol=1e-4 * float(want.float().abs().max())
            )
            assert torch.equal(got == 0, want == 0)


def session(path: Path):
    made = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda x: [torch.from_numpy(answer) for answer in made.run(None, {"x": x.numpy()})]


@pytest.mark.parametrize(
    "make",
    [
        lambda: made(
            SLiMEncoder,
            5,
            "xy",
            EncoderConfig(width=24, depth=3, heads=2, registers=0, patch_frames=4),
        ),
        lambda: made(SLiMEncoder, 17, "xyzc", SMALL),
        lambda: made(SLiMEncoder, 5, config=SMALL, skip_empty=False),
        lambda: made(SLiMClassifier, 3, 5, "xyc", SMALL),
        lambda: made(SLiMClassifier, 3, 5, config=SMALL, pool="cls", people_pool="mean"),
        lambda: made(
            SLiMClassifier, 3, 5, config=SMALL, pool="mean", people_pool="max", skip_empty=False
        ),
        lambda: made(SLiMClassifier, 0, 5, config=SMALL, people_pool="max"),
    ],
    ids=[
        "xy-4-frames",
        "xyzc",
        "zeros-are-a-pose",
        "classifier",
        "cls-mean",
        "mean-max",
        "headless",
    ],
)
def test_dense_is_the_encoder_in_float64(make):
    model = make().double()
    dense = ExportModule(model)
    for size in SIZES:
        x = crowd(model, *size, dtype=torch.float64)
        for (name, axes), got, want in zip(
            dense.axes.items(), dense(x), answers(model, x), strict=True
        ):
            torch.testing.assert_close(
                got, want, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}"
            )
            sizes = {
                "B": size[0],
                "M": size[2],
                f"{model.joints}*t": size[1] // model.config.patch_frames * model.joints,
            }
            assert got.shape == tuple(sizes.get(axis, axis) for axis in axes)


def test_onnx_of_an_encoder(encoder, encoder_onnx):
    assert_same(encoder, session(encoder_onnx))


def test_onnx_of_a_classifier_with_confidences(classifier, classifier_onnx):
    assert_same(classifier, session(classifier_onnx))


def test_torch_program_of_an_encoder(tmp_path):
    model = made(SLiMEncoder, 5, config=SMALL).to(torch.bfloat16).train()
    exported = export_torch(model, tmp_path / "encoder.pt2")
    extra = {torch_program.EXTRA: ""}
    program = torch.export.load(exported.path, extra_files=extra).module()
    assert json.loads(extra[torch_program.EXTRA]) == describe_export(model)
    assert_same(model.float().eval(), program)
    with pytest.raises(AssertionError):
        program(torch.randn(1, 3, 20, 5, 1))
    assert not any(p.requires_grad for p in program.parameters())


def test_command_line_writes_a_torch_program(classifier, tmp_path, capsys):
    classifier.save_pretrained(tmp_path)
    assert main([str(tmp_path), "--to", "torch-export"]) == 0
    said = capsys.readouterr()
    path = tmp_path / "classifier.pt2"
    assert f"{path} ({path.stat().st_size / 1e6:.1f} MB)" in said.out
    assert "(B, 3, 8*t, 17, M)\n" in said.out
    assert "(B, 4)                  off by at most " in said.out
    assert said.err == "Tracing the model ...\nComparing its outputs with the model's ...\n"
    assert_same(classifier, torch.export.load(path).module())
    assert str(Path(slim_fast.__file__).parent).encode() not in path.read_bytes()


def test_onnx_is_one_valid_file_that_says_what_it_is(encoder_onnx, classifier_onnx):
    assert [path.name for path in encoder_onnx.parent.iterdir()] == ["encoder.onnx"]
    for path, opset in ((encoder_onnx, OPSET), (classifier_onnx, 17)):
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        assert [(used.domain, used.version) for used in model.opset_import] == [("", opset)]
        assert model.ir_version == onnx.helper.find_min_ir_version_for(model.opset_import)
        assert {node.op_type for node in model.graph.node} <= set(IN_TENSORRT.split())
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert b"stack_trace" not in path.read_bytes()
    about = {entry.key: entry.value for entry in onnx.load(encoder_onnx).metadata_props}
    assert Topology.from_dict(json.loads(about.pop("topology"))) == get_topology("ntu-25")
    assert about.pop("slim_fast_version")
    assert about == {"channels": "xyz", "patch_frames": "8", "window": "64"}
    about = {entry.key: entry.value for entry in onnx.load(classifier_onnx).metadata_props}
    assert (about["channels"], about["num_classes"]) == ("xyc", "4")
    assert "class_names" not in about
    assert describe_export(SLiMEncoder(5, config=SMALL))["topology"] == "5"


@pytest.mark.parametrize(
    "shape", [(1, 3, 20, 25, 1), (1, 3, 16, 17, 1), (1, 2, 16, 25, 1), (1, 3, 16, 25)]
)
def test_onnx_refuses_clips_that_do_not_fit(encoder_onnx, shape):
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT|cannot be reshaped"):
        session(encoder_onnx)(torch.randn(shape))


def test_check_finds_every_kind_of_error(encoder):
    dense = ExportModule(encoder)

    def changed(**outputs):
        return lambda x: [
            outputs.get(name, lambda v: v)(v) for name, v in zip(dense.axes, dense(x), strict=True)
        ]

    errors = check(encoder, changed(cls=lambda v: v * (1 + 3e-5)))
    assert errors["cls"] == pytest.approx(3e-5, rel=0.2)
    assert errors["patches"] < 1e-5
    for name, change in (
        ("cls", lambda v: v * (1 + 3e-4)),
        ("patches", lambda v: v.masked_fill(v == 0, 0.5) if v.shape[0] > 1 else v),
        ("patches", lambda v: v * torch.nan),
        ("present", lambda v: torch.ones_like(v)),
    ):
        with pytest.raises(UserError, match=rf"{name} is off by .* \(allowed: 1e-04\)"):
            check(encoder, changed(**{name: change}))
    with pytest.raises(UserError, match=r"patches is .* for clips"):
        check(encoder, changed(patches=lambda v: v[:, :, 1:]))
