"""The operations of a training step and of inference, ours and eager PyTorch's."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

import torch
from slim_kernels.cost.builds import Sequences
from slim_kernels.runtime.dispatch import VARIABLE
from slim_kernels.runtime.target import emulated_target
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from benchmarks.baselines import eager_encoder
from benchmarks.baselines.eager_slim import EagerSLiM, make_optimizer
from benchmarks.predicted.recording import NOTHING, Operation, Recorder
from benchmarks.suite.clips import write_random_cache
from benchmarks.suite.eager import eager_config
from slim_fast.data.cache import ClipCache
from slim_fast.model.encoder import Encoder
from slim_fast.model.slim import ModelConfig, Network
from slim_fast.skeletons import get_topology
from slim_fast.training import trainer as training
from slim_fast.training.config import PretrainConfig
from slim_fast.training.trainer import Trainer
from slim_fast.views.pipeline import ViewBatch, ViewGroup, ViewSampler
from slim_fast.views.store import FrameStore

JOINTS, CHANNELS, CLIPS, FRAMES, PEOPLE = 25, 3, 1024, 64, 2
TEMPERATURE = 0.05
Attention = Literal["all", "visible"]


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Tensors hold no data, and operations on them are those of a GPU of capability 9.0. They lie
    on the CPU all the same: without a GPU PyTorch indexes no tensor that says it lies on one.
    """
    answers: dict[str, Callable[..., Any]] = {
        "slim_kernels.runtime.arguments.contents_checked": lambda x: False,
        "slim_kernels.embed_tokens.contents_checked": lambda x: False,
        "torch.utils._foreach_utils._has_foreach_support": lambda tensors, device: True,
        "torch.nn.utils.clip_grad._has_foreach_support": lambda tensors, device: True,
        # redraws by what it drew
        "torch.nn.init.trunc_normal_": lambda x, **_: x,
        # tensors without data can't change place
        "torch.nn.Module.to": lambda module, device: module,
    }
    with ExitStack() as stack:
        for target, answer in answers.items():
            stack.enter_context(mock.patch(target, answer))
        # would copy the modes as well; of these modules alone, for others may be imported meanwhile
        for module in ("slim_fast.model.slim", "benchmarks.baselines.eager_slim"):
            stack.enter_context(mock.patch(f"{module}.copy", SimpleNamespace(deepcopy=_like)))
        stack.enter_context(mock.patch.dict(os.environ, {VARIABLE: "triton"}))
        stack.enter_context(emulated_target(90))
        stack.enter_context(FakeTensorMode())
        yield


def _like(network: Any) -> Any:
    """A new network of the same sizes."""
    if isinstance(network, Network):
        return Network(ModelConfig(), JOINTS, CHANNELS)
    return type(network)(eager_config(ModelConfig(), JOINTS, CHANNELS))


def without_data(x: Tensor) -> Tensor:
    """A tensor of the same shape."""
    return torch.empty(x.shape, dtype=x.dtype)


def record_views(batch: int) -> tuple[ViewBatch, list[Operation]]:
    """The recipe's views of random clips, on the CPU, and what making them takes."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        store = FrameStore(ClipCache.open(write_random_cache(Path(folder) / "cache", CLIPS)))
        sampler = ViewSampler(store, PretrainConfig().views, 0, fixed_shapes=True)  # as on a GPU
        with recorder, recorder.part("views"):
            views = sampler(torch.arange(batch), 0)
    return views, recorder.operations


def record_step(views: ViewBatch, attention: Attention) -> list[Operation]:
    """A step of the trainer on these views: what follows making them."""
    recorder = Recorder(_trues(views))
    with pretended_gpu():
        trainer = _build_trainer(views, attention)
        model: Any = trainer.model
        _begin(trainer.optimizer)
        # as on a GPU: so many tokens as may be masked, and hidden ones of local views are dropped
        find = model.find_masked
        model.find_masked = lambda sorted_views, most, _: find(sorted_views, most, True)
        wrapped = (
            (model, "losses", "order and masks"),
            (model, "encode_student", "student"),
            (model, "encode_teacher", "teacher"),
            (model, "compare", "heads and losses"),
            (training, "clip_gradients", "clipping"),
            (trainer.optimizer, "step", "optimiser"),
            (model, "after_update", "teacher's average"),
        )
        with _parts(recorder, wrapped), recorder:
            trainer.step(0)
    return recorder.operations


def record_eager_step(views: ViewBatch) -> list[Operation]:
    """The same step by the eager baseline under bf16 autocast."""
    recorder = Recorder(_trues(views))
    with pretended_gpu():
        model = EagerSLiM(eager_config(ModelConfig(), JOINTS, CHANNELS))
        optimizer = make_optimizer(model, lr=1e-6)
        for group in optimizer.param_groups:
            group["fused"] = True  # the fastest there is
        _begin(optimizer)
        clips, masks = (
            [without_data(getattr(g, name)) for g in views.groups] for name in ("clips", "mask")
        )
        wrapped = (
            (model, "loss", "heads and losses"),
            (model.student.encoder, "forward", "student"),
            (model.teacher.encoder, "forward", "teacher"),
            (torch.nn.utils, "clip_grad_norm_", "clipping"),
            (optimizer, "step", "optimiser"),
            (model, "update_teacher", "teacher's average"),
        )
        with _parts(recorder, wrapped), _flash_attention(), recorder:
            model.training_step(optimizer, clips, masks, TEMPERATURE, autocast=torch.bfloat16)
    return recorder.operations


def record_inference(clips: int, eager: bool) -> list[Operation]:
    """The encoder on clips of PEOPLE people, all in bfloat16."""
    recorder = Recorder()
    with pretended_gpu(), torch.no_grad():
        torch.set_default_dtype(torch.bfloat16)
        try:
            x = torch.empty(clips * PEOPLE, FRAMES, JOINTS, CHANNELS)
            encoder: Any = (
                eager_encoder.Encoder(JOINTS, CHANNELS)
                if eager
                else Encoder(ModelConfig().encoder, JOINTS, CHANNELS)
            )
        finally:
            torch.set_default_dtype(torch.float32)
        with _parts(recorder, ()), _flash_attention(), recorder, recorder.part("inference"):
            encoder(x) if eager else encoder.encode_packed([x], [None])
    return recorder.operations


def visible_sequences(views: ViewBatch) -> tuple[Sequences, ...]:
    """A sample's sequences under attention to visible tokens, by the means of the masks: of the
    global views, those with masked tokens and those without; of local ones what is left.
    """
    prefix, found = 1 + ModelConfig().encoder.registers, []
    for bucket, group in enumerate(views.groups):
        masks = group.mask.flatten(2).flatten(0, 1)  # (views, patches)
        hidden, longest = masks.sum(1), prefix + masks.shape[1]
        is_masked = hidden > 0
        left = longest - round(float(hidden[is_masked].float().mean()))
        masked = round(int(is_masked.sum()) / len(views.clip))
        whole = group.mask.shape[1] - masked
        tokens = longest if bucket == 0 else left
        found += [Sequences(masked, tokens, left, bucket, longest)]
        found += [Sequences(whole, longest, longest, bucket, longest)] if whole else []
    return tuple(found)


def _trues(views: ViewBatch) -> dict[int, int]:
    """What the two masks that decide sizes hold: the global views', and which of all tokens stay
    where attention is to visible tokens.
    """
    masks = [group.mask for group in views.groups]
    prefix = 1 + ModelConfig().encoder.registers
    total = sum(m.numel() + prefix * m.shape[0] * m.shape[1] for m in masks)
    dropped = sum(int(m.sum()) for m in masks[1:])
    return {masks[0].numel(): int(masks[0].sum()), total: total - dropped}


class _Store:
    """In a FrameStore's place, for a trainer whose views are made."""

    device, topology, channels = torch.device("cpu"), get_topology("ntu-25"), "xyz"
    is_staged = False

    def __len__(self) -> int:
        return CLIPS


def _build_trainer(views: ViewBatch, attention: Attention) -> Trainer:
    config = PretrainConfig(batch=len(views.clip), precision="bf16")
    encoder = dataclasses.replace(config.model.encoder, attention=attention)
    model = dataclasses.replace(config.model, encoder=encoder)
    optim = dataclasses.replace(
        config.optim, freeze_prototypes=0.0, teacher_temperature=(TEMPERATURE, TEMPERATURE)
    )
    config = dataclasses.replace(config, model=model, optim=optim)
    groups = [
        ViewGroup(g.window, without_data(g.clips), without_data(g.mask)) for g in views.groups
    ]
    given = dataclasses.replace(views, groups=groups, clip=without_data(views.clip))
    with mock.patch.object(training, "ViewSampler"):
        trainer = Trainer(config, _Store(), unwatched=True)  # type: ignore[arg-type]
    trainer.model.fixed_shapes = None  # what it is on a GPU but for graphs
    trainer.sampler = lambda clip, step, part: given  # type: ignore[assignment]
    trainer.order = lambda step: given.clip  # type: ignore[assignment]
    return trainer


def _begin(optimizer: torch.optim.Optimizer) -> None:
    """A first step, which makes the optimizer's state."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


# small tables, made once in a run
_CACHED = ("slim_kernels.attention.tables", "slim_fast.model.encoder.pack_sequences")


@contextmanager
def _parts(recorder: Recorder, wrapped: Iterable[tuple[Any, str, str]]) -> Iterator[None]:
    """Operations inside each function (of an owner, by name) are of a part, their gradients too;
    making what is cached is of none.
    """
    cached = [target.rsplit(".", 1) for target in _CACHED]
    once = [(sys.modules[module], name, NOTHING) for module, name in cached]
    with ExitStack() as stack:
        for owner, name, part in [*wrapped, *once]:
            function = getattr(owner, name)

            def run(*args: Any, function: Any = function, part: str = part, **kwargs: Any) -> Any:
                with recorder.part(part):
                    result = function(*args, **kwargs)
                outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
                recorder.label(outputs, f"{part}, gradients")
                return result

            stack.enter_context(mock.patch.object(owner, name, run))
        yield


@contextmanager
def _flash_attention() -> Iterator[None]:
    """What scaled_dot_product_attention takes on such a GPU."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return flash(q, k, v)[0]

    with mock.patch("torch.nn.functional.scaled_dot_product_attention", attend):
        yield
