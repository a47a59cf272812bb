"""The rows of the paper's ablations, as changes of a preset."""

from collections.abc import Sequence
from typing import Any

from slim_fast.errors import UserError, suggest
from slim_fast.pretrain import find_presets, method_of, parse
from slim_fast.training.config import PretrainConfig, find_differences

ABLATIONS = {
    "objectives": {
        "cl": ("cl", "contrastive, global views only"),
        "glcl": ("glcl", "global–local contrastive"),
        "mfm": ("mfm", "masked feature modelling"),
        "both": ("both", "SLiM"),
    },
    "masking": {
        "random": ("mask-random", "single tokens at random"),
        "motion": ("mask-motion", "tokens that move"),
        "tube": ("mask-tube", "semantic tubes: SLiM"),
        "tube-no-local": ("mask-tube-no-local", "semantic tubes, local views whole"),
    },
}
"""Ablation -> row -> its preset without "ablation-", and what it is."""


def find_bases() -> list[str]:
    """The presets that rows may change: those of SLiM that are no row themselves."""
    return [p for p in find_presets() if method_of(p) == "slim" and not p.startswith("ablation-")]


def select_rows(ablation: str, names: Sequence[str] | None) -> list[str]:
    """The named rows of an ablation, in its order; None: all. Raises: UserError for others."""
    known = ABLATIONS[ablation]
    for name in names or ():
        if name not in known:
            raise UserError(
                f"The ablation {ablation} has no row {name!r}{suggest(name, known)}; choose from "
                f"{', '.join(known)}."
            )
    return [row for row in known if names is None or row in names]


def read_changes(ablation: str, row: str) -> dict[str, Any]:
    """Dotted name -> value of what a row changes in views and model; its preset has more, the
    length of the paper's ablations.
    """
    preset = f"ablation-{ABLATIONS[ablation][row][0]}"
    fields = parse(["--preset", preset, "--data", "any"]).to_json()
    changes = find_differences(PretrainConfig().to_json(), fields)
    return {name: now for name, _, now in changes if name.startswith(("views.", "model."))}
