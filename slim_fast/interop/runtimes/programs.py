"""What other runtimes compute: the answers of an encoder for people folded into the batch."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from slim_fast.errors import UserError
from slim_fast.interop.tracing import quiet
from slim_fast.model.encoder import Encoder
from slim_fast.model.padded import encode_padded, encode_padded_cls
from slim_fast.training.output import logger

Kind = Literal["cls", "last"]
"""cls: CLS of the last block through the final norm, (N, D). last: all tokens of the last block,
(N, tokens, D), before and after that norm.
"""
KINDS: dict[Kind, tuple[str, ...]] = {"cls": ("cls",), "last": ("raw", "normed")}
"""With their outputs."""
Run = Callable[[Tensor], Sequence[Tensor]]
"""Clips (N, T, V, C) of N >= 1 people, float32, to the outputs of a kind, float32."""
Function = Callable[[list[Tensor], list[Tensor | None]], list[list[Tensor]]]
LIMITS = {"fp32": 1e-4, "bf16": 0.05, "int8": 0.15}
"""Largest error of a kind of answer by precision: ‖got - want‖ / ‖want‖ over all clips."""
_OPSET = 20


class _Cls(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        return (self.encoder.norm(encode_padded_cls(self.encoder, clips)),)


class _Last(_Cls):
    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        (h,) = encode_padded(self.encoder, clips, None, (self.encoder.config.depth - 1,))
        return h, self.encoder.norm(h)


class Program:
    """A module of clips (N, T, V, C) in float32, traced when first asked for; N and T dynamic.

    example: clips to trace with. outputs: their names. calibration: clips whose activations have
    the range that int8 rounds to; None: int8 finds the range anew in each call.
    Traced by torch.jit: programs of torch.export run no faster, and take ten times as long to make.
    """

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        outputs: Sequence[str],
        calibration: Tensor | None = None,
    ) -> None:
        self._module, self._example, self._outputs = module, example, list(outputs)
        self.calibration = calibration

    @property
    def free_shape(self) -> list[int]:
        """(N, T, V, C), -1 where it is dynamic."""
        return [-1, -1, *self._example.shape[2:]]

    @cached_property
    def traced(self) -> torch.jit.ScriptModule:
        """As torch.jit has it."""
        with quiet(), torch.no_grad():
            return torch.jit.trace(self._module, (self._example,), check_trace=False)

    @cached_property
    def onnx(self) -> bytes:
        """An ONNX file's content. Needs onnx."""
        content, names = io.BytesIO(), self._outputs
        with quiet():
            torch.onnx.export(
                self.traced,
                (self._example,),
                content,  # type: ignore[arg-type]  # which files it takes, its hints do not say
                dynamo=False,
                opset_version=_OPSET,
                input_names=["x"],
                output_names=names,
                dynamic_axes={"x": {0: "N", 1: "T"}, **{name: {0: "N"} for name in names}},
            )
        return content.getvalue()


def programs_of(encoder: Encoder, calibration: Tensor | None = None) -> dict[Kind, Program]:
    """Each kind of answer of an encoder whose weights are float32; calibration: see `Program`."""
    modules: dict[Kind, nn.Module] = {"cls": _Cls(encoder), "last": _Last(encoder)}
    frames = 4 * encoder.config.patch_frames
    example = torch.zeros(3, frames, encoder.joints, encoder.channels)
    return {kind: Program(m, example, KINDS[kind], calibration) for kind, m in modules.items()}


class Runtimes:
    """Answers by other runtimes, where there is one for what is asked; else by PyTorch.

    runs: for a kind. names: which runtime, in which precision, for messages and `answered_by`.
    limits: how far an answer may be from PyTorch's, ‖got - want‖ / ‖want‖; the first of every
    number of frames is compared, because runtimes compile each anew, and of every choice of
    programs where a run has several (`share`).
    """

    def __init__(
        self,
        runs: Mapping[Kind, Run],
        names: Mapping[Kind, str],
        limits: Mapping[Kind, float] | None = None,
    ) -> None:
        self._runs, self.names, self._limits = dict(runs), dict(names), dict(limits or {})
        self._is_right: dict[tuple[Any, ...], bool] = {}

    @classmethod
    def of(cls, parts: Mapping[Kind, "Runtimes"], names: Mapping[Kind, str]) -> "Runtimes":
        """Each kind's answers from another one, or from PyTorch where that has none."""
        runs = {kind: part._runs[kind] for kind, part in parts.items() if kind in part._runs}
        return cls(runs, names, {kind: parts[kind]._limits.get(kind, math.inf) for kind in runs})

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self, run: Function, clips: list[Tensor], masks: list[Tensor | None], key: Any
    ) -> list[list[Tensor]]:
        """The outputs of run(clips, masks), as `CudaGraphs` has it; masks are left to `run`."""
        kind = key[0]
        others = any(mask is not None for mask in masks) or not all(map(len, clips))
        if not isinstance(kind, str) or kind not in self._runs or others or is_tracing():
            return run(clips, masks)
        with torch.no_grad():
            groups = [self._ask(kind, x, run) for x in clips]
        return [list(layer) for layer in zip(*groups, strict=True)]

    def _ask(self, kind: Kind, clips: Tensor, run: Function) -> Sequence[Tensor]:
        """The layers for one group of clips."""
        answer = self._runs[kind]
        chosen = answer.share(len(clips)) if hasattr(answer, "share") else ()
        key = kind, clips.shape[1], *chosen
        if self._is_right.get(key, True):
            got = answer(clips.detach().float().contiguous())
            if key in self._is_right or kind not in self._limits:
                return got
        want = [layer for (layer,) in run([clips], [None])]
        if key not in self._is_right:
            off = math.sqrt(
                sum(float((g - w).square().sum()) for g, w in zip(got, want, strict=True))
            )
            size = math.sqrt(sum(float(w.square().sum()) for w in want))
            self._is_right[key] = off <= self._limits[kind] * size
            if self._is_right[key]:
                return got
            logger.warning(
                f"{self.names[kind]} is off by {off / size:.1e} of PyTorch's answer for clips "
                f"of {clips.shape[1]} frames: PyTorch answers those."
            )
        return want

    def __deepcopy__(self, _: object) -> NoReturn:
        raise UserError(
            "An optimized encoder can't be copied: call optimize() of the original once more."
        )

    __reduce_ex__ = __deepcopy__
