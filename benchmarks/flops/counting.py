"""Operations of the methods' parts, counted on the meta device and checked against closed forms.

FlopCounterMode sees every operation that PyTorch dispatches. It counts matmuls; the mapping here
adds softmax, norms and activations, as numbers worked on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baselines.gfp import GFP, GFPConfig
from benchmarks.baselines.mae import MAEConfig, MaskedAutoencoder
from benchmarks.baselines.s_jepa import SJEPA, SJEPAConfig
from benchmarks.baselines.transformer import MaskedModel
from benchmarks.flops.closed_form import (
    Work,
    gfp_decoder,
    gfp_targets,
    masked_decoder,
    masked_encoder,
    slim_encoder,
)
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.views.pipeline import ViewsConfig

TOLERANCE = 1e-6
JOINTS, CHANNELS = 25, 3
# the whole part of a tenth of 750 tokens as the published code rounds it, and a tenth
VISIBLE = (74, 75)
aten = torch.ops.aten
KINDS = {
    aten._softmax: "softmax",
    aten._safe_softmax: "softmax",
    aten.native_layer_norm: "norms",
    aten.gelu: "activations",
    aten.silu: "activations",
    aten.relu: "activations",
}


class CountError(RuntimeError):
    """A count and its closed form disagree."""


def counted(run: Callable[[], Any]) -> Work:
    """What `run` does without gradients, all but `rest`."""

    def numbers(x: Tensor, *_others: Any, **_named: Any) -> int:
        return x.numel()

    numbers._get_raw = True  # type: ignore[attr-defined]  # FlopCounterMode then passes tensors, not their shapes
    mapping = dict.fromkeys(KINDS, numbers)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    amounts = dict.fromkeys(("matmuls", *KINDS.values()), 0)
    for operation, amount in counter.get_flop_counts().get("Global", {}).items():
        amounts[KINDS.get(operation, "matmuls")] += amount
    return Work(**amounts)


def checked(name: str, count: Work, formula: Work) -> Work:
    """The count, with the formula's `rest`. Raises: CountError when the two differ elsewhere."""
    for kind in ("matmuls", *dict.fromkeys(KINDS.values())):
        got, wanted = getattr(count, kind), getattr(formula, kind)
        if not math.isclose(got, wanted, rel_tol=TOLERANCE):
            raise CountError(
                f"{name}: {kind} were counted as {got:,.0f}, and the closed form says "
                f"{wanted:,.0f}."
            )
    return replace(count, rest=formula.rest)


@dataclass(frozen=True)
class Cost:
    """Costs for one person, in training those of a forward. None: the method has no such part."""

    tokens: str
    inference: Work
    encoder: Work
    decoder: Work | None = None
    target: Work | None = None


def masked_cost(
    name: str,
    model: MaskedModel,
    decoder: Work,
    target: tuple[Callable[[Tensor], Any], Work] | None = None,
) -> Cost:
    """decoder: its closed form; target: the target network and its closed form."""
    config = model.config
    clip = torch.empty(1, config.frames, config.joints, config.channels)
    visible = torch.empty(1, config.visible, config.width)
    indices = torch.empty(1, config.visible, dtype=torch.int64)

    def check(part: str, run: Callable[[], Any], formula: Work) -> Work:
        return checked(f"{name}, {part}", counted(run), formula)

    return Cost(
        f"{config.times}×{config.joints}",
        check("inference", lambda: model(clip), masked_encoder(config, config.tokens)),
        check(
            "encoder in training",
            lambda: model.encoder(clip, indices),
            masked_encoder(config, config.visible),
        ),
        check("decoder", lambda: model.decoder(visible, indices), decoder),  # type: ignore[operator]
        None if target is None else check("target network", lambda: target[0](clip), target[1]),
    )


def mae_cost(name: str, config: MAEConfig) -> Cost:
    decoder = masked_decoder(config, config.decoder_depth, config.patch_numbers)
    return masked_cost(name, MaskedAutoencoder(config), decoder)


def s_jepa_cost(config: SJEPAConfig) -> Cost:
    model = SJEPA(config)
    target = (model.target_encoder, masked_encoder(config, config.tokens))
    return masked_cost("S-JEPA", model, masked_decoder(config, config.decoder_depth, None), target)


def gfp_cost(config: GFPConfig) -> Cost:
    model = GFP(config)
    return masked_cost(
        "GFP", model, gfp_decoder(config), (model.target_network, gfp_targets(config))
    )


def slim_cost(config: EncoderConfig, frames: int) -> Cost:
    """The student is the encoder in use; the teacher costs the same, and both see all tokens."""
    encoder, clip = Encoder(config, JOINTS, CHANNELS), torch.empty(1, frames, JOINTS, CHANNELS)
    formula = slim_encoder(config, frames, JOINTS, CHANNELS)
    work = checked("SLiM, encoder", counted(lambda: encoder.encode_packed([clip], [None])), formula)
    return Cost(f"{frames // config.patch_frames}×{JOINTS}", work, work, target=work)


@cache
def costs() -> dict[str, Cost]:
    """Costs of every method, and of the MAE for each of VISIBLE. Raises: CountError."""
    explicit: Any = {"attention": "explicit"}  # softmax within a fused operation would not be seen
    with torch.device("meta"):
        configs = {
            "SkeletonMAE": MAEConfig(masking="random", target="coordinates", **explicit),
            "MAMP": MAEConfig(**explicit),
            **{f"MAE, {n} visible": MAEConfig(num_visible=n, **explicit) for n in VISIBLE},
        }
        return {
            **{name: mae_cost(name, config) for name, config in configs.items()},
            "S-JEPA": s_jepa_cost(SJEPAConfig(**explicit)),
            "GFP": gfp_cost(GFPConfig(**explicit)),
            "SLiM": slim_cost(EncoderConfig(), ViewsConfig().window),
        }
