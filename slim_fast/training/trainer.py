"""One training step of a method and the state that carries over to the next."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder
from slim_fast.model.files import load_tensors
from slim_fast.model.mae import MaskedAutoencoder
from slim_fast.model.method import Method
from slim_fast.model.slim import SLiM
from slim_fast.training.ahead import ViewsAhead
from slim_fast.training.config import PretrainConfig
from slim_fast.training.machine import choose_dtype
from slim_fast.training.optimizer import apply_schedules, build_optimizer, clip_gradients
from slim_fast.training.order import ClipOrder
from slim_fast.training.schedules import ScheduleValues, compute_schedules
from slim_fast.views.pipeline import ViewBatch, ViewSampler
from slim_fast.views.store import FrameStore


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


class Trainer:
    """A method on the clips of a store; a step depends on the state and its number alone."""

    def __init__(self, config: PretrainConfig, store: FrameStore) -> None:
        self.config, self.store, self.device = config, store, store.device
        torch.manual_seed(config.seed)
        sizes = store.topology.num_joints, len(store.channels)
        self.model = build_method(config, *sizes).to(self.device)
        self.optimizer = build_optimizer(self.model.trained, config.optim)
        self.sampler = ViewSampler(store, config.views, config.seed)
        self.order = ClipOrder(len(store), config.batch, config.seed)
        self.views = ViewsAhead(self._make_views, self.device)
        self.dtype = choose_dtype(config.precision, self.device)
        # a GPU's kernels are for 16 bits; a CPU's frozen blocks are as fast in the encoder's dtype
        self.evaluation_dtype = None if self.device.type == "cpu" else self.dtype

    def step(self, step: int) -> tuple[dict[str, torch.Tensor], ScheduleValues]:
        """Train on batch number `step`; returns losses and gradient norm (scalars), and schedules.

        Raises: NonFiniteLoss, with the weights untouched by this step.
        """
        model, config = self.model, self.config
        now = compute_schedules(step, config.steps, config.batch, config.optim)
        apply_schedules(self.optimizer, now)
        views = self.views(step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            losses = model.losses(views, now)
        losses["loss"].backward()
        model.before_update(now)
        norms = clip_gradients(model.trained, config.optim.clip)
        if step + 1 < config.steps:
            self.views.prepare(step + 1)  # before the host waits for this step
        if not bool(torch.isfinite(losses["loss"].detach() + norms.sum())):
            self.optimizer.zero_grad()
            names = self.store.cache.names[self.store.clips[views.clip.cpu().numpy()]]
            raise NonFiniteLoss(step, [str(name) for name in names])
        self.optimizer.step()
        self.optimizer.zero_grad()
        model.after_update(now)
        return {
            **{name: loss.detach() for name, loss in losses.items()},
            "gradient_norm": norms[0],
        }, now

    def _make_views(self, step: int) -> ViewBatch:
        return self.sampler(self.order(step).to(self.device), step)

    def start_from(self, weights: Mapping[str, torch.Tensor], source: str) -> None:
        """Load an encoder into all of the method's. Raises: UserError for what does not fit."""
        for module in self.model.modules():
            if isinstance(module, Encoder):
                load_tensors(module, weights, source, "model.encoder and the data")

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, besides the config."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
