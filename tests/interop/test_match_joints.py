"""Encoders of another skeleton are refused by every command, or carried over when asked."""

import json
import warnings

import numpy as np
import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder, UserError, evaluate, export, stream
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.evaluation.probe import check_encoder_fits, probe
from slim_fast.interop.ctrgcn import Model
from slim_fast.interop.pyskl import SLiM as Backbone
from slim_fast.interop.skateformer import SkateFormer_
from slim_fast.model.files import load_encoder
from slim_fast.skeletons import get_topology
from tests.skeletons.test_compatibility import permuted

KINDS = [
    ("openpose-25", "xyc", "ntu-25", "xyz"),
    ("kinect-v1-20", "xyz", "utd-mhad-20", "xyz"),
    ("h36m-17", "xyz", "coco-17", "xyc"),
    ("coco-17", "xyz", "coco-17", "xyc"),
    ("coco-17", "xy", "coco-17", "xyc"),
]
SAYS = (
    r"The encoder takes {} \(\d+ joints\) with the channels {}, but .* holds {} \(\d+ joints\) "
    r"with {}: .*match-joints"
)


def make_cache(folder, topology, channels, clips=24):
    """Two classes, of 24 frames each, that differ in one hand."""
    topology, rng = (
        get_topology(topology) if isinstance(topology, str) else topology,
        np.random.default_rng(0),
    )
    with CacheWriter(folder, topology, channels, classes=["still", "waving"]) as writer:
        for number in range(clips):
            clip = rng.normal(size=(24, topology.num_joints, len(channels), 1))
            if channels.endswith("c"):
                clip[:, :, -1] = 0.9
            clip[:, 7, 0] += 4 * (number % 2)
            writer.add(
                Clip(
                    clip, f"{number}", number % 2, split={"all": "train" if number < 16 else "test"}
                )
            )
    return ClipCache.open(folder)


@pytest.mark.parametrize(("trained", "theirs", "data", "channels"), KINDS)
def test_evaluate(make_encoder, tmp_path, capsys, trained, theirs, data, channels):
    make_cache(tmp_path / "cache", data, channels)
    encoder = make_encoder(trained, theirs)
    encoder.save_pretrained(tmp_path / "encoder")
    command = ["knn", str(tmp_path / "encoder"), "--data", str(tmp_path / "cache"), "--json"]
    assert evaluate.main(command) == 2
    with pytest.raises(UserError, match="match-joints"):
        probe(ClipCache.open(tmp_path / "cache"), load_encoder(tmp_path / "encoder"))
    with pytest.raises(UserError, match=SAYS.format(trained, theirs, data, channels)) as raised:
        check_encoder_fits(ClipCache.open(tmp_path / "cache"), load_encoder(tmp_path / "encoder"))
    assert capsys.readouterr().err == f"error: {raised.value}\n"
    assert evaluate.main([*command, "--match-joints"]) == 0
    figures = json.loads(capsys.readouterr().out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        carried = encoder.to_skeleton(data, channels)
    want = probe(ClipCache.open(tmp_path / "cache"), carried, ("knn",))["knn"]["learned"]
    assert [figures["knn"][f"{k}-NN"]["learned"]["mean"] for k in want] == list(want.values())


def test_joints_in_another_order_are_put_back_exactly(make_encoder, tmp_path, capsys):
    ntu, order = get_topology("ntu-25"), list(np.random.default_rng(0).permutation(25))
    cache = make_cache(tmp_path / "cache", ntu, "xyz")
    encoder = make_encoder(permuted(ntu, order))
    encoder.save_pretrained(tmp_path / "encoder")
    x = torch.randn(2, 3, 16, 25, 2)
    carried = encoder.to_skeleton(ntu)
    # what its embedding adds is the same, joint by joint
    assert torch.equal(carried.pos_embed[0, 1:][order], encoder.pos_embed[0, 1:])
    torch.testing.assert_close(carried(x), encoder(x[:, :, :, order]), rtol=1e-4, atol=1e-4)
    command = ["knn", str(tmp_path / "encoder"), "--data", str(cache.path)]
    assert evaluate.main(command) == 2
    assert "the joints are the same in another order" in capsys.readouterr().err
    assert evaluate.main([*command, "--match-joints"]) == 0


def test_what_fits_is_left_as_it_is(make_encoder, tmp_path, capsys):
    cache = make_cache(tmp_path / "cache", "coco-17", "xyc")
    make_encoder("coco-17", "xyc").save_pretrained(tmp_path / "named")
    make_encoder(17, "xyz").save_pretrained(tmp_path / "nameless")
    make_encoder(18, "xyz").save_pretrained(tmp_path / "other")
    for name in ("named", "nameless"):  # of a nameless one only the numbers are known
        printed = []
        for more in ([], ["--match-joints"]):
            assert (
                evaluate.main(["knn", str(tmp_path / name), "--data", str(cache.path), *more]) == 0
            )
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]
    assert (
        evaluate.main(["knn", str(tmp_path / "other"), "--data", str(cache.path), "--match-joints"])
        == 2
    )
    assert "only the number is known: name the topology" in capsys.readouterr().err


def test_stream(make_encoder, make_classifier, tmp_path, capsys):
    cache = make_cache(tmp_path / "cache", "utd-mhad-20", "xyz")
    make_encoder("kinect-v1-20").save_pretrained(tmp_path / "encoder")
    make_classifier(2, "kinect-v1-20").save_pretrained(tmp_path / "classifier")
    for name in ("encoder", "classifier"):
        command = [
            str(tmp_path / name),
            "--data",
            str(cache.path),
            "--out",
            str(tmp_path / f"{name}.gif"),
            "--window",
            "16",
        ]
        assert stream.main(command) == 2
        assert "the joints are the same in another order" in capsys.readouterr().err
        assert not (tmp_path / f"{name}.gif").exists()
        more = ["--save-classifier", str(tmp_path / "fitted")] if name == "encoder" else []
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a new head above all
            assert stream.main([*command, "--match-joints", *more]) == 0
        assert (tmp_path / f"{name}.gif").exists()
    assert SLiMClassifier.from_pretrained(tmp_path / "fitted").topology == cache.topology


def test_export(make_encoder, tmp_path, capsys):
    encoder = make_encoder("ntu-25")
    encoder.save_pretrained(tmp_path)
    command = [str(tmp_path), "--to", "torch-export"]
    assert export.main([*command, "--channels", "xy"]) == 2
    assert "--channels is for --match-joints" in capsys.readouterr().err
    assert export.main([*command, "--match-joints", "coco-18"]) == 2
    assert "There is no topology called 'coco-18'" in capsys.readouterr().err
    assert export.main([*command, "--match-joints", "coco-17", "--channels", "xy"]) == 0
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    x = torch.randn(2, 2, 16, 17, 1)
    torch.testing.assert_close(
        program(x)[0].flatten(0, 1), encoder.to_skeleton("coco-17", "xy")(x), rtol=1e-4, atol=1e-4
    )


def test_adapters(make_encoder, tmp_path):
    for name in ("ntu-25", "openpose-25", "utd-mhad-20", "kinect-v1-20"):
        make_encoder(name).save_pretrained(tmp_path / name)
    make_encoder("coco-17", "xyz").save_pretrained(tmp_path / "coco-17")
    coco = {"layout": "coco"}
    for make, says in (
        (
            lambda: Backbone({"layout": "nturgb+d"}, pretrained=tmp_path / "openpose-25"),
            "layout=ntu-25 .*has openpose-25",
        ),
        (lambda: Backbone(coco, pretrained=tmp_path / "coco-17"), r"channels=xyc \(it has xyz\)"),
        (
            lambda: Backbone(coco, in_channels=3, pretrained=tmp_path / "coco-17"),
            r"channels=xyc \(it has xyz\)",
        ),
        (
            lambda: Backbone(coco, channels="xyc", pretrained=tmp_path / "coco-17"),
            r"channels=xyc \(it has xyz\)",
        ),
        (
            lambda: SkateFormer_(num_points=20, pretrained=tmp_path / "utd-mhad-20"),
            "num_points=kinect-v1-20 .*utd-mhad",
        ),
        (
            lambda: SkateFormer_(num_points=24, pretrained=tmp_path / "openpose-25"),
            "num_points=ntu-25 .*openpose-25",
        ),
        (
            lambda: Model(2, graph="graph.ntu_rgb_d.Graph", pretrained=tmp_path / "openpose-25"),
            "graph=ntu-25 .*openpose-25",
        ),
        (
            lambda: Model(2, 20, graph="graph.ucla.Graph", pretrained=tmp_path / "utd-mhad-20"),
            "graph=kinect-v1-20 .*utd",
        ),
    ):
        with pytest.raises(UserError, match=says):
            make()
    assert Backbone(coco, channels="xyz", pretrained=tmp_path / "coco-17").channel_names == "xyz"
    assert Model(2, 20, graph="graph.ucla.Graph", pretrained=tmp_path / "kinect-v1-20").joints == 20
    assert Model(2, 25, graph="graph.ntu_rgb_d.Graph").topology == get_topology("ntu-25")
    # a number is all that is asked for
    assert Model(2, 25, pretrained=tmp_path / "openpose-25").joints == 25
    assert isinstance(SLiMEncoder.from_pretrained(tmp_path / "coco-17"), SLiMEncoder)
