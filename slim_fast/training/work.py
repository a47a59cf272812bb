"""How much a training step computes, and what share of its matrix units' ceiling a GPU reaches."""

from __future__ import annotations

import sys

import torch
from slim_kernels.cost.devices import DEVICES

from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.slim import ModelConfig
from slim_fast.training.config import PretrainConfig
from slim_fast.training.trainer import Trainer
from slim_fast.views.pipeline import PATCH_FRAMES

_PRODUCTS_FORWARD_AND_BACKWARD = 3  # a layer's output; the gradients of its input and weights
GIB = 2**30
CEILING = "share_of_ceiling"


def describe_load(trainer: Trainer, rate: float) -> dict[str, float]:
    """Of the metrics: "peak_memory", and at `rate` samples a second CEILING, the share of what the
    matrix units of all processes' GPUs reach at most; each where it is known.
    """
    config, store = trainer.config, trainer.store
    found = {}
    if (memory := peak_memory(trainer.device)) is not None:
        found["peak_memory"] = memory
    ceiling = matrix_ceiling(trainer.device, trainer.dtype)
    needed = count_step(config, store.topology.num_joints, len(store.channels))
    if ceiling is not None and needed is not None:
        found[CEILING] = rate / config.batch * needed / (ceiling * trainer.ranks.size)
    return found


def count_step(config: PretrainConfig, joints: int, channels: int) -> float | None:
    """Floating-point operations of a step's matrix products, 2 for each multiply and add, as the
    method needs them: what is computed again to save memory does not count.

    None: of masked autoencoders and of attention to visible tokens, where masks decide.
    """
    if config.method != "slim" or config.model.encoder.attention != "all":
        return None
    views, model = config.views, config.model
    low, high = views.mask.ratio
    share = views.mask.global_share if model.loss.masked else 0.0
    # of the two global views, in the mean
    masked = 2 * share * (low + high) / 2 * joints * views.window // PATCH_FRAMES
    one = count_sample(
        model,
        [(views.window, 2), *((local.window, 2 * local.count) for local in views.local)],
        masked,
        joints,
        channels,
    )
    koleo = 4 * config.batch**2 * model.encoder.width if model.loss.koleo else 0
    return config.batch * one + koleo


def count_sample(
    model: ModelConfig,
    groups: list[tuple[int, int]],
    masked: float,
    joints: int,
    channels: int,
) -> float:
    """Of one sample, without KoLeo.

    groups: (frames, views) of each kind of view, the global ones first. masked: masked tokens of
    its global views.
    """
    student = teacher = 0.0
    for number, (frames, views) in enumerate(groups):
        needed = views + (masked if number == 0 else 0)
        work = count_encoder(model.encoder, frames, views, needed, joints, channels)
        embedding = views * _embedding(model.encoder, frames, joints, channels)
        student += _PRODUCTS_FORWARD_AND_BACKWARD * work - embedding  # clips take no gradient
        teacher += work if number == 0 else 0
    head = model.head
    width, hidden, bottleneck = model.encoder.width, head.hidden, head.bottleneck
    mlp = width * hidden + hidden * hidden + hidden * bottleneck
    row = 2 * (mlp + bottleneck * head.prototypes)
    rows = bool(model.loss.contrastive) * sum(views for _, views in groups) + masked
    theirs = bool(model.loss.contrastive) * groups[0][1] + masked
    heads = row * (_PRODUCTS_FORWARD_AND_BACKWARD * rows + theirs)
    return student + teacher + heads


def count_encoder(
    config: EncoderConfig, frames: int, views: int, needed: float, joints: int, channels: int
) -> float:
    """Forward operations of `views` sequences, of whose features the losses read `needed`: from
    the last block's queries on, only those are computed.
    """
    width, tokens = config.width, 1 + config.registers + frames // config.patch_frames * joints
    mixed = 4 * tokens * width  # a query's scores and its sum of values
    after = mixed + 2 * width * width + 6 * width * config.hidden  # projection, SwiGLU's three
    keys = 2 * width * 3 * width
    rows = views * tokens
    embedding = views * _embedding(config, frames, joints, channels)
    return embedding + config.depth * rows * keys + ((config.depth - 1) * rows + needed) * after


def _embedding(config: EncoderConfig, frames: int, joints: int, channels: int) -> float:
    """Operations of one sequence's."""
    return 2 * frames * joints * channels * config.width


def matrix_ceiling(device: torch.device, dtype: torch.dtype) -> float | None:
    """Operations a second that the matrix units reach at most at the published clock; None: of a
    device whose rates are not on file.
    """
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device).replace(" ", "")
    known = next((known for key, known in DEVICES.items() if key in name), None)
    if known is None:
        return None
    units = torch.cuda.get_device_properties(device).multi_processor_count
    return units * known.ghz * 1e9 * known.tensor["bf16"]


def peak_memory(device: torch.device) -> float | None:
    """GiB at most so far: on a GPU what PyTorch has allocated there, else what this process has
    held in memory; None where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
