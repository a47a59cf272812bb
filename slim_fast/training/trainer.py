"""One training step of a method and the state that carries over to the next."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder
from slim_fast.model.files import load_tensors
from slim_fast.model.mae import MaskedAutoencoder
from slim_fast.model.method import Method, Schedules
from slim_fast.model.ranges import BACKWARD, DATA, FORWARD, OPTIMIZER, step_part
from slim_fast.model.slim import SLiM
from slim_fast.training.ahead import ViewsAhead
from slim_fast.training.config import PretrainConfig
from slim_fast.training.graph import StepGraphs, captures_steps
from slim_fast.training.machine import choose_dtype
from slim_fast.training.moving import MovingValues
from slim_fast.training.optimizer import apply_schedules, build_optimizer, clip_gradients
from slim_fast.training.order import ClipOrder
from slim_fast.training.ranks import Ranks
from slim_fast.training.schedules import ScheduleValues, compute_schedules
from slim_fast.training.sharding import (
    distribute,
    gather,
    gather_encoder,
    gradients_stay,
    is_sharded,
    put,
    shard_like,
)
from slim_fast.views.pipeline import ViewBatch, ViewSampler
from slim_fast.views.store import FrameStore, send


class NonFiniteLoss(UserError):
    """The loss or its gradient is NaN or infinite; the weights are those before the step."""

    def __init__(self, step: int, clips: list[str]) -> None:
        super().__init__(f"The loss or its gradient is not finite at step {step}")
        self.step, self.clips = step, clips


def build_method(config: PretrainConfig, joints: int, channels: int) -> Method:
    """The method that config.method names, with new weights of torch's generator."""
    encoder = replace(config.model.encoder, window=config.views.window)
    if config.method == "mae":
        return MaskedAutoencoder(encoder, config.mae, joints, channels)
    return SLiM(replace(config.model, encoder=encoder), joints, channels)


class Losses(nn.Module):
    """A method's losses as `forward`, which DistributedDataParallel wraps."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        # DistributedDataParallel keeps its buckets as they are, and so sums in an order that a
        # resumed run has too, only while it looks for unused parameters, and complains without any.
        self.unused = nn.Parameter(next(method.parameters()).new_zeros(1))

    def forward(self, views: ViewBatch, now: Schedules, part: Any) -> dict[str, Tensor]:
        return self.method.losses(views, now, part)

    def survey(self, parts: Sequence[ViewBatch], now: Schedules) -> list[Any]:
        return self.method.survey(parts, now)


class Trainer:
    """A method on the clips of a store; a step depends on the state and its number alone.

    ranks: the processes that have a share of every batch each. A step's losses and weights are
    those of one process, but for the order of sums.
    unwatched: whether the host reads nothing of a step, and learns with `check_finite` only
    whether losses were finite; None: on a GPU, but for sharded weights.
    """

    def __init__(
        self,
        config: PretrainConfig,
        store: FrameStore,
        ranks: Ranks | None = None,
        unwatched: bool | None = None,
    ):
        self.config, self.store, self.device = config, store, store.device
        is_gpu = self.device.type == "cuda"
        self.ranks = ranks or Ranks()
        if unwatched is None:  # updates of shards are the optimiser's alone
            unwatched = is_gpu and (config.sharding == "ddp" or self.ranks.size == 1)
        self.parts = self.ranks.split(config.batch, config.accumulate)
        torch.manual_seed(config.seed)
        sizes = store.topology.num_joints, len(store.channels)
        self.model = build_method(config, *sizes).to(self.device)
        for module in self.model.modules():
            if isinstance(module, Encoder):
                module.topology, module.channel_names = store.topology, store.channels
        self.sampler = ViewSampler(store, config.views, config.seed, unwatched)
        self.order = ClipOrder(len(store), config.batch, config.seed)
        self.views = ViewsAhead(self._make_views, self.device)
        self.dtype = choose_dtype(config.precision, self.device)
        # a GPU's kernels are for 16 bits; a CPU's frozen blocks are as fast in the encoder's dtype
        self.evaluation_dtype = None if self.device.type == "cpu" else self.dtype
        self.model.group = self.ranks.group
        self._alone = Losses(self.model)
        self.losses = distribute(self._alone, self.ranks, config.sharding)
        self.is_sharded = is_sharded(self.losses)
        self.optimizer = build_optimizer(self.model.trained, config.optim)
        self._last: ScheduleValues | None = None
        self.moving: MovingValues | None = None
        if unwatched:
            temperatures = config.optim.teacher_temperature
            self.moving = MovingValues(self.optimizer, config.batch, temperatures, self.device)
        self.graphs: StepGraphs | None = None
        if captures_steps(config, self.device, self.ranks.size, store):
            self.graphs = StepGraphs(self._advance_alone, self.device, config.graph == "auto")
        if self.graphs or (unwatched and not is_gpu):
            self.model.fixed_shapes = True

    def step(self, step: int) -> tuple[dict[str, torch.Tensor], ScheduleValues]:
        """Train on batch number `step`; returns losses and gradient norm (scalars, which the next
        step may overwrite), and schedules.

        Raises: NonFiniteLoss, with the weights untouched by this step; where the host does not
        watch, `check_finite` does.
        """
        config = self.config
        now = self._last = compute_schedules(step, config.steps, config.batch, config.optim)
        if self.moving is None:
            return self._watched_step(step, now), now
        self.moving.fill(step, now, self.order(step))
        if self.graphs is not None:
            return self.graphs(now.prototypes_frozen), now
        with step_part(DATA):
            parts = self.views(step)
        values = self.advance(parts)
        if step + 1 < config.steps:
            self.views.prepare(step + 1)
        return values, now

    def _watched_step(self, step: int, now: ScheduleValues) -> dict[str, torch.Tensor]:
        model = self.model
        apply_schedules(self.optimizer, now)
        with step_part(DATA):
            parts = self.views(step)
        losses = self.compute_gradients(parts, now)
        with step_part(OPTIMIZER):
            model.before_update(now)
            norms = clip_gradients(model.trained, self.config.optim.clip)
        if step + 1 < self.config.steps:
            self.views.prepare(step + 1)  # before the host waits for this step
        if not bool(torch.isfinite(losses["loss"] + norms.sum())):
            self.optimizer.zero_grad()
            raise self._nonfinite(step)
        with step_part(OPTIMIZER):
            self.optimizer.step()
            self.optimizer.zero_grad()
            model.after_update(now)
        return {**losses, "gradient_norm": norms[0]}

    def advance(self, parts: list[ViewBatch]) -> dict[str, torch.Tensor]:
        """One step on the views of a batch by what `moving` holds; the host reads nothing."""
        model, moving = self.model, self.moving
        assert moving is not None
        losses = self.compute_gradients(parts, moving)
        with step_part(OPTIMIZER):
            model.before_update(moving)
            norms = clip_gradients(model.trained, self.config.optim.clip)
            moving.check(losses["loss"] + norms.sum())
            moving.update()
            self.optimizer.zero_grad()
            model.after_update(moving)
        return {**losses, "gradient_norm": norms[0]}

    def _advance_alone(self) -> dict[str, torch.Tensor]:
        """A step from the store to updated weights, by what `moving` holds."""
        assert self.moving is not None
        self.optimizer.zero_grad()  # of a capture that failed
        clips, step = self.moving.clips, self.moving.step
        with step_part(DATA):
            parts = [self.sampler(clips, step, part) for part in self.parts]
        return self.advance(parts)

    def check_finite(self) -> None:
        """Wait for the steps so far. Raises: NonFiniteLoss of the first that was not finite, with
        the weights from before it.
        """
        bad = None if self.moving is None else self.moving.read_first_bad()
        if bad is not None:
            raise self._nonfinite(bad)

    def _nonfinite(self, step: int) -> NonFiniteLoss:
        names = self.store.cache.names[self.store.clips[self.order(step).numpy()]]
        return NonFiniteLoss(step, [str(name) for name in names])

    def compute_gradients(
        self, parts: list[ViewBatch], now: ScheduleValues | MovingValues
    ) -> dict[str, torch.Tensor]:
        """Gradients of the views of a batch into the parameters; returns its losses."""
        with step_part(FORWARD), self._autocast():
            surveyed = self._alone.survey(parts, now)
        values = []
        for number, (views, part) in enumerate(zip(parts, surveyed, strict=True)):
            is_last = number == len(parts) - 1
            summed = nullcontext() if is_last else gradients_stay(self.losses)
            with summed, self._autocast(), step_part(FORWARD):
                losses = self.losses(views, now, part)
            loss = losses["loss"]
            with step_part(BACKWARD):
                (loss if len(parts) == 1 else loss / len(parts)).backward()
            values.append({name: value.detach() for name, value in losses.items()})
        if len(parts) * self.ranks.size == 1:
            return values[0]
        rows = torch.stack([torch.stack(list(value.values())) for value in values])
        return dict(zip(values[0], self.ranks.mean(rows.mean(0)).unbind(), strict=True))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16
        )

    def find_fitting_parts(self, step: int) -> int | None:
        """The smallest `accumulate` with which this step does not run out of memory, by trying;
        None: not even clip by clip. The weights stay as they are.
        """
        if self.graphs is not None:
            self.graphs.forget()
        each = len(range(self.config.batch)[self.parts[0]]) * len(self.parts)
        now = compute_schedules(step, self.config.steps, self.config.batch, self.config.optim)
        parts = len(self.parts)
        while parts < each:
            parts = next(n for n in range(2 * parts, each + 1) if each % n == 0)
            self.parts = self.ranks.split(self.config.batch, parts)
            try:
                self.compute_gradients(self._make_views(step), now)
            except torch.OutOfMemoryError:
                continue
            finally:
                self.optimizer.zero_grad()
            return parts
        return None

    def _make_views(self, step: int) -> list[ViewBatch]:
        clips = self.order(step)
        if not self.store.is_staged:
            clips = send(clips, self.device)
        return [self.sampler(clips, step, part) for part in self.parts]

    def start_from(self, weights: Mapping[str, torch.Tensor], source: str) -> None:
        """Load an encoder into all of the method's. Raises: UserError for what does not fit."""
        for module in self.model.modules():
            if isinstance(module, Encoder):
                whole = gather_encoder(module, keep=True)
                load_tensors(whole, weights, source, "model.encoder and the data")
                put(module.state_dict(), whole.state_dict())

    def gather_evaluated(self) -> Encoder:
        """The encoder that is evaluated and saved, in the first process; all call it together."""
        return gather_encoder(self.model.evaluated, self.ranks.is_first)

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, besides the config; all processes call it
        together. Of sharded weights the first gets it, the same as if they were whole.
        """
        if self.moving is not None and self._last is not None:
            apply_schedules(self.optimizer, self._last)  # numbers, as every version reads them
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return gather(state, self.ranks.is_first) if self.is_sharded else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`, however the weights were held there."""
        if self.graphs is not None:
            self.graphs.forget()
        if not self.is_sharded:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            return
        put(self.model.state_dict(), state["model"])
        parameters = [x for group in self.optimizer.param_groups for x in group["params"]]
        moments = {
            number: {k: shard_like(v, parameters[number]) for k, v in values.items()}
            for number, values in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**state["optimizer"], "state": moments})
