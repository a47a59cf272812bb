"""Encoders in the runtimes that deploy them: ours, and the masked autoencoder's with the same care.
Each function is called in a process of its own and returns what answers a request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from benchmarks.baselines.mae import MAEConfig
from benchmarks.baselines.transformer import SkeletonEncoder
from benchmarks.suite import encoders
from benchmarks.suite.encoders import MAE_FRAMES, Clips, first_numbers, slim, spread
from benchmarks.suite.runtimes import draw
from slim_fast.interop.runtimes import onnx_session, openvino_model
from slim_fast.interop.runtimes.programs import Kind, Program, programs_of


@dataclass(frozen=True)
class Request:
    """Clips, of which a call has `batch`, and what is wanted of them: "all" tokens or "CLS"."""

    clips: Clips
    batch: int
    tokens: str = "all"

    @property
    def calls(self) -> int:
        return self.clips.clips // self.batch


Answer = tuple[list[float], str]
"""A few numbers, by which encoders that should be the same are compared, and what computed them."""
Ask = Callable[[Request], Answer]


@lru_cache
def clips_of(clips: Clips, batch: int) -> list[Tensor]:
    """(batch, C, T, V, M) for each call."""
    return list(draw(clips, "cpu").split(batch))


def slim_in(backend: str, precision: str, request: Request, skip: bool = True) -> Ask:
    """SLiMEncoder.optimize() with a backend, made for such a request; skip: leave out absent
    people."""
    encoder = slim(request.clips.joints)
    encoder.skip_empty = skip
    first = clips_of(request.clips, request.batch)[0]
    fast = encoder.optimize(backend=backend, precision=precision, clips=first)  # type: ignore[arg-type]

    @torch.no_grad()
    def ask(request: Request) -> Answer:
        kind = "cls" if request.tokens == "CLS" else "last"
        for x in clips_of(request.clips, request.batch):
            cls = fast(x) if kind == "cls" else fast.forward_features(x)["x_norm_clstoken"]
        return first_numbers(cls), fast.answered_by.get(kind, f"torch {precision}")

    return ask


def slim_as_documented(precision: str, request: Request) -> Ask:
    """SLiM in OpenVINO as its documentation has a model deployed for latency: one compiled program
    for all people of a batch, the places of absent ones too, and what it does with threads is its
    own choice.
    """
    openvino = openvino_model.require()
    encoder = slim(request.clips.joints)
    programs = programs_of(encoder.eval().requires_grad_(False))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": openvino_model.PRECISIONS[precision],
    }

    @lru_cache
    def compiled(kind: Kind, shape: tuple[int, ...]) -> Any:
        model = openvino.convert_model(programs[kind].traced)
        model.reshape({model.inputs[0]: list(shape)})
        return openvino_model.core().compile_model(model, "CPU", settings).create_infer_request()

    def ask(request: Request) -> Answer:
        kind: Kind = "cls" if request.tokens == "CLS" else "last"
        for x in clips_of(request.clips, request.batch):
            people = rearrange(x, "b c t v m -> (b m) t v c").contiguous()
            program = compiled(kind, tuple(people.shape))
            *_, normed = program.infer({0: people.numpy()}, share_outputs=True).values()
        cls = torch.from_numpy(normed if kind == "cls" else normed[:, 0])
        return first_numbers(cls), f"openvino {precision}"

    return ask


def mae_in(backend: str, precision: str, request: Request) -> Ask:
    """The masked autoencoder's encoder on all tokens of 120 frames and every place for a person; in
    PyTorch by explicit attention one person at a time, else as our own encoder is run.
    """
    name = f"{backend} {precision}"
    if backend == "torch":
        clips = Clips(request.batch, joints=request.clips.joints)
        run = encoders.mae(clips, precision, "cpu", explicit=True, piece=1)
        return lambda _: (run(), name)
    torch.manual_seed(0)
    model = SkeletonEncoder(MAEConfig(joints=request.clips.joints))
    spread(model)
    model.eval().requires_grad_(False)
    example = torch.zeros(2, MAE_FRAMES, request.clips.joints, 3)
    loader = {"openvino": openvino_model, "onnxruntime": onnx_session}[backend]
    program = loader.load(Program(model, example, ["tokens"]), precision)
    x = Clips(request.batch, joints=request.clips.joints).draw(MAE_FRAMES, "fp32", "cpu")

    def ask(_: Request) -> Answer:
        return first_numbers(program(x.flatten(0, 1))[0]), name

    return ask
