"""What a step and inference are made of, recorded without data."""

from collections import Counter

import pytest
import torch

from benchmarks.predicted import step
from benchmarks.predicted.recording import Operation

pytest.importorskip("triton", reason="the operations are those of a GPU")
BATCH = 2


@pytest.fixture(scope="module")
def made():
    return step.record_views(BATCH)


def ours(operations: list[Operation]) -> Counter[str]:
    names = (found.name for found in operations if "::" in found.name)
    return Counter(name.removeprefix("slim_kernels::") for name in names)


def test_views_are_made_for_real(made) -> None:
    views, operations = made
    assert [tuple(group.clips.shape[:3]) for group in views.groups] == [
        (BATCH, count, frames) for frames, count in ((64, 2), (32, 2), (16, 4), (8, 2))
    ]
    assert not any(found.reads for found in operations)
    assert ours(operations) == {"tube_masks": 1}


@pytest.mark.parametrize("attention", ["all", "visible"])
def test_a_step_is_the_trainers(made, attention: str) -> None:
    views, _ = made
    operations = step.record_step(views, attention)
    blocks = dict.fromkeys(("norm_linear", "linear_residual", "norm_swiglu"), 16)
    found = ours(operations)
    assert {name: found[name] for name in blocks} == blocks  # student and teacher
    assert {found[f"{name}_backward"] for name in [*blocks, "packed_attention"]} == {8}
    assert found["prototype_loss"] == 2
    # the host waits for how many tokens are left
    reads = [found.name for found in operations if found.reads]
    assert reads == ["nonzero"] * (attention == "visible")
    first = next(x for x in operations if x.name.endswith("norm_linear")).arguments[0]
    dropped = sum(int(group.mask.sum()) for group in views.groups[1:])
    assert first.shape[0] == 900 * BATCH - (dropped if attention == "visible" else 0)
    assert any(x.part == "optimiser" and x.name == "_fused_adamw_" for x in operations)
    products = [x for x in operations if x.part.startswith("heads") and x.flops]
    assert {x.dtype for x in products} >= {torch.bfloat16}


def test_the_eager_step_has_the_same_products(made) -> None:
    operations = step.record_eager_step(made[0])
    assert not ours(operations)
    student = sum(found.flops for found in operations if found.part == "student")
    # a token's linear maps, and its patch's embedding
    maps = 8 * 2 * (4 * 256 * 256 + 3 * 256 * 688)
    embedding = 2 * 24 * 256 * sum(group.mask.numel() for group in made[0].groups)
    assert student == maps * 900 * BATCH + embedding


def test_sequences_that_masks_leave(made) -> None:
    views, _ = made
    masked, whole, *local = step.visible_sequences(views)
    assert (masked.tokens, whole.tokens, whole.keys) == (205, 205, 205)
    assert 5 < masked.keys < 205
    assert [kind.bucket for kind in local] == [1, 2, 3]
    assert all(kind.tokens == kind.keys < kind.longest for kind in local)


def test_inference() -> None:
    assert ours(step.record_inference(3, eager=False))["norm_swiglu"] == 8
    eager = step.record_inference(3, eager=True)
    assert sum("flash" in found.name for found in eager) == 8
    assert {found.dtype for found in eager if found.flops} == {torch.bfloat16}
