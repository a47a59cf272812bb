"""Tuning of an encoder and a new head on labelled clips."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.evaluation.augmented import AUGMENTATIONS, AugmentedClips
from slim_fast.evaluation.batches import shuffled_batches
from slim_fast.evaluation.features import PEOPLE, load_evaluation_clips
from slim_fast.evaluation.tuning.classifier import TunedClassifier
from slim_fast.evaluation.tuning.optimizer import make_optimizer, rate_share
from slim_fast.evaluation.tuning.recipe import TuningRecipe
from slim_fast.model.encoder import Encoder
from slim_fast.views.undetected import interpolate


def tune(
    encoder: Encoder,
    cache: ClipCache,
    clips: np.ndarray,
    classes: int,
    recipe: TuningRecipe,
    iterations: int,
    seed: int,
    people: int = PEOPLE,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> TunedClassifier:
    """Train a copy of `encoder` and a new head on the labels of the cache's `clips` (n,).

    Everything that is drawn follows from `seed`; torch's generators stay as they were. The encoder
    may be on any device, and is trained there.
    Returns: the classifier, in eval mode.
    """
    device = encoder.pos_embed.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = TunedClassifier(encoder, classes).train()
        model.encoder.set_drop_path(recipe.drop_path)
        draw = _make_draw(cache, recipe, seed, people, encoder.config.window)
        order = shuffled_batches(len(clips), min(recipe.batch, len(clips)), seed)
        optimizer = make_optimizer(model, recipe)
        rates = [group["lr"] for group in optimizer.param_groups]
        labels = torch.from_numpy(np.asarray(cache.label[clips], dtype=np.int64))
        generator = np.random.default_rng(seed)
        for iteration in progress(range(iterations)):
            share = rate_share(iteration, iterations, recipe.warmup)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            rows = next(order)
            views = draw(clips[rows.numpy()], iteration).to(device)
            target = F.one_hot(labels[rows], classes).float().to(device)
            if recipe.mixup:
                share = float(generator.beta(recipe.mixup, recipe.mixup))
                views, target = mix(views, target, share, len(cache.channels.rstrip("c")))
            loss = F.cross_entropy(model(views), target, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
    model.encoder.set_drop_path(0.0)
    return model.eval()


def _make_draw(
    cache: ClipCache, recipe: TuningRecipe, seed: int, people: int, window: int
) -> Callable[[np.ndarray, int], Tensor]:
    """What gives the clips (n, M, window, V, C) of some numbers (n,) at an iteration."""
    if recipe.augment == "none":
        return lambda clips, _: load_evaluation_clips(cache, clips, window, people)
    return AugmentedClips(cache, AUGMENTATIONS[recipe.augment], seed, people, window)


def mix(views: Tensor, target: Tensor, share: float, dims: int) -> tuple[Tensor, Tensor]:
    """Mix every clip (N, M, T, V, C) and target (N, classes) with `share` of the next one.

    Joints that are not detected in both, and people who are not present in both, stay as they are.
    """
    weight = torch.full((), share, device=views.device)
    mixed = interpolate(views, views.roll(1, 0), weight, dims)
    return mixed, torch.lerp(target, target.roll(1, 0), weight)
