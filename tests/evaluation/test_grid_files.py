"""Grids in the release's format, as section 7 of the recipe writes it down."""

import pickle

import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.evaluation.features import Features
from slim_fast.evaluation.grid import RATES, Bank, Grid, Reading, load_grid, save_grid
from slim_fast.evaluation.grid.classifiers import Choice
from slim_fast.evaluation.grid.files import name_classifier

SCALED = tuple(rate * 64 / 256 for rate in RATES)


def make_grid(width: int = 4, classes: int = 3) -> Grid:
    return Grid(
        {
            Reading(blocks, pool): Bank(
                SCALED,
                torch.randn(13, classes, width * (blocks + pool)),
                torch.randn(13, classes),
            )
            for blocks in (1, 4)
            for pool in (False, True)
        }
    )


def test_names_are_the_releases():
    assert (
        name_classifier(Choice(1, True, 0.1 / 4)) == "classifier_1_blocks_avgpool_True_lr_0_02500"
    )
    assert name_classifier(Choice(4, False, 5e-3 / 4)) == (
        "classifier_4_blocks_avgpool_False_lr_0_00125"
    )


def test_a_file_has_the_releases_keys_and_loads_weights_only(tmp_path):
    grid, best = make_grid(), Choice(4, True, SCALED[8])
    save_grid(grid, tmp_path / "a" / "linear.pth", 20_000, best, "ours")
    content = torch.load(tmp_path / "a" / "linear.pth", weights_only=True)
    assert content.keys() == {"model", "iteration", "note"}
    assert content["iteration"] == 20_000
    key = "classifiers_dict.classifier_4_blocks_avgpool_True_lr_0_00125.linear.weight"
    assert torch.equal(content["model"][key], grid.banks[Reading(4, True)].weight[8])
    assert all(name.startswith("classifiers_dict.classifier_") for name in content["model"])
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["linear.pth"]


def test_what_is_loaded_predicts_the_same(tmp_path):
    grid = make_grid()
    save_grid(grid, tmp_path / "g.pth", 7, Choice(1, True, SCALED[4]))
    loaded, iteration, chosen = load_grid(tmp_path / "g.pth", 4, 8)
    assert (iteration, chosen) == (7, Choice(1, True, 0.00005))
    features = Features(torch.zeros(30, 0), torch.randn(30, 4, 4), torch.randn(30, 4))
    ours, theirs = grid.predict(features), loaded.predict(features)
    for choice, classes in theirs.items():
        rate = min(SCALED, key=lambda r, c=choice: abs(r - c.rate))
        assert torch.equal(classes, ours[Choice(choice.blocks, choice.avgpool, rate)])


def test_rates_that_share_a_name_leave_the_larger_one_or_the_chosen_one(tmp_path):
    """2e-5 / 4 and 5e-5 / 4 are both 0.00001 in five decimals."""
    name = "classifiers_dict.classifier_1_blocks_avgpool_True_lr_0_00001.linear.bias"
    grid = make_grid()
    bias = grid.banks[Reading(1, True)].bias
    assert name_classifier(Choice(1, True, SCALED[1])) == name_classifier(
        Choice(1, True, SCALED[2])
    )
    for chosen, kept in ((SCALED[5], 2), (SCALED[1], 1)):
        save_grid(grid, tmp_path / "g.pth", 1, Choice(1, True, chosen))
        content = torch.load(tmp_path / "g.pth", weights_only=True)
        assert torch.equal(content["model"][name], bias[kept])
        assert len(content["model"]) == 2 * 4 * 12


def test_a_file_of_one_classifier(tmp_path):
    state = {
        "classifiers_dict.classifier_1_blocks_avgpool_False_lr_0_00500.linear.weight": torch.eye(3),
        "classifiers_dict.classifier_1_blocks_avgpool_False_lr_0_00500.linear.bias": torch.zeros(3),
    }
    torch.save({"model": state, "iteration": 3, "note": "best"}, tmp_path / "g.pth")
    grid, *_ = load_grid(tmp_path / "g.pth", 3, 8)
    features = Features(torch.zeros(3, 0), torch.eye(3)[[2, 0, 1], None], torch.zeros(3, 3))
    assert grid.predict(features)[Choice(1, False, 0.005)].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model": {}}, "holds no grid"),
        ([1], "holds no grid"),
        ({"model": {"head.weight": torch.eye(2)}}, "holds no grid"),
    ],
)
def test_what_is_no_grid(content, says, tmp_path):
    torch.save(content, tmp_path / "g.pth")
    with pytest.raises(UserError, match=says):
        load_grid(tmp_path / "g.pth", 4, 8)


def test_grids_that_do_not_fit(tmp_path):
    save_grid(make_grid(), tmp_path / "g.pth", 1, Choice(1, True, SCALED[0]))
    with pytest.raises(UserError, match="does not fit the encoder"):
        load_grid(tmp_path / "g.pth", 5, 8)
    with pytest.raises(UserError, match="of 2 blocks"):
        load_grid(tmp_path / "g.pth", 4, 2)
    content = torch.load(tmp_path / "g.pth", weights_only=True)
    first = next(name for name in content["model"] if name.endswith("bias"))
    del content["model"][first]
    torch.save(content, tmp_path / "cut.pth")
    with pytest.raises(UserError, match="lacks a part of classifier_"):
        load_grid(tmp_path / "cut.pth", 4, 8)


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code of the file was executed",))


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_grid(tmp_path / "none.pth", 4, 8)
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Evil()}))
    torch.save({"model": Evil()}, tmp_path / "evil2.pth")
    for name, says in (
        ("damaged", "it is damaged, or nothing that torch.save wrote"),
        ("evil", "it is damaged, or nothing that torch.save wrote"),
        ("evil2", "holds no grid"),  # what is no tensor is passed over
    ):
        with pytest.raises(UserError, match=says):
            load_grid(tmp_path / f"{name}.pth", 4, 8)
