"""The counts are those of what runs, agree with pencil and paper, and the command says what they
mean.
"""

import json
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baselines.mae import MAEConfig, MaskedAutoencoder
from benchmarks.flops import counting, paper, report
from benchmarks.flops.__main__ import main
from benchmarks.flops.closed_form import (
    MATMULS,
    PROFILER,
    Work,
    masked_decoder,
    masked_encoder,
    slim_encoder,
)
from benchmarks.flops.counting import CountError, checked, costs, counted
from slim_fast.data import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.skeletons import get_topology


def run_json(capsys, *arguments):
    assert main(["--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_figures_of_the_recipe(capsys):
    """What 2 * MAC of every matmul comes to, worked out by hand in section 8 of the recipe."""
    got = run_json(capsys)
    wanted = {
        "mae_two_people": 28.10,
        "mae_decoder_two_people": 17.6,
        "slim_one_person": 2.94,
        "slim_two_people": 5.88,
    }
    for name, figure in wanted.items():
        assert got[name] == pytest.approx(figure, rel=0.005)
    assert 1.95 < got["mae_visible_two_people"] < 1.99
    assert 1.95 < 2 * MATMULS.gflops(costs()["MAE, 75 visible"].encoder) < 1.99
    assert got["ratios"]["two people each; matmuls"] == pytest.approx(4.78, abs=0.01)
    assert got["ratios"]["MAE two people, SLiM one; matmuls"] == pytest.approx(9.56, abs=0.01)
    assert got["ratios"]["one person each; matmuls"] == got["ratios"]["two people each; matmuls"]
    assert got["surges"]["75 visible; matmuls"] == pytest.approx(28.10 / 1.98, rel=0.005)


def test_gfp_comes_near_its_published_cost():
    """Its sizes are partly assumed: the decoder is 0.4 % above, the target network 0.4 % below."""
    got, published = costs()["GFP"], paper.PAPER["GFP"]
    assert 2 * MATMULS.gflops(got.decoder) == pytest.approx(published.decoder, rel=0.005)
    assert 2 * MATMULS.gflops(got.target) == pytest.approx(published.target, rel=0.005)
    assert got.encoder == costs()["MAMP"].encoder
    assert costs()["S-JEPA"].inference == costs()["S-JEPA"].target == costs()["MAMP"].inference


def test_a_profilers_convention_meets_the_published_figures_of_the_masked_autoencoders():
    for name in ("SkeletonMAE", "MAMP", "S-JEPA"):
        for part in paper.PARTS:
            published = getattr(paper.PAPER[name], part)
            if published is not None:
                assert 2 * PROFILER.gflops(getattr(costs()[name], part)) == pytest.approx(
                    published, rel=1e-3
                )


def test_closed_form_against_one_matrix_product_after_the_other():
    """A toy encoder and decoder, multiplied out."""
    config = MAEConfig(
        frames=8,
        joints=3,
        patch_frames=2,
        width=16,
        depth=2,
        heads=4,
        decoder_depth=1,
        num_visible=5,
    )

    def block(n):
        maps = [(16, 48), (16, 16), (16, 64), (64, 16)]  # qkv, proj, the two of the feed-forward
        heads = 4 * (2 * n * 4 * n + 2 * n * n * 4)  # q kᵀ, then its softmax times v
        return sum(2 * n * wide * out for wide, out in maps) + heads

    assert masked_encoder(config, 5).matmuls == 2 * 12 * 6 * 16 + 2 * block(5)
    assert masked_encoder(config, 5).softmax == 2 * 4 * 25
    assert masked_decoder(config, 1, 6).matmuls == block(12) + 2 * 12 * 16 * 6


def test_a_batch_of_two_people_costs_twice_one():
    config = MAEConfig(
        frames=8, joints=3, patch_frames=2, width=16, depth=2, heads=4, attention="explicit"
    )
    model = MaskedAutoencoder(config)
    one, two = (counted(lambda n=n: model(torch.randn(n, 8, 3, 3))) for n in (1, 2))
    assert two == one * 2
    assert one.softmax == 2 * 4 * 12**2


def test_the_rest_is_every_other_sum_and_product():
    """Biases, residuals, scaled scores and positions of a real forward are as many as the closed
    form says.
    """

    class Rest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            out = operation(*args, **(kwargs or {}))
            if operation._overloadpacket in (
                torch.ops.aten.addmm,
                torch.ops.aten.add,
                torch.ops.aten.mul,
            ):
                self.numbers += out.numel()
            return out

    config = MAEConfig(
        frames=8, joints=3, patch_frames=2, width=16, depth=2, heads=4, attention="explicit"
    )
    model, clip = MaskedAutoencoder(config), torch.randn(1, 8, 3, 3)
    with torch.no_grad(), Rest() as rest:
        model(clip)
    sum_of_positions = 12 * 16  # of time and of joint, once and not for every clip
    assert rest.numbers == masked_encoder(config, 12).rest + sum_of_positions


def test_slim_costs_on_a_cpu_what_it_costs_on_meta():
    encoder, clip = Encoder(EncoderConfig()), torch.randn(1, 64, 25, 3)
    with torch.no_grad():
        before = encoder.encode_packed([clip], [None])[0]
    counting.costs.cache_clear()
    on_meta = costs()["SLiM"].inference
    assert counted(lambda: encoder.encode_packed([clip], [None])).matmuls == on_meta.matmuls
    assert (
        counted(lambda: encoder.encode_packed([clip.expand(2, -1, -1, -1)], [None])).matmuls
        == 2 * on_meta.matmuls
    )
    with torch.no_grad():  # counting on meta has left nothing behind
        assert torch.equal(encoder.encode_packed([clip], [None])[0], before)


def test_slims_fused_operations_are_counted_too(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    config = EncoderConfig(width=32, depth=1, heads=2, registers=1)
    encoder, clip = Encoder(config, joints=5), torch.randn(1, 8, 5, 3)
    with torch.no_grad():
        encoder.encode_packed(
            [clip], [None]
        )  # the operations register themselves when first used, and a counter looks only once
        with FlopCounterMode(display=False) as counter:
            encoder.encode_packed([clip], [None])
    assert counter.get_total_flops() == slim_encoder(config, 8, joints=5).matmuls
    assert all(
        str(operation).startswith("slim_kernels.")
        for operation in counter.get_flop_counts()["Global"]
    )


@pytest.mark.parametrize("kind", ["matmuls", "softmax", "norms", "activations"])
def test_a_disagreement_is_an_error_that_names_it(kind):
    good = Work(10**9, 10**6, 10**5, 10**4, 7)
    assert checked("MAE, decoder", good * (1 + 1e-8), good).rest == 7
    with pytest.raises(CountError, match=f"MAE, decoder: {kind} were counted as"):
        checked(
            "MAE, decoder", Work(**{**vars(good), kind: getattr(good, kind) * (1 + 1e-5)}), good
        )


def test_the_command_ends_on_a_disagreement(monkeypatch, capsys):
    monkeypatch.setattr(counting, "gfp_targets", lambda config: Work(matmuls=1))
    counting.costs.cache_clear()
    assert main([]) == 1
    assert "GFP, target network: matmuls were counted as" in capsys.readouterr().err
    counting.costs.cache_clear()


def test_people_reached_is_where_slim_costs_what_the_paper_says(capsys):
    got = run_json(capsys)
    reached = got["people_that_meet_the_paper"]["matmuls"]
    assert reached * got["slim_one_person"] == pytest.approx(paper.PAPER["SLiM"].inference)
    assert 1 < reached < 2


@pytest.mark.parametrize(
    ("people", "named"), [("1.22", "SLiM 1.220 (as given)"), ("1.6", "SLiM's first FFN map")]
)
def test_the_verdict_names_the_nearest_basis(capsys, people, named):
    got = run_json(capsys, "--people", people)
    published = got["published"]["ratio"]
    nearest = min(got["ratios"], key=lambda name: abs(got["ratios"][name] - published))
    assert named in nearest
    basis, convention = nearest.split("; ")
    assert f"{basis}, convention “{convention}”: {got['ratios'][nearest]:.2f}" in got["verdict"]


def test_report_reads_well(capsys):
    assert main(["--people", "1.5"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    for words in (
        "Like for like are only: two people each (4.78)",
        "SLiM 1.500 (as given)",
        "28.10 / 28.32",
    ):
        assert words in text.replace("\n", " ")
    assert "an estimate" not in text
    assert main([]) == 0
    assert "is an estimate that agrees with this, not a count" in capsys.readouterr().out.replace(
        "\n", " "
    )


@pytest.mark.parametrize("table", [report.efficiency_table, report.ratio_tables])
def test_markdown(table):
    for part in table().split("\n\n"):
        lines = part.splitlines()
        assert set(lines[1]) <= set("|-: ")
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) > 3


def test_people_of_a_cache(tmp_path, capsys):
    with CacheWriter(tmp_path / "pairs", get_topology("ntu-25")) as writer:
        for number, people in enumerate((1, 2, 2, 1, 1)):
            clip = np.random.default_rng(number).normal(size=(20, 25, 3, people)).astype(np.float32)
            writer.add(Clip(clip, f"clip-{number}"))
    got = run_json(capsys, "--data", str(tmp_path / "pairs"))
    assert got["people_a_clip"] == pytest.approx(7 / 5)
    ratio = got["ratios"]["MAE two people, SLiM 1.400 (mean of pairs); matmuls"]
    assert ratio == pytest.approx(got["mae_two_people"] / (1.4 * got["slim_one_person"]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        *(
            (["--people", people], "--people must be a number above 0")
            for people in ("0", "-1", "nan", "inf", "two")
        ),
        (["--data", "/nowhere/at/all"], "/nowhere/at/all is not a clip cache"),
        (["--data", "x", "--people", "1"], "give one of them"),
    ],
)
def test_bad_inputs_give_one_sentence(capsys, arguments, sentence):
    assert main(arguments) == 2
    streams = capsys.readouterr()
    assert not streams.out
    assert streams.err.startswith("error: ")
    assert streams.err.count("\n") == 1
    assert sentence in streams.err


def test_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--people MEAN", "--data CACHE", "--json"))


def test_published_ratios():
    assert pytest.approx(7.89, abs=0.005) == paper.PAPER_RATIO
    assert pytest.approx(14.38, abs=0.005) == paper.PAPER_SURGE
    assert math.isclose(paper.PAPER_RATIO, 28.32 / 3.59)
