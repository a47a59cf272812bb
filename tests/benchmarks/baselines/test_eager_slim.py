"""The eager training step is the recipe's: otherwise being faster would mean nothing."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.baselines import numpy_views
from benchmarks.baselines.eager_slim import (
    EagerConfig,
    EagerSLiM,
    cross_entropy,
    koleo,
    make_optimizer,
    sinkhorn,
)
from slim_fast.skeletons import get_topology
from tests.benchmarks.baselines.conftest import walk

COUNTS = (2, 2, 4, 2)


SMALL = EagerConfig(
    joints=17, width=16, depth=2, heads=2, registers=2, head_hidden=32, head_width=16, prototypes=24
)


def torch_batch(batch=4, topology_name="coco-17", seed=0):
    topology = get_topology(topology_name)
    clips = [walk(topology, 60 + 20 * i, seed + i) for i in range(batch)]
    views = numpy_views.sample_batch(clips, topology, np.random.default_rng(seed))
    return [torch.from_numpy(x) for x in views.clips], [torch.from_numpy(x) for x in views.masks]


def test_sinkhorn_rows_sum_to_one_and_columns_get_even():
    logits = F.normalize(torch.randn(64, 8), dim=-1) @ F.normalize(torch.randn(8, 16), dim=0)
    softmax = torch.softmax(logits / 0.04, dim=-1)
    three, many = sinkhorn(logits, 0.04, 3), sinkhorn(logits, 0.04, 200)
    torch.testing.assert_close(three.sum(1), torch.ones(64))
    torch.testing.assert_close(many.sum(0), torch.full((16,), 4.0), rtol=1e-3, atol=1e-3)
    assert (three.sum(0) - 4).abs().max() < (softmax.sum(0) - 4).abs().max() / 2


def test_sinkhorn_equals_the_potentials():
    logits, tau = (torch.rand(20, 7, dtype=torch.float64) * 2 - 1), 0.05
    b = torch.zeros(20, dtype=torch.float64)
    for _ in range(3):
        a = -math.log(7) - torch.logsumexp(logits / tau + b[:, None], 0)
        b = -math.log(20) - torch.logsumexp(logits / tau + a, 1)
    expected = torch.exp(logits / tau + a + b[:, None] + math.log(20))
    torch.testing.assert_close(sinkhorn(logits, tau).double(), expected, rtol=1e-4, atol=1e-6)


def test_koleo_knows_its_neighbours():
    features = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, -1.0], [2.0, 0.2]])
    unit = features / features.norm(dim=1, keepdim=True)
    distances = torch.cdist(unit, unit) + torch.eye(4) * 9
    torch.testing.assert_close(koleo(features), -(distances.min(1).values + 1e-6).log().mean())
    assert koleo(features[:1]) == 0


def test_uniform_predictions_cost_log_k():
    """With all prototypes alike, the contrastive loss is log K and the masked one the masked share
    of it.
    """
    model = EagerSLiM(SMALL)
    clips, masks = torch_batch()
    for head in (model.student.contrastive_head, model.student.masked_head):
        torch.nn.init.ones_(head.prototypes)
    losses = model.loss(clips, masks, 0.05)
    assert losses["contrastive"].item() == pytest.approx(math.log(24), rel=1e-5)
    assert losses["masked"].item() == pytest.approx(math.log(24) / 2, rel=1e-5)
    masks[0][:] = False
    assert model.loss(clips, masks, 0.05)["masked"] == 0


def test_losses_equal_their_definition_view_by_view():
    model = EagerSLiM(SMALL)
    for p in model.parameters():
        p.data.add_(torch.randn_like(p) * 0.2)
    clips, masks = torch_batch(batch=3, seed=5)
    student, teacher = model.student, model.teacher
    got = model.loss(clips, masks, 0.06)

    with torch.no_grad():
        seen = [[teacher.encoder(clips[0][i, v][None])[0] for v in range(2)] for i in range(3)]
        cls = torch.stack(
            [teacher.contrastive_head(seen[i][v][0]) for i in range(3) for v in range(2)]
        )
        cls_targets = sinkhorn(cls, 0.06).view(3, 2, -1)
        rows = [
            teacher.masked_head(seen[i][v][3:][masks[0][i, v].flatten()])
            for i in range(3)
            for v in range(2)
        ]
        patch_targets = sinkhorn(torch.cat(rows), 0.06).split([len(r) for r in rows])

        contrastive, masked, features = [], 0.0, []
        for i in range(3):
            views = [(w, n) for w in range(4) for n in range(COUNTS[w])]
            for w, n in views:
                tokens = student.encoder(clips[w][i, n][None], masks[w][i, n][None])[0]
                prediction = student.contrastive_head(tokens[0])
                for target in range(2):
                    if (w, n) != (0, target):
                        contrastive.append(cross_entropy(cls_targets[i, target], prediction, 0.1))
                if w == 0:
                    features.append(tokens[0])
                    where = masks[0][i, n].flatten()
                    if where.any():
                        entropy = cross_entropy(
                            patch_targets[2 * i + n], student.masked_head(tokens[3:][where]), 0.1
                        )
                        masked += entropy.mean() / 6
    assert len(contrastive) == 3 * 18
    torch.testing.assert_close(
        got["contrastive"], torch.stack(contrastive).mean(), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(got["masked"], masked, rtol=1e-4, atol=1e-5)
    spread = koleo(torch.stack(features[0::2])) + koleo(torch.stack(features[1::2]))
    torch.testing.assert_close(got["koleo"], spread, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got["loss"], got["contrastive"] + got["masked"] + 0.1 * got["koleo"])


def test_training_on_one_batch_lowers_the_loss():
    model = EagerSLiM(SMALL)
    clips, masks = torch_batch(batch=6)
    optimizer = make_optimizer(model, lr=2e-3)
    losses = [
        model.training_step(optimizer, clips, masks, 0.05, momentum=0.99)["loss"].item()
        for _ in range(40)
    ]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_a_step_moves_the_teacher_by_its_momentum_and_may_freeze_prototypes():
    model = EagerSLiM(SMALL)
    clips, masks = torch_batch()
    before = {name: p.clone() for name, p in model.teacher.named_parameters()}
    model.training_step(
        make_optimizer(model, 1e-2), clips, masks, 0.05, momentum=0.75, freeze_prototypes=True
    )
    for name, student in model.student.named_parameters():
        torch.testing.assert_close(
            dict(model.teacher.named_parameters())[name], 0.75 * before[name] + 0.25 * student
        )
        assert torch.equal(student, before[name]) == name.endswith("prototypes")


def test_optimizer_groups_follow_the_recipe():
    model = EagerSLiM(SMALL)
    names = {id(p): name for name, p in model.student.named_parameters()}
    settings = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in make_optimizer(model, 1.0, 0.1).param_groups
        for p in group["params"]
    }
    assert settings.keys() == set(names.values())
    assert settings["encoder.patch_embed.proj.weight"] == (0.2, 0.1)
    assert settings["encoder.patch_embed.proj.bias"] == (0.2, 0.0)
    decayed = (
        "encoder.cls_token",
        "encoder.mask_token",
        "encoder.pos_embed",
        "masked_head.prototypes",
    )
    assert all(
        settings[name] == (1.0, 0.1) for name in (*decayed, "encoder.blocks.1.mlp.w3.weight")
    )
    assert all(
        settings[n] == (1.0, 0.0) for n in ("encoder.norm.weight", "encoder.blocks.0.attn.qkv.bias")
    )
