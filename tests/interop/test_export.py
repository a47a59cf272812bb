"""Exported files against the encoder that they were made of, in the runtimes that people use them with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import slim_fast
from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.data.cache import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.evaluation.features import evaluation_clips
from slim_fast.export import main
from slim_fast.interop import exporting
from slim_fast.interop.dense import Dense
from slim_fast.interop.exporting import check, export_onnx, export_torch
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import Topology, get_topology

SMALL = EncoderConfig(width=16, depth=2, heads=2, registers=2)
# (B, T, M)
SIZES = [(1, 8, 1), (3, 8, 2), (1, 32, 3), (2, 64, 1), (2, 120, 2)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_inference.py"


def made(kind, *arguments, **options):
    """A model whose every weight matters, the same whenever it is made."""
    torch.manual_seed(3)
    model = kind(*arguments, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def crowd(model, batch: int, frames: int, people: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(B, C, T, V, M): people are missing, and where there are two clips nobody is in the last; a confidence stays."""
    x = torch.randn(batch, model.channels, frames, model.joints, people, dtype=dtype)
    coordinates = len(model.channel_names.rstrip("c"))
    x[0, :coordinates, ..., 1:2] = 0
    if batch > 1:
        x[-1, :coordinates] = 0
    return x


def answers(model, x: torch.Tensor) -> list[torch.Tensor]:
    """What the encoder or classifier itself says, in the shapes of the exported outputs."""
    with torch.no_grad():
        if isinstance(model, SLiMClassifier):
            return [model(x)]
        out = model.forward_features(x)
    people = out["people"].shape
    return [out["x_norm_clstoken"].view(*people, -1), out["x_norm_patchtokens"].unflatten(0, people), out["people"]]


def assert_same(model, run) -> None:
    for size in SIZES:
        x = crowd(model, *size)
        for got, want in zip(run(x), answers(model, x), strict=True):
            assert got.dtype == want.dtype
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.float().abs().max()))
            assert torch.equal(got == 0, want == 0)


@pytest.fixture(scope="module")
def encoder() -> SLiMEncoder:
    return made(SLiMEncoder, "ntu-25", config=SMALL)


@pytest.fixture(scope="module")
def classifier() -> SLiMClassifier:
    return made(SLiMClassifier, 4, "coco-17", "xyc", SMALL)


@pytest.fixture(scope="module")
def encoder_onnx(encoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "new" / "encoder.onnx"
    exported = export_onnx(encoder, path)
    assert exported.path == path
    assert exported.axes == {
        "x": ("B", 3, "8*t", 25, "M"), "cls": ("B", "M", 16), "patches": ("B", "M", "25*t", 16), "present": ("B", "M")
    }  # fmt: skip
    assert exported.errors.keys() == {"cls", "patches", "present"}
    assert 0 < exported.errors["patches"] < 1e-4
    return path


@pytest.fixture(scope="module")
def classifier_onnx(classifier, tmp_path_factory) -> Path:
    """Through the command line, which finds out that it is a classifier."""
    run = tmp_path_factory.mktemp("run")
    classifier.save_pretrained(run / "encoder")
    assert main([str(run), "--to", "onnx", "--opset", "18", "--no-check"]) == 0
    return run / "classifier.onnx"


def session(path: Path):
    made = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda x: [torch.from_numpy(answer) for answer in made.run(None, {"x": x.numpy()})]


@pytest.mark.parametrize(
    "make",
    [
        lambda: made(SLiMEncoder, 5, "xy", EncoderConfig(width=24, depth=3, heads=2, registers=0, patch_frames=4)),
        lambda: made(SLiMEncoder, 17, "xyzc", SMALL),
        lambda: made(SLiMEncoder, 5, config=SMALL, skip_empty=False),
        lambda: made(SLiMClassifier, 3, 5, "xyc", SMALL),
        lambda: made(SLiMClassifier, 3, 5, config=SMALL, pool="cls", people_pool="mean"),
        lambda: made(SLiMClassifier, 3, 5, config=SMALL, pool="mean", people_pool="max", skip_empty=False),
        lambda: made(SLiMClassifier, 0, 5, config=SMALL, people_pool="max"),
    ],
    ids=["xy-4-frames", "xyzc", "zeros-are-a-pose", "classifier", "cls-mean", "mean-max", "headless"],
)
def test_dense_is_the_encoder_in_float64(make):
    model = make().double()
    dense = Dense(model)
    for size in SIZES:
        x = crowd(model, *size, dtype=torch.float64)
        for (name, axes), got, want in zip(dense.axes.items(), dense(x), answers(model, x), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")
            sizes = {"B": size[0], "M": size[2], f"{model.joints}*t": size[1] // model.patch_size * model.joints}
            assert got.shape == tuple(sizes.get(axis, axis) for axis in axes)


def test_onnx_of_an_encoder(encoder, encoder_onnx):
    assert_same(encoder, session(encoder_onnx))


def test_onnx_of_a_classifier_with_confidences(classifier, classifier_onnx):
    assert_same(classifier, session(classifier_onnx))


def test_torch_program_of_an_encoder(tmp_path):
    model = made(SLiMEncoder, 5, config=SMALL).to(torch.bfloat16).train()
    exported = export_torch(model, tmp_path / "encoder.pt2")
    extra = {exporting.EXTRA: ""}
    program = torch.export.load(exported.path, extra_files=extra).module()
    assert json.loads(extra[exporting.EXTRA]) == exporting.describe_export(model)
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
    assert said.err == "Tracing the model ...\nChecking its answers against the model's ...\n"
    assert_same(classifier, torch.export.load(path).module())
    assert str(Path(slim_fast.__file__).parent).encode() not in path.read_bytes()


def test_onnx_is_one_valid_file_that_says_what_it_is(encoder_onnx, classifier_onnx):
    assert [path.name for path in encoder_onnx.parent.iterdir()] == ["encoder.onnx"]
    for path, opset in ((encoder_onnx, exporting.OPSET), (classifier_onnx, 18)):
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        assert [(used.domain, used.version) for used in model.opset_import] == [("", opset)]
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert b"stack_trace" not in path.read_bytes()
    about = {entry.key: entry.value for entry in onnx.load(encoder_onnx).metadata_props}
    assert Topology.from_dict(json.loads(about.pop("topology"))) == get_topology("ntu-25")
    assert about.pop("slim_fast_version")
    assert about == {"channels": "xyz", "patch_frames": "8"}
    about = {entry.key: entry.value for entry in onnx.load(classifier_onnx).metadata_props}
    assert (about["channels"], about["num_classes"]) == ("xyc", "4")
    assert "class_names" not in about
    assert exporting.describe_export(SLiMEncoder(5, config=SMALL))["topology"] == "5"


@pytest.mark.parametrize("shape", [(1, 3, 20, 25, 1), (1, 3, 16, 17, 1), (1, 2, 16, 25, 1), (1, 3, 16, 25)])
def test_onnx_refuses_clips_that_do_not_fit(encoder_onnx, shape):
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT|cannot be reshaped"):
        session(encoder_onnx)(torch.randn(shape))


def test_check_finds_every_kind_of_error(encoder):
    dense = Dense(encoder)

    def changed(**outputs):
        return lambda x: [outputs.get(name, lambda v: v)(v) for name, v in zip(dense.axes, dense(x), strict=True)]

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


def test_a_wrong_program_is_not_kept(monkeypatch, tmp_path):
    model = SLiMEncoder(2, config=EncoderConfig(width=4, depth=1, heads=2))
    load = exporting._torch_program
    monkeypatch.setattr(exporting, "_torch_program", lambda content: lambda x: [2 * v for v in load(content)(x)])
    path = tmp_path / "encoder.pt2"
    path.write_text("before")
    with pytest.raises(UserError, match="cls is off by"):
        export_torch(model, path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_write_leaves_what_was_there(make_encoder, tmp_path, monkeypatch, stop):
    path = tmp_path / "encoder.pt2"
    path.write_text("before")

    def fail(*_, **__):
        assert len(list(tmp_path.iterdir())) == 2, "the new file is begun"
        raise stop

    monkeypatch.setattr(exporting, "check", fail)
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else UserError):
        export_torch(make_encoder(), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


def test_ctrl_c(encoder, tmp_path, monkeypatch, capsys):
    encoder.save_pretrained(tmp_path / "encoder")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.export, "export", interrupt)
    assert main([str(tmp_path), "--to", "torch-export"]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(make_encoder, monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf'needs {name}: pip install "slim_fast\[onnx\]"'):
        export_onnx(make_encoder(), tmp_path / "encoder.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_said_before_any_work(make_encoder, monkeypatch, tmp_path):
    def work(*_, **__):
        raise AssertionError("traced")

    monkeypatch.setattr(torch.export, "export", work)
    monkeypatch.setattr(torch.onnx, "export", work)
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "encoder.onnx"):
        for export in (export_onnx, export_torch):
            with pytest.raises(UserError, match=r"Could not write .*choose another path"):
                export(make_encoder(), path)
    with pytest.raises(UserError, match="opset 17 is too old: choose 18"):
        export_onnx(make_encoder(), tmp_path / "encoder.onnx", opset=17)
    with pytest.raises(UserError, match=r"Export the encoder that optimize\(\) was called on"):
        export_torch(make_encoder().optimize(torch.float32), tmp_path / "encoder.pt2")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_opset_that_torch_does_not_know(tmp_path):
    model = SLiMEncoder(2, config=EncoderConfig(width=4, depth=1, heads=2))
    with pytest.raises(UserError, match=r"can't write ONNX opset 99"):
        export_onnx(model, tmp_path / "encoder.onnx", opset=99)
    assert not list(tmp_path.iterdir())


def test_bad_arguments_of_the_command_line(tmp_path, capsys):
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        ([str(tmp_path / "broken.pth"), "--to", "onnx"], "cannot be read"),
        ([str(tmp_path / "empty"), "--to", "onnx"], "no encoder folder"),
        (["no such/run/at/all", "--to", "onnx"], "There is no folder or file"),
        ([str(tmp_path), "--to", "torch-export", "--opset", "20"], "--opset is for --to onnx"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert says in error
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["broken.pth", "empty"]


def run_example(*arguments: Path) -> str:
    """In a Python that can import neither torch nor slim_fast."""
    block = "import sys; sys.modules.update(torch=None, slim_fast=None, slim_kernels=None); del sys.argv[0]; "
    run = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-c", block + run, str(EXAMPLE), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("frames", [30, 150])
def test_the_example_needs_no_torch(encoder, encoder_onnx, tmp_path, frames):
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 40
    clip = (3 + np.random.default_rng(0).normal(0, 0.4, (frames, 25, 3, 2))).astype(np.float32)
    clip[: frames // 4, ..., 0] = clip[frames // 5 : frames // 3, ..., 1] = 0  # the first person comes later
    clip[frames // 5 : frames // 4] = 0  # nobody
    np.save(tmp_path / "clip.npy", clip)
    printed = run_example(encoder_onnx, tmp_path / "clip.npy", tmp_path / "answers.npz")
    assert printed == "cls (1, 2, 16), patches (1, 2, 200, 16), present (1, 2)\n"
    got = np.load(tmp_path / "answers.npz")
    with CacheWriter(tmp_path / "cache", get_topology("ntu-25"), "xyz") as writer:
        writer.add(Clip(clip, "clip"))
    x = evaluation_clips(ClipCache.open(tmp_path / "cache"), np.arange(1)).permute(0, 4, 2, 3, 1)
    for name, want in zip(("cls", "patches", "present"), answers(encoder, x), strict=True):
        np.testing.assert_allclose(got[name], want.numpy(), rtol=1e-3, atol=1e-4 * float(want.float().abs().max()))


def test_the_example_prints_the_top_classes(classifier, classifier_onnx, tmp_path):
    clip = np.random.default_rng(1).normal(0, 0.4, (64, 17, 3)).astype(np.float32)
    np.savez(tmp_path / "clip.npz", positions=clip)
    lines = run_example(classifier_onnx, tmp_path / "clip.npz", tmp_path / "answers.npz").splitlines()
    logits = np.load(tmp_path / "answers.npz")["logits"][0]
    order = np.argsort(-logits)
    assert lines == ["logits (1, 4)", *(f"class {k}: logit {logits[k]:.2f}" for k in order)]
    named = onnx.load(classifier_onnx)
    classifier.name_classes(names := ["walk", "wave", "jump", "fall"])
    onnx.helper.set_model_props(named, exporting.describe_export(classifier))
    onnx.save(named, tmp_path / "named.onnx")
    lines = run_example(tmp_path / "named.onnx", tmp_path / "clip.npz", tmp_path / "answers.npz").splitlines()
    assert lines[1:] == [f"class {names[k]}: logit {logits[k]:.2f}" for k in order]
    classifier.name_classes(None)
