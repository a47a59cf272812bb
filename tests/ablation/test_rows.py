"""A row is a preset with the changes of the paper's row, and with nothing else."""

import pytest

from slim_fast import pretrain
from slim_fast.ablation.rows import ABLATIONS, find_bases, read_changes, select_rows
from slim_fast.errors import UserError

ROWS = [(ablation, row) for ablation, rows in ABLATIONS.items() for row in rows]


@pytest.mark.parametrize(("ablation", "row"), ROWS)
def test_on_the_recipe_a_row_is_its_preset(ablation: str, row: str) -> None:
    preset = pretrain.parse([f"--preset=ablation-{ABLATIONS[ablation][row][0]}", "--data=c"])
    options = pretrain.list_options(read_changes(ablation, row))
    ours = pretrain.parse(["--preset=ntu60-xsub", "--data=c", *(f"--{k}={v}" for k, v in options)])
    assert (ours.views, ours.model) == (preset.views, preset.model)
    assert (ours.steps, preset.steps) == (187_500, 125_000)


@pytest.mark.parametrize(
    ("ablation", "row", "changes"),
    [
        (
            "objectives",
            "cl",
            {"views.local": [], "views.mask.global_share": 0.0, "model.loss.masked": 0.0},
        ),
        ("objectives", "both", {}),
        ("masking", "random", {"views.mask.kind": "random"}),
        ("masking", "tube", {}),
        ("masking", "tube-no-local", {"views.mask.local": False}),
    ],
)
def test_changes(ablation: str, row: str, changes: dict[str, object]) -> None:
    assert read_changes(ablation, row) == changes


def test_rows_are_chosen_by_name() -> None:
    assert select_rows("objectives", None) == ["cl", "glcl", "mfm", "both"]
    assert select_rows("objectives", ["both", "cl"]) == ["cl", "both"]
    with pytest.raises(UserError, match=r"no row 'tub' \(did you mean tube\?\)"):
        select_rows("masking", ["tub"])


def test_bases_are_slims_and_no_rows() -> None:
    bases = find_bases()
    assert {"demo", "small", "ntu60-xsub"} <= set(bases)
    assert not [name for name in bases if name.startswith(("mae-", "ablation-"))]
