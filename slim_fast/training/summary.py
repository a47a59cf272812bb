"""The end of a run: accuracies beside their baselines, summary.json and the plots."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slim_fast.data.cache import ClipCache
from slim_fast.data.readers.stream import explain_damage
from slim_fast.errors import UserError
from slim_fast.evaluation.features import extract_features
from slim_fast.evaluation.probe import probe, select_labelled_clips
from slim_fast.model.encoder import Encoder
from slim_fast.skeletons import Topology
from slim_fast.training.folder import METRICS, SUMMARY, format_changes, read_changes
from slim_fast.training.monitor import read_metrics
from slim_fast.training.output import logger, show_batches
from slim_fast.training.trainer import Trainer
from slim_fast.writing import write_atomically

EMBEDDED_CLIPS = 1000


def finish_run(
    trainer: Trainer, encoder: Encoder, cache: ClipCache, folder: Path, seconds: float
) -> dict[str, Any]:
    """Evaluate the trainer's encoder, write summary.json, draw the plots; returns the summary."""
    config = trainer.config
    split = None if config.split == "all" else config.split
    samples = config.steps * config.batch
    summary: dict[str, Any] = {
        "method": config.method,
        "data": str(cache.path),
        "clips": len(trainer.store),
        "steps": config.steps,
        "batch": config.batch,
        "seed": config.seed,
        "samples": samples,
        "seconds": round(seconds, 1),
        "samples_per_second": round(samples / max(seconds, 1e-9), 1),
        "device": str(trainer.device),
        "dtype": str(trainer.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "init": config.init,
        "changes": read_changes(folder),
    }
    logger.info("Evaluating the encoder, a random one and coordinates by k-NN and linearly ...")
    try:
        accuracies = probe(
            cache,
            encoder,
            split=split,
            seed=config.seed,
            progress=show_batches,
            dtype=trainer.evaluation_dtype,
        )
    except UserError as error:
        logger.info(f"No accuracies: {error}")
        accuracies = {}
    for protocol in ("knn", "linear"):
        for source in ("learned", "random_encoder", "coordinates"):
            value = accuracies.get(protocol, {}).get(source)
            key = f"{protocol}_top1" + (f"_{source}" if source != "learned" else "")
            summary[key] = value[1] if isinstance(value, dict) else value
    summary["knn"] = accuracies.get("knn", {})
    summary["plots"] = draw(trainer, encoder, cache, folder, summary) if config.log.plots else []
    text = json.dumps(summary, indent=1)
    write_atomically(folder / SUMMARY, lambda file: file.write(text.encode()))
    logger.info(f"{format_summary(summary)}\nEncoder, plots and summary are in {folder}.")
    return json.loads(text)  # as later calls read it


def format_summary(summary: dict[str, Any]) -> str:
    """The accuracy table and the throughput."""
    lines = [f"\n{'':<18}{'learned':>10}{'random encoder':>17}{'coordinates':>14}"]
    for name, key in (("1-NN accuracy", "knn_top1"), ("linear accuracy", "linear_top1")):
        values = [summary.get(key + suffix) for suffix in ("", "_random_encoder", "_coordinates")]
        cells = ["–" if value is None else f"{value:.1%}" for value in values]
        lines.append(f"{name:<18}{cells[0]:>10}{cells[1]:>17}{cells[2]:>14}")
    lines.append(
        f"\n{summary['samples']:,} samples in {summary['seconds']:.0f} s "
        f"({summary['samples_per_second']:.0f} samples/s, {summary['device']}, {summary['dtype']})"
    )
    if summary.get("changes"):
        lines.append(f"Resumed with other settings: {format_changes(summary['changes'])}.")
    return "\n".join(lines)


def show_finished(folder: Path, summary: dict[str, Any]) -> None:
    """Show what a run came to that is finished already. Raises: UserError for a damaged summary."""
    logger.info(
        f"{folder} holds a finished run; choose another --out for a new one, or more --steps to go "
        "on."
    )
    with explain_damage(folder / SUMMARY, "; delete it and give the same command again"):
        logger.info(format_summary(summary))


def draw(
    trainer: Trainer, encoder: Encoder, cache: ClipCache, folder: Path, summary: dict[str, Any]
) -> list[str]:
    """Draw the run's plots; what cannot be drawn is reported and left out. Returns their names."""
    from slim_fast import drawing

    config = trainer.config
    records = read_metrics(folder / METRICS)
    losses = [record for record in records if "loss" in record]
    accuracies = [record for record in records if "knn_top1" in record]
    drawn: list[Path] = []
    try:
        prototypes = config.model.head.prototypes if config.method == "slim" else None
        drawn.append(drawing.draw_curves(losses, folder / "losses.png", prototypes=prototypes))
        drawn.append(draw_views(trainer, folder / "views.png"))
        if accuracies:
            split = None if config.split == "all" else config.split
            knn = summary["knn"]
            # compare on the curve's own clips
            limit = config.log.knn_clips
            if max(map(len, select_labelled_clips(cache, split))) > limit:
                knn = probe(cache, encoder, ("knn",), split, config.seed, limit=limit)["knn"]
            sources = ("random_encoder", "coordinates")
            references = {name.replace("_", " "): knn[name][1] for name in sources}
            steps, values = [r["step"] for r in accuracies], [r["knn_top1"] for r in accuracies]
            drawn.append(drawing.draw_knn(steps, values, references, folder / "knn.png"))
            test = select_labelled_clips(cache, split, EMBEDDED_CLIPS)[1]
            features = extract_features(encoder, cache, test).retrieval.numpy()
            labels, path = np.asarray(cache.label[test]), folder / "embedding.png"
            drawn.append(drawing.draw_embedding(features, labels, list(cache.classes), path))
    except (UserError, OSError) as error:
        logger.info(f"Not every plot was drawn: {error}")
    return [path.name for path in drawn]


def draw_views(trainer: Trainer, path: Path) -> Path:
    """The views and masks of one clip of step 0, as skeletons, see `choose_clip`."""
    from slim_fast import drawing

    batch = trainer.sampler(trainer.order(0).to(trainer.device), 0)
    topology, channels = trainer.store.topology, trainer.store.channels
    groups = [(group.clips.cpu().numpy(), group.mask.cpu().numpy()) for group in batch.groups]
    chosen = choose_clip(*groups[0], channels)
    views, masks, titles = [], [], []
    for kind, (clips, hidden) in zip(["global", *["local"] * len(groups)], groups, strict=False):
        for view, mask in zip(clips[chosen], hidden[chosen], strict=True):
            views.append(view)
            masks.append(mask if mask.any() else None)
            titles.append("\n".join(describe_view(kind, view, mask, topology, channels)))
    return drawing.draw_views(views, masks, topology, titles, path, channels)


def describe_view(
    kind: str, view: np.ndarray, mask: np.ndarray, topology: Topology, channels: str
) -> tuple[str, str]:
    """A view's (w, V, C) kind and length, and what is masked (w / 8, V) or zeroed in it."""
    more = [f"{mask.mean():.0%} masked" if mask.any() else "unmasked"]
    more += [f"{axis_name(axis, topology)} zeroed" for axis in zeroed_axes(view, channels)]
    return f"{kind}, {len(view)} frames", ", ".join(more)


def choose_clip(clips: np.ndarray, masks: np.ndarray, channels: str) -> int:
    """Of global views (B, n, w, V, C) and masks (B, n, w / 8, V): a clip with a masked view, if
    there is one, and then without an axis that was zeroed, and then the one that moves most.
    """
    dims = len(channels.rstrip("c"))
    seen = (clips[..., :dims] != 0).any(-1)
    positions = np.where(seen[..., None], clips[..., :dims], np.nan)
    batch, views, _, *rest = positions.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of joints that are never detected
        # where the body stands is not drawn
        positions = positions - np.nanmean(positions, -2, keepdims=True)
        # noise is no motion
        patches = np.nanmean(positions.reshape(batch, views, masks.shape[2], -1, *rest), 3)
        motion = np.nan_to_num(np.nanmean(np.nanvar(patches, 2), (1, 2, 3)))
    masked = [bool(mask.any()) for mask in masks]
    whole = [not any(zeroed_axes(view, channels) for view in clip) for clip in clips]
    return max(range(batch), key=lambda clip: (masked[clip], whole[clip], motion[clip]))


def zeroed_axes(view: np.ndarray, channels: str) -> list[int]:
    """The axes of a view (w, V, C) that augmentation zeroed: zero throughout, unlike others."""
    zero = ~(view[..., : len(channels.rstrip("c"))] != 0).any((0, 1))
    return [] if zero.all() else np.flatnonzero(zero).tolist()


def axis_name(axis: int, topology: Topology) -> str:
    """x, height or depth."""
    return "x" if axis == 0 else "height" if axis == "xyz".index(topology.up[-1]) else "depth"
