"""Tube, random and motion-aware masks: exact distributions on tiny grids, invariants on real."""

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slim_fast.skeletons import Topology, get_topology, topology_names
from slim_fast.views.masks import TubeMasker, motion_masks, random_masks, shuffle, stratified_ratios
from slim_fast.views.random_stream import RandomStream

# Runs follow the part's order: joints 0 and 1 are neighbours in the tree, but not in the part.
TINY = Topology(
    "tiny",
    ("a", "b", "c", "d"),
    (-1, 0, 0, 2),
    (0, 1, 2, 3),
    {"trunk": (0, 2, 1), "leg": (3,)},
    centre=0,
)
NTU = get_topology("ntu-25")


def tubes(
    topology: Topology, budget: Tensor, tokens: int, min_area: int, max_area: int, seed: int = 0
) -> Tensor:
    rows = torch.ones_like(budget)
    return TubeMasker(topology)(
        budget,
        tokens * rows,
        min_area * rows,
        max_area,
        RandomStream.of(seed, torch.arange(len(budget))),
    )


def heights(width: int, low: int, high: int, tokens: int) -> dict[int, float]:
    """Probability of each duration: area uniform between low and high, round(area / width) clamped
    to 1..tokens.
    """
    if low == high:
        return {min(max(round(low / width), 1), tokens): 1.0}
    low, high = sorted((low, high))
    found: dict[int, float] = defaultdict(float)
    for rounded in range(high + 1):
        share = min(high, (rounded + 0.5) * width) - max(low, (rounded - 0.5) * width)
        if share > 0:
            found[min(max(rounded, 1), tokens)] += share / (high - low)
    return found


def proposals(
    topology: Topology, left: int, tokens: int, min_area: int, max_area: int
) -> dict[frozenset, float]:
    """Every tube, a set of (time, joint), and how probable it is to be proposed while `left` cells
    may be masked.
    """
    found: dict[frozenset, float] = defaultdict(float)
    for part in topology.parts.values():
        for width in range(1, len(part) + 1):
            runs = len(part) - width + 1
            for height, chance in heights(width, min_area, min(left, max_area), tokens).items():
                starts = tokens - height + 1
                for run in range(runs):
                    for start in range(starts):
                        tube = {
                            (t, j)
                            for t in range(start, start + height)
                            for j in part[run : run + width]
                        }
                        found[frozenset(tube)] += chance / (
                            len(topology.parts) * len(part) * runs * starts
                        )
    return found


def exact_distribution(
    topology: Topology, budget: int, tokens: int, min_area: int, max_area: int
) -> dict:
    """Probability of every mask, by following every path of accepted tubes; ten refusals in a row
    end one.
    """
    result: dict[frozenset, float] = defaultdict(float)
    growing = {frozenset(): 1.0}
    while growing:
        mask = min(growing, key=len)  # masks only grow, so this one is complete
        chance = growing.pop(mask)
        left = budget - len(mask)
        taken: dict[frozenset, float] = defaultdict(float)
        if left:
            for tube, probability in proposals(topology, left, tokens, min_area, max_area).items():
                if 0 < len(tube - mask) <= left:
                    taken[mask | tube] += probability
        refused = 1 - sum(taken.values())
        stop = max(refused, 0.0) ** 10 if left else 1.0
        result[mask] += chance * stop
        for larger, probability in taken.items():
            growing[larger] = growing.get(larger, 0.0) + chance * (1 - stop) * probability / (
                1 - refused
            )
    return result


@pytest.mark.parametrize(
    ("budget", "tokens", "min_area", "max_area"),
    [
        (1, 2, 1, 4),
        (1, 2, 3, 4),
        (2, 2, 1, 1),
        (3, 2, 1, 4),
        (5, 2, 2, 4),
        (7, 2, 2, 4),
        (6, 3, 6, 6),
        (3, 1, 1, 2),
    ],
)
def test_tube_masks_have_exactly_the_distribution_of_their_definition(
    budget, tokens, min_area, max_area, surprise
):
    many = 40_000
    expected = exact_distribution(TINY, budget, tokens, min_area, max_area)
    assert sum(expected.values()) == pytest.approx(1)
    masks = tubes(TINY, torch.full((many,), budget), tokens, min_area, max_area)
    assert masks.shape == (many, tokens, 4)
    code = (masks.flatten(1).long() << torch.arange(tokens * 4)).sum(1)
    counts = torch.bincount(code, minlength=2 ** (tokens * 4)).double()
    probability = torch.zeros_like(counts)
    for mask, chance in expected.items():
        probability[sum(1 << (t * 4 + j) for t, j in mask)] = chance
    assert not counts[probability == 0].any(), "a mask that no sequence of tubes makes"
    common = probability * many > 10
    rare = torch.stack([counts[~common].sum(), probability[~common].sum() * many])
    assert abs(rare[0] - rare[1]) < 5 * math.sqrt(rare[1]) + 5
    if common.sum() > 1:
        assert surprise(counts[common], probability[common]) < 5


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(topology_names()),
    tokens=st.integers(1, 8),
    budgets=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    seed=st.integers(0, 10**6),
)
def test_budgets_are_never_exceeded(name, tokens, budgets, seed):
    topology = get_topology(name)
    cells = tokens * topology.num_joints
    budget = torch.tensor([int(b * cells) for b in budgets])
    masks = tubes(topology, budget, tokens, tokens, max(1, cells // 2), seed)
    assert masks.shape == (len(budget), tokens, topology.num_joints)
    assert (masks.sum((1, 2)) <= budget).all()
    assert not masks[budget == 0].any()


@pytest.mark.parametrize("name", topology_names())
@pytest.mark.parametrize(("tokens", "slack"), [(8, 0.02), (4, 0.02), (2, 0.04), (1, 0.06)])
def test_budgets_are_nearly_met(name, tokens, slack):
    topology = get_topology(name)
    v = topology.num_joints
    budget = (torch.linspace(0.5, 0.9, 400) * tokens * v).long()
    masks = tubes(topology, budget, tokens, tokens, 8 * v // 2)
    missing = (budget - masks.sum((1, 2))).double() / (tokens * v)
    assert missing.mean() < slack
    assert (missing == 0).double().mean() > 0.3
    assert (masks.double().mean((0, 1)) > 0.3).all()  # every joint's turn comes
    assert (masks.double().mean((0, 2)) > 0.3).all()  # and every time's


def test_a_budget_of_one_masks_one_cell_unless_ten_tubes_are_too_wide(surprise):
    many = 8000
    masks = tubes(NTU, torch.ones(many, dtype=torch.int64), 8, 1, 100)
    assert masks.sum((1, 2)).max() == 1
    fits = sum(1 / len(part) for part in NTU.parts.values()) / len(NTU.parts)  # a run of one joint
    full = 1 - (1 - fits) ** 10
    assert abs(masks.sum() / many - full) < 5 * math.sqrt(full * (1 - full) / many)
    chance = torch.zeros(25)
    for part in NTU.parts.values():
        chance[list(part)] = 1 / len(part) ** 2  # this part, width one, this joint
    assert surprise(masks.sum((0, 1)), chance) < 5
    assert surprise(masks.sum((0, 2))) < 5


def test_the_whole_grid_can_be_masked():
    masks = tubes(NTU, torch.full((50,), 25), 1, 1, 100)
    assert masks.double().mean() > 0.9


def test_views_of_several_lengths_at_once_are_masked_as_if_alone():
    tokens = torch.tensor([8, 4, 2, 1]).repeat(10)
    budget = (torch.linspace(0, 0.9, 40) * tokens * 25).long()
    stream, masker = RandomStream.of(3, torch.arange(40)), TubeMasker(NTU)
    together = masker(budget, tokens, tokens, 100, stream)
    assert together.shape == (40, 8, 25)
    for i in range(40):
        own = slice(i, i + 1)
        alone = masker(budget[own], tokens[own], tokens[own], 100, stream[own])
        assert torch.equal(together[i, : tokens[i]], alone[0])
        assert not together[i, tokens[i] :].any()


def test_tubes_are_reproducible_and_differ_between_streams():
    budget = torch.full((100,), 120)
    assert torch.equal(tubes(NTU, budget, 8, 8, 100), tubes(NTU, budget, 8, 8, 100))
    masks = tubes(NTU, budget, 8, 8, 100)
    assert len(masks.flatten(1).unique(dim=0)) == 100


def test_no_views_give_no_masks():
    assert tubes(NTU, torch.zeros(0, dtype=torch.int64), 8, 8, 100).shape[0] == 0
    assert not tubes(NTU, torch.zeros(5, dtype=torch.int64), 8, 8, 100).any()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_one_ratio_comes_from_each_stratum(count):
    ratios = stratified_ratios(count, (0.5, 0.9), RandomStream.of(1))
    assert ratios.shape == (count,)
    place = (ratios.double() - 0.5) / 0.4 * count
    assert ((place - torch.arange(count)) > -1e-3).all()
    assert ((place - torch.arange(count)) < 1 + 1e-3).all()


def test_ratios_are_uniform_within_their_stratum(surprise):
    ratios = stratified_ratios(20_000, (0.5, 0.9), RandomStream.of(2)).double()
    inside = ((ratios - 0.5) / 0.4 * 20_000 - torch.arange(20_000)).clamp(0, 0.999)
    assert surprise(torch.bincount((inside * 10).long(), minlength=10)) < 5


def test_shuffling_permutes_uniformly(surprise):
    values = torch.arange(4)
    places = torch.zeros(4, 4)
    for seed in range(4000):
        shuffled = shuffle(values, RandomStream.of(seed))
        places[values, shuffled] += 1
    assert (places.sum(0) == 4000).all()
    assert surprise(places.flatten()) < 5


@pytest.mark.parametrize("tokens", [1, 2, 8])
def test_random_masks_meet_their_budget_exactly_and_uniformly(tokens, surprise):
    cells = tokens * 17
    budget = torch.arange(cells + 1).repeat(60)
    masks = random_masks(budget, tokens, 17, RandomStream.of(0, torch.arange(len(budget))))
    assert torch.equal(masks.sum((1, 2)), budget)
    single = random_masks(
        torch.ones(20_000, dtype=torch.int64), tokens, 17, RandomStream.of(1, torch.arange(20_000))
    )
    assert surprise(single.sum(0).flatten()) < 5


@pytest.mark.parametrize("tokens", [1, 2])
def test_motion_masks_meet_their_budget_exactly_and_prefer_what_moves(tokens, surprise):
    """The first cell drawn has probability softmax(motion / (0.75 × largest motion)) (MAMP)."""
    many, joints, patch = 40_000, 5, 8
    view = torch.rand(1, tokens * patch, joints, 3) * torch.linspace(0.0, 2.0, joints)[:, None]
    motion = (view[:, 1:] - view[:, :-1]).abs()
    motion = (
        torch.cat([torch.zeros(1, 1, joints, 3), motion], 1)
        .view(1, tokens, patch, joints, 3)
        .mean((2, 4))
    )
    expected = (motion / motion.max() / 0.75).flatten().softmax(0)
    views, ones = view.expand(many, -1, -1, -1), torch.ones(many, dtype=torch.int64)
    masks = motion_masks(views, ones, patch, 0.75, RandomStream.of(0, torch.arange(many)))
    assert surprise(masks.sum(0).flatten(), expected) < 5
    budget = torch.arange(tokens * joints + 1)
    masks = motion_masks(views[: len(budget)], budget, patch, 0.75, RandomStream.of(1, budget))
    assert torch.equal(masks.sum((1, 2)), budget)


def test_motion_masks_of_a_still_clip_are_uniform(surprise):
    many = 20_000
    masks = motion_masks(
        torch.ones(many, 16, 5, 3),
        torch.ones(many).long(),
        8,
        0.75,
        RandomStream.of(0, torch.arange(many)),
    )
    assert surprise(masks.sum(0).flatten()) < 5


def test_a_joint_that_is_lost_does_not_count_as_moving(surprise):
    views = torch.ones(4000, 16, 3, 3)
    views[:, 4:12:2, 1] = 0  # appears and disappears, far from the origin
    counts = motion_masks(
        views, torch.ones(4000, dtype=torch.int64), 8, 0.75, RandomStream.of(0, torch.arange(4000))
    ).sum(0)
    assert surprise(counts.flatten()) < 5
