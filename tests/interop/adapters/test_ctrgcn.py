"""CTR-GCN's trainer takes the encoder by two lines of its YAML."""

import pytest
import torch

from slim_fast import UserError
from slim_fast.interop.ctrgcn import Model
from tests.interop.adapters.conftest import swapped, toy
from tests.interop.adapters.stand_ins import ctrgcn


@pytest.mark.filterwarnings("error")
def test_training(checkpoint, tmp_path):
    config = swapped("ctrgcn.yaml")
    assert config["model_args"].keys() - {"pretrained"} <= set(ctrgcn.CTRGCN.split())
    config["model_args"] |= {"pretrained": checkpoint(), "num_class": 2}
    config["base_lr"] = 5e-3
    model = ctrgcn.build(config, tmp_path)
    assert (tmp_path / "ctrgcn.py").exists()
    x, labels = toy(16)
    losses = ctrgcn.train(model, config, [(x, labels)] * 12)
    assert losses[-1] < 0.2 * losses[0]
    assert torch.equal(ctrgcn.evaluate(model, x), labels)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_logits_are_the_classifiers_in_both_layouts(make_classifier, tmp_path):
    classifier = make_classifier(4, "ntu-25")
    classifier.save_pretrained(tmp_path / "c")
    model = Model(pretrained=tmp_path / "c").eval()
    x, _ = toy(4)
    assert torch.equal(model(x), classifier(x))
    single = x[..., :1]
    # (N, T, V * C)
    flat = torch.stack([single[:, :, t, :, 0].transpose(1, 2).flatten(1) for t in range(16)], 1)
    torch.testing.assert_close(model(flat), classifier(single))
    assert torch.equal(model(x[::3]), model(x[::3, ..., :1]))
    with pytest.raises(UserError, match=r"takes clips \(B, C=3, T, V=25, M\)"):
        model(flat[..., :-1])


def test_dropout_and_sizes(checkpoint):
    torch.manual_seed(0)
    model = Model(num_class=5, num_point=25, in_channels=3, drop_out=0.5, pretrained=checkpoint())
    x, _ = toy(4)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    for arguments, says in (
        ({"num_point": 20}, "num_point=20"),
        ({"in_channels": 2}, "in_channels=2"),
    ):
        with pytest.raises(UserError, match=rf"contradicts {says} \(it has "):
            Model(**arguments, pretrained=checkpoint())
