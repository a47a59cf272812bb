"""Feeders that lay bodies down are found out by the first clips."""

import re
import warnings

import pytest
import torch

from slim_fast.data.synthetic import write_synthetic
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.interop.ctrgcn import Model
from slim_fast.interop.mmaction2 import SLiM as MMActionBackbone
from slim_fast.interop.pyskl import SLiM as Backbone
from slim_fast.skeletons import get_topology
from tests.interop.adapters.conftest import EXAMPLES
from tests.interop.adapters.stand_ins import openmmlab

SAYS = (
    r"stand along z\. The encoder, made for ntu-25 with y up, .* "
    r"PreNormalize3D\(align_spine=False\)"
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """(B, C, T, V, M) of people who stand, y up, every other with an empty place for a second."""
    cache = write_synthetic(
        tmp_path_factory.mktemp("made") / "clips",
        subjects=2,
        repetitions=1,
        actions=("wave", "push"),
        progress=False,
    )
    x = load_evaluation_clips(cache, [0, 1, 2, 3]).permute(0, 4, 2, 3, 1)
    return x[:, :, :16]


def lying(x):
    """Turned about x, so that the spine points to +z, as by PYSKL's and mmaction2's
    PreNormalize3D().
    """
    return torch.stack([x[:, 0], -x[:, 2], x[:, 1]], 1)


def said(model, x):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model(x)
    return [str(warning.message) for warning in told]


@pytest.mark.parametrize("kind", [Backbone, MMActionBackbone, Model])
def test_one_warning_of_bodies_that_lie(clips, checkpoint, kind):
    def make():
        if kind is Model:
            return Model(2, pretrained=checkpoint()).eval()
        backbone = kind({"layout": "nturgb+d"}, pretrained=checkpoint()).eval()
        return lambda x: backbone(x.permute(0, 4, 2, 3, 1))

    model = make()
    (sentence,) = said(model, lying(clips))
    assert re.search(SAYS, sentence)
    assert said(model, lying(clips)) == []
    assert said(make(), clips) == []


def test_other_ways_to_stand_wrongly_and_none(clips, checkpoint):
    for x, along in ((-clips, "-y"), (lying(clips), "z"), (-lying(clips), "-z")):
        (sentence,) = said(Model(2, pretrained=checkpoint()), x)
        assert f"stand along {along}." in sentence
    spread = torch.cat([clips, lying(clips), -lying(clips), clips.flip(1)])  # all over the floor
    for x in (spread, torch.zeros_like(clips), clips * torch.nan, torch.randn_like(clips)):
        assert said(Model(2, pretrained=checkpoint()), x) == []
    assert said(Model(2, num_point=5), torch.randn(2, 3, 16, 5, 1)) == []  # nameless joints


def test_pictures_stand_downwards(checkpoint):
    coco, x = get_topology("coco-17"), torch.rand(4, 3, 16, 17, 1)
    for joint, name in enumerate(coco.joints):
        x[:, 1, :, joint] = {"nose": 0, "shoulder": 0.4, "hip": 1.2, "ankle": 2.0}.get(
            name.split("_")[-1], 0.8
        )
    assert said(Model(2, num_point=17, pretrained=checkpoint("coco-17", "xyc")), x) == []
    x[:, 1] *= -1
    (sentence,) = said(Model(2, num_point=17, pretrained=checkpoint("coco-17", "xyc")), x)
    assert "stand along y. The encoder, made for coco-17 with -y up" in sentence


@pytest.mark.parametrize("name", ["pyskl", "mmaction2"])
def test_the_examples_leave_bodies_standing(name):
    config = openmmlab.read_config(EXAMPLES / f"{name}_config.py")
    pipelines = [value for key, value in config.items() if key.endswith("pipeline")]
    steps = [
        step for pipeline in pipelines for step in pipeline if step["type"] == "PreNormalize3D"
    ]
    assert len(steps) == len(pipelines) >= 1
    assert all(step["align_spine"] is False for step in steps)
