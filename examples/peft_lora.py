"""python examples/peft_lora.py [ENCODER [CACHE]]: fine-tune a classifier by LoRA, with peft (pip
install peft).

ENCODER: a run's or an encoder's folder, a .pth file or a Hugging Face repository; without one, a
small random encoder.
CACHE: clips with labels and a split, from `python -m slim_fast.data convert`; without one, a few
generated clips.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from slim_fast import SLiMClassifier, UserError
from slim_fast.data.cache import ClipCache
from slim_fast.data.synthetic import write_synthetic
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.model.encoder import EncoderConfig

EPOCHS, BATCH, RATE = 25, 16, 5e-3
LORA = LoraConfig(
    r=8, lora_alpha=16, target_modules=["qkv", "proj", "w12", "w3"], modules_to_save=["head"]
)


def batch(cache: ClipCache, clips: np.ndarray) -> tuple[Tensor, Tensor]:
    """(B, C, 64, V, M) and labels (B,)."""
    return load_evaluation_clips(cache, clips).permute(0, 4, 2, 3, 1), torch.from_numpy(
        cache.label[clips]
    )


@torch.no_grad()
def accuracy(model: nn.Module, cache: ClipCache, clips: np.ndarray) -> float:
    x, labels = batch(cache, clips)
    return 100 * (model(x).argmax(1) == labels).float().mean().item()


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
        tuned = get_peft_model(model, LORA)
        learning = [p for p in tuned.parameters() if p.requires_grad]
        optimizer, random = torch.optim.AdamW(learning, RATE), np.random.default_rng(0)
        parts = -(-len(train) // BATCH)
        batches = [
            part for _ in range(EPOCHS) for part in np.array_split(random.permutation(train), parts)
        ]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, len(batches))
        tuned.train()
        for clips in (bar := tqdm(batches, desc="fine-tuning", unit="step")):
            x, labels = batch(cache, clips)
            loss = cross_entropy(tuned(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.2f}")
        # plain layers again, as fast as before; save_pretrained takes them
        merged = tuned.eval().merge_and_unload()
        trained = accuracy(merged.optimize(), cache, test)
    fraction = sum(p.numel() for p in learning) / sum(p.numel() for p in merged.parameters())
    print(
        f"{len(test)} test clips: {trained:.1f} % right, {untrained:.1f} % with the untrained "
        f"head; {fraction:.1%} of the weights were trained"
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
