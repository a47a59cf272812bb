"""Grids in the format of SLiM's release: {"model": state, "iteration": n} (recipe, section 7)."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slim_fast.errors import UserError, describe_os_error
from slim_fast.evaluation.grid.classifiers import Bank, Choice, Grid, Reading
from slim_fast.model.torch_files import read_tensors
from slim_fast.writing import write_atomically

_CHOICE = re.compile(r"classifier_(\d+)_blocks_avgpool_(True|False)_lr_(\d+_\d{5})")
_NAME = re.compile(rf"classifiers_dict\.{_CHOICE.pattern}\.linear\.(weight|bias)")


class SavedGrid(NamedTuple):
    """A grid in a file.

    Attributes:
        grid: its classifiers, float32.
        iteration: how long they were trained; 0 where the file does not say.
        chosen: the classifier that its note names, or the only one; None where it names none.
    """

    grid: Grid
    iteration: int
    chosen: Choice | None


def name_classifier(choice: Choice) -> str:
    """Its name in the release's files, which give learning rates five decimals."""
    rate = f"{choice.rate:.5f}".replace(".", "_")
    return f"classifier_{choice.blocks}_blocks_avgpool_{choice.avgpool}_lr_{rate}"


def find_choice(text: str) -> Choice | None:
    """The first classifier that a text names as `name_classifier` does; None without one."""
    match = _CHOICE.search(text)
    return _choice_of(match) if match else None


def _choice_of(match: re.Match[str]) -> Choice:
    return Choice(int(match[1]), match[2] == "True", float(match[3].replace("_", ".")))


def save_grid(grid: Grid, path: Path, iteration: int, chosen: Choice, note: str = "") -> None:
    """Write a grid; the file is whole or not there. Its note says which classifier was chosen.

    Classifiers whose learning rates are equal in five decimals share a name: the one of the larger
    rate is kept, as in the release, but always the `chosen` one.
    Raises: UserError when it cannot be written.
    """
    # the chosen one comes last and so stays
    order = sorted(grid, key=lambda choice: (choice == chosen, choice.rate))
    state: dict[str, Tensor] = {}
    for choice in order:
        name = f"classifiers_dict.{name_classifier(choice)}.linear"
        for part, values in zip(("weight", "bias"), grid.find(choice), strict=True):
            state[f"{name}.{part}"] = values.detach().cpu().clone()
    notes = [note, f"chosen: {name_classifier(chosen)}"]
    content: dict[str, Any] = {"model": state, "iteration": iteration}
    content["note"] = "; ".join(filter(None, notes))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: torch.save(content, file))
    except OSError as error:
        raise UserError(
            f"The classifiers could not be written: {describe_os_error(error)}."
        ) from error


def load_grid(path: Path, width: int, depth: int) -> SavedGrid:
    """The grid in a file; no code in the file is executed.

    width, depth: of the encoder whose features it reads.
    Raises: UserError for a file that cannot be read, holds no grid, or one for other features.
    """
    try:
        path.open("rb").close()  # a file without permission is not damaged
    except OSError as error:
        raise UserError(f"{describe_os_error(error)}: name a file of classifiers.") from error
    content = read_tensors(path)
    state = content.get("model") if isinstance(content, dict) else None
    found: dict[Reading, dict[float, dict[str, Tensor]]] = {}
    for name, tensor in (state if isinstance(state, dict) else {}).items():
        match = _NAME.fullmatch(str(name))
        if match and isinstance(tensor, Tensor):
            one = _choice_of(match)
            by_rate = found.setdefault(Reading(one.blocks, one.avgpool), {})
            by_rate.setdefault(one.rate, {})[match[4]] = tensor.float()
    if not found:
        raise UserError(
            f'{path} holds no grid of linear classifiers: expected {{"model": '
            '{"classifiers_dict.classifier_1_blocks_avgpool_True_lr_0_00250.linear.weight": ...}}.'
        )
    banks = {
        reading: _stack(found[reading], reading, width, depth, path)
        for reading in sorted(found, key=lambda r: (r.blocks, r.avgpool))
    }
    if len(classes := {bank.bias.shape[1] for bank in banks.values()}) > 1:
        raise UserError(f"{path} mixes classifiers of {sorted(classes)} classes: copy it again.")
    iteration, grid = content.get("iteration"), Grid(banks)
    chosen, every = find_choice(str(content.get("note", ""))), list(grid)
    chosen = every[0] if len(every) == 1 else chosen if chosen in every else None
    return SavedGrid(grid, iteration if isinstance(iteration, int) else 0, chosen)


def _stack(
    by_rate: dict[float, dict[str, Tensor]], reading: Reading, width: int, depth: int, path: Path
) -> Bank:
    """One bank of the classifiers of a reading. Raises: UserError when they do not fit."""
    features = width * (reading.blocks + reading.avgpool)
    rates = tuple(sorted(by_rate))
    for rate in rates:
        parts = by_rate[rate]
        name = name_classifier(Choice(reading.blocks, reading.avgpool, rate))
        if parts.keys() != {"weight", "bias"} or parts["bias"].shape != parts["weight"].shape[:1]:
            raise UserError(f"{path} lacks a part of {name}: copy it again.")
        if parts["weight"].shape[1:] != (features,) or reading.blocks > depth:
            raise UserError(
                f"{path} does not fit the encoder: {name} reads "
                f"{tuple(parts['weight'].shape[1:])} features, and this encoder of {depth} blocks "
                f"gives it {features}. Choose the encoder that it was trained on."
            )
    weight, bias = ([by_rate[rate][part] for rate in rates] for part in ("weight", "bias"))
    if len({len(b) for b in bias}) > 1:
        raise UserError(f"{path} mixes classifiers of several numbers of classes: copy it again.")
    return Bank(rates, torch.stack(weight), torch.stack(bias))
