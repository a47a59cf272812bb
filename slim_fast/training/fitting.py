"""The batch that fits a device's memory, found by trying."""

from dataclasses import replace
from pathlib import Path

import torch

from slim_fast.errors import UserError
from slim_fast.training.config import PretrainConfig
from slim_fast.training.folder import CONFIG, read_json_object
from slim_fast.training.output import logger
from slim_fast.training.ranks import Ranks
from slim_fast.training.trainer import Trainer
from slim_fast.views.store import FrameStore


def begun_batch(folder: Path, config: PretrainConfig) -> int | None:
    """The batch of the run that the folder holds, if one was fitted there."""
    begun = read_json_object(folder / CONFIG) if config.fit_batch else None
    return begun.get("batch") if begun and begun.get("fit_batch") else None


def find_fitting_batch(config: PretrainConfig, store: FrameStore, ranks: Ranks) -> int:
    """config.batch, halved until every process has done a step of its share without running out of
    memory. Each tries alone, with all weights of its own.

    Raises: UserError when not even the smallest share fits.
    """
    share, parts = config.batch // ranks.size, config.accumulate
    while not _fits(replace(config, batch=share), store):
        if share % (2 * parts):
            raise UserError(
                f"Not even {share} clips a step fit into the device's memory, and they cannot be "
                "halved: give more --accumulate, or a smaller --model.encoder.width."
            )
        share //= 2
    batch = -ranks.largest(-share) * ranks.size
    logger.info(f"A batch of {batch} clips fits into memory; the learning rate is scaled to it.")
    return batch


def _fits(config: PretrainConfig, store: FrameStore) -> bool:
    try:
        # the last step: by then no weight is frozen, and the optimiser has moments of all
        Trainer(config, store).step(config.steps - 1)
    except torch.OutOfMemoryError:
        return False
    finally:
        if store.device.type == "cuda":
            torch.cuda.empty_cache()
    return True
