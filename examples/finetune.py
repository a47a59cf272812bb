"""python examples/finetune.py [ENCODER [CACHE]]: fine-tune a classifier with layer-wise learning
rates.

ENCODER: a run's or an encoder's folder, a .pth file or a Hugging Face repository; without one, a
small random encoder.
CACHE: clips with labels and a split, from `python -m slim_fast.data convert`; without one, a few
generated clips.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from slim_fast import SLiMClassifier, UserError
from slim_fast.data.cache import ClipCache
from slim_fast.data.synthetic import write_synthetic
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.model.encoder import EncoderConfig

EPOCHS, BATCH, RATE, LAYER_DECAY, WEIGHT_DECAY = 25, 16, 4e-3, 0.75, 0.05


def rate_groups(model: SLiMClassifier) -> Iterator[dict[str, Any]]:
    """Each layer learns LAYER_DECAY times as fast as the one after it; biases, norms and tokens do
    not decay.
    """
    depth = model.config.depth
    for name, parameter in model.named_parameters():
        block = re.match(r"blocks\.(\d+)\.", name)
        layer = (
            int(block[1]) + 1
            if block
            else {"norm": depth, "head": depth + 1}.get(name.split(".")[0], 0)
        )
        plain = parameter.dim() == 1 or name in model.no_weight_decay()
        rate = RATE * LAYER_DECAY ** (depth + 1 - layer)
        yield {"params": [parameter], "lr": rate, "weight_decay": 0.0 if plain else WEIGHT_DECAY}


def batch(cache: ClipCache, clips: np.ndarray) -> tuple[Tensor, Tensor]:
    """(B, C, 64, V, M) and labels (B,)."""
    return load_evaluation_clips(cache, clips).permute(0, 4, 2, 3, 1), torch.from_numpy(
        cache.label[clips]
    )


@torch.no_grad()
def accuracy(model: SLiMClassifier, cache: ClipCache, clips: np.ndarray) -> float:
    fast, right = model.optimize(), 0
    for some in np.array_split(clips, -(-len(clips) // 64)):
        x, labels = batch(cache, some)
        right += int((fast(x).argmax(1) == labels).sum())
    return 100 * right / len(clips)


def main(encoder: str | None = None, data: str | None = None) -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        actions = ("wave", "clap", "jump", "kick", "sit down", "punch")
        made = (
            None
            if data
            else write_synthetic(Path(folder) / "clips", subjects=9, repetitions=3, actions=actions)
        )
        cache = made or ClipCache.open(str(data))
        train, test = (part[cache.label[part] >= 0] for part in cache.split())
        if encoder:
            model = SLiMClassifier.from_pretrained(encoder, num_classes=len(cache.classes))
        else:
            small = EncoderConfig(width=64, depth=3, heads=2)
            model = SLiMClassifier(len(cache.classes), cache.topology, cache.channels, small)
        untrained = accuracy(model, cache, test)
        optimizer, random = torch.optim.AdamW(rate_groups(model)), np.random.default_rng(0)
        parts = -(-len(train) // BATCH)
        batches = [
            part for _ in range(EPOCHS) for part in np.array_split(random.permutation(train), parts)
        ]
        rates = [group["lr"] for group in optimizer.param_groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, len(batches))
        model.train()
        for clips in (bar := tqdm(batches, desc="fine-tuning", unit="step")):
            x, labels = batch(cache, clips)
            loss = cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.2f}")
        trained = accuracy(model, cache, test)
    print(
        f"{len(test)} test clips: {trained:.1f} % right, {untrained:.1f} % with the untrained head"
    )


if __name__ == "__main__":
    if len(sys.argv) > 3 or sys.argv[1:2] in (["-h"], ["--help"]):
        raise SystemExit(__doc__)
    try:
        main(*sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
