"""The ways in which other code runs our encoder: as it is loaded, optimised, compiled, exported;
and SLiM's in eager PyTorch, which they are measured against. Each function is called in a process
of its own and returns what one inference runs: clips (B, C, T, V, M) in, the CLS of each person
out.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from einops import rearrange

from benchmarks.baselines import eager_encoder
from benchmarks.suite.encoders import PRECISIONS, Clips, first_numbers, slim
from slim_fast.interop.export import export_onnx, export_torch

Run = Callable[[], list[float]]


def draw(clips: Clips, device: str) -> torch.Tensor:
    """(B, C, T, V, M) in float32, as pose sources give it."""
    x = clips.draw(clips.frames, "fp32", device)
    return rearrange(x, "b m t v c -> b c t v m").contiguous()


def eager(clips: Clips, precision: str, device: str) -> Run:
    """SLiM's encoder in eager PyTorch with SDPA, for all slots."""
    model = eager_encoder.Encoder(clips.joints)
    model.load_state_dict(slim(clips.joints).to(device).state_dict())
    model.eval().to(device, PRECISIONS[precision])
    x = draw(clips, device)

    @torch.no_grad()
    def run() -> list[float]:
        tokens = model(rearrange(x, "b c t v m -> (b m) t v c").to(PRECISIONS[precision]))
        return first_numbers(tokens[:, 0].float())

    return run


def loaded(clips: Clips, precision: str, device: str) -> Run:
    """As from_pretrained gives it."""
    return _torch(slim(clips.joints).to(device).to(PRECISIONS[precision]), clips, device)


def optimized(clips: Clips, precision: str, device: str) -> Run:
    """optimize()."""
    return _torch(slim(clips.joints).to(device).optimize(PRECISIONS[precision]), clips, device)


def graphed(clips: Clips, precision: str, device: str) -> Run:
    """optimize(cuda_graphs=True)."""
    model = slim(clips.joints).to(device)
    return _torch(model.optimize(PRECISIONS[precision], cuda_graphs=True), clips, device)


def compiled(clips: Clips, precision: str, device: str) -> Run:
    """torch.compile as a whole."""
    model = slim(clips.joints).to(device).to(PRECISIONS[precision])
    return _torch(torch.compile(model, fullgraph=True, dynamic=False), clips, device)


def _torch(model: Callable[[torch.Tensor], torch.Tensor], clips: Clips, device: str) -> Run:
    x = draw(clips, device)

    @torch.no_grad()
    def run() -> list[float]:
        return first_numbers(model(x))

    return run


def exported(clips: Clips, precision: str, device: str) -> Run:
    """The torch.export program."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.pt2"
        export_torch(slim(clips.joints), path)
        module = torch.export.load(path).module().to(device)
    return _torch(lambda x: module(x)[0].flatten(0, 1), clips, device)


def onnx(clips: Clips, precision: str, device: str) -> Run:
    """The ONNX file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        export_onnx(slim(clips.joints), path)
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    feeds = {session.get_inputs()[0].name: draw(clips, "cpu").numpy()}
    return lambda: first_numbers(torch.from_numpy(session.run(["cls"], feeds)[0]).flatten(0, 1))
