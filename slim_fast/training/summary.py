"""The end of a run: accuracies beside their baselines, summary.json and the plots."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.features import encode
from slim_fast.evaluation.probe import labelled_split, probe
from slim_fast.training.checkpoint import write_atomically
from slim_fast.training.monitor import read_metrics
from slim_fast.training.trainer import Trainer

EMBEDDED_CLIPS = 1000


def finish(trainer: Trainer, cache: ClipCache, folder: Path, seconds: float) -> dict[str, Any]:
    """Evaluate the teacher's encoder, write summary.json, draw the plots; returns the summary."""
    config = trainer.config
    encoder = trainer.model.teacher.encoder
    split = None if config.split == "all" else config.split
    samples = config.steps * config.batch
    summary: dict[str, Any] = {
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
    }
    try:
        figures = probe(cache, encoder, split=split, seed=config.seed)
    except UserError as error:
        print(f"No accuracies: {error}", file=sys.stderr)
        figures = {}
    for protocol, key in (("knn", "knn_top1"), ("linear", "linear_top1")):
        for source, suffix in (("learned", ""), ("random_encoder", "_random_encoder"), ("coordinates", "_coordinates")):
            value = figures.get(protocol, {}).get(source)
            summary[key + suffix] = value[1] if isinstance(value, dict) else value
    summary["knn"] = figures.get("knn", {})
    summary["plots"] = draw(trainer, cache, folder, summary) if config.log.plots else []
    write_atomically(folder / "summary.json", lambda file: file.write(json.dumps(summary, indent=1).encode()))
    print_summary(summary)
    print(f"Encoder, plots and summary are in {folder}.")
    return summary


def print_summary(summary: dict[str, Any]) -> None:
    """The accuracy table and the throughput, on stdout."""
    shares = [
        (name, [summary.get(key + suffix) for suffix in ("", "_random_encoder", "_coordinates")])
        for name, key in (("1-NN accuracy", "knn_top1"), ("linear accuracy", "linear_top1"))
    ]
    print(f"\n{'':<18}{'learned':>10}{'random encoder':>17}{'coordinates':>14}")
    for name, row in shares:
        cells = ["–" if value is None else f"{value:.1%}" for value in row]
        print(f"{name:<18}{cells[0]:>10}{cells[1]:>17}{cells[2]:>14}")
    print(
        f"\n{summary['samples']:,} samples in {summary['seconds']:.0f} s "
        f"({summary['samples_per_second']:.0f} samples/s, {summary['device']}, {summary['dtype']})"
    )


def draw(trainer: Trainer, cache: ClipCache, folder: Path, summary: dict[str, Any]) -> list[str]:
    """Draw the run's plots; what cannot be drawn is said and left out. Returns the file names."""
    from slim_fast import drawing

    config = trainer.config
    records = read_metrics(folder / "metrics.jsonl")
    losses = [record for record in records if "loss" in record]
    accuracies = [record for record in records if "knn_top1" in record]
    drawn: list[Path] = []
    try:
        drawn.append(drawing.draw_curves(losses, folder / "losses.png", prototypes=config.model.head.prototypes))
        drawn.append(draw_views(trainer, folder / "views.png"))
        if accuracies:
            split = None if config.split == "all" else config.split
            references = {
                "random encoder": summary["knn_top1_random_encoder"],
                "coordinates": summary["knn_top1_coordinates"],
            }
            if max(map(len, labelled_split(cache, split))) > config.log.knn_clips:  # compare on the curve's own clips
                encoder, limit = trainer.model.teacher.encoder, config.log.knn_clips
                thinned = probe(cache, encoder, ("knn",), split, config.seed, limit=limit)["knn"]
                references = {name.replace("_", " "): thinned[name][1] for name in ("random_encoder", "coordinates")}
            steps, values = [r["step"] for r in accuracies], [r["knn_top1"] for r in accuracies]
            drawn.append(drawing.draw_knn(steps, values, references, folder / "knn.png"))
            test = labelled_split(cache, split, EMBEDDED_CLIPS)[1]
            features = encode(trainer.model.teacher.encoder, cache, test).retrieval.numpy()
            labels = np.asarray(cache.label[test])
            drawn.append(drawing.draw_embedding(features, labels, list(cache.classes), folder / "embedding.png"))
    except (UserError, OSError) as error:
        print(f"Not every plot was drawn: {error}", file=sys.stderr)
    return [path.name for path in drawn]


def draw_views(trainer: Trainer, path: Path) -> Path:
    """The views and masks of one clip of step 0, as skeletons."""
    from slim_fast import drawing

    batch = trainer.sampler(trainer.order(0).to(trainer.device), 0)
    masked = int(batch.groups[0].mask.flatten(1).any(1).long().argmax())  # a clip with a masked global view
    views, masks, titles = [], [], []
    for group in batch.groups:
        for number in range(group.clips.shape[1]):
            mask = group.mask[masked, number]
            views.append(group.clips[masked, number].cpu().numpy())
            masks.append(mask.cpu().numpy() if mask.any() else None)
            share = mask.float().mean().item()
            kind = "global" if group is batch.groups[0] else "local"
            titles.append(f"{kind}, {group.window} frames" + (f", {share:.0%} masked" if share else ""))
    return drawing.draw_views(views, masks, trainer.store.topology, titles, path)
