"""Runs of the masked autoencoder: resumed, evaluated and used as those of SLiM are."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slim_fast import SLiMEncoder, pretrain
from slim_fast.data import ClipCache
from slim_fast.data.synthetic import write_synthetic
from slim_fast.errors import UserError
from slim_fast.evaluation.probe import compute_online_knn
from slim_fast.interop.initial import load_initial_weights
from slim_fast.training.clips import select_knn_clips
from slim_fast.training.trainer import Trainer
from slim_fast.views.store import FrameStore

MAE = {
    "method": "mae",
    "mae__decoder_depth": 1,
    **dict.fromkeys(
        ("model__head__hidden", "model__head__bottleneck", "model__head__prototypes"), None
    ),
    "views__local": None,
    "optim__freeze_prototypes": None,
}
Same = Callable[[Any, Any], bool]


def test_a_stopped_run_goes_on_bit_for_bit(
    run: Callable[..., int],
    tmp_path: Path,
    outcome: Callable[[Path], dict[str, Any]],
    same: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(**MAE, out=tmp_path / "whole") == 0
    step = Trainer.step

    def stopping(self: Trainer, number: int) -> Any:
        if number == 4:
            monkeypatch.setattr(Trainer, "step", step)
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number)

    monkeypatch.setattr(Trainer, "step", stopping)
    assert run(**MAE) == 128 + signal.SIGTERM
    with pytest.warns(UserWarning, match="this is its encoder after step 5 of 8"):
        unfinished = SLiMEncoder.from_pretrained(tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoints" / "step-00000005.pt", weights_only=True)
    assert {name.split(".")[0] for name in state["model"]} == {"encoder", "decoder"}
    for name, tensor in unfinished.state_dict().items():
        assert torch.equal(tensor, state["model"][f"encoder.{name}"])
    assert run(**MAE) == 0
    assert same(outcome(tmp_path / "run"), outcome(tmp_path / "whole"))


def test_its_encoder_is_evaluated_recorded_and_used(
    run: Callable[..., int], tiny_trainer: Callable[..., Trainer], tmp_path: Path, cache_path: Path
) -> None:
    assert run(**MAE) == 0
    folder, trainer = tmp_path / "run", tiny_trainer(**MAE)
    encoder = SLiMEncoder.from_pretrained(folder)
    config = trainer.config
    store = FrameStore(ClipCache.open(cache_path), ClipCache.open(cache_path).split(None)[0])
    trainer = Trainer(config, store)
    for step in range(config.steps):
        trainer.step(step)
    for name, tensor in trainer.model.evaluated.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name])
    cache = ClipCache.open(cache_path)
    clips = select_knn_clips(cache, config)
    assert clips is not None
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["method"] == "mae"
    assert summary["knn_top1"] == compute_online_knn(cache, encoder, *clips)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "learning_rate", "weight_decay", "gradient_norm"} <= records[0].keys()
    assert not [name for name in records[0] if "teacher" in name or "prototypes" in name]
    assert encoder(torch.randn(2, 3, 16, 5, 1)).isfinite().all()
    encoder.save_pretrained(tmp_path / "saved")
    assert "| method | mae |" in (tmp_path / "saved" / "README.md").read_text()


def test_it_starts_from_an_encoder(
    tiny_trainer: Callable[..., Trainer], whole_run: Path, same: Same
) -> None:
    trainer = tiny_trainer(**MAE)
    store, sizes = trainer.store, trainer.config.model.encoder
    weights = load_initial_weights(str(whole_run), store.topology, store.channels, sizes)
    trainer.start_from(weights, "a run")
    assert same(dict(trainer.model.evaluated.state_dict()), dict(weights))


def test_the_loss_falls_on_generated_actions(tmp_path: Path) -> None:
    cache = write_synthetic(tmp_path / "cache", subjects=2, repetitions=1, actions=("wave", "kick"))
    words = ["--method=mae", f"--data={cache.path}", "--steps=60", "--batch=8", "--device=cpu"]
    words += ["--views.window=16", "--model.encoder.width=32", "--model.encoder.depth=2"]
    words += ["--mae.target=coordinates", "--mae.normalised=false", "--optim.learning_rate=0.03"]
    trainer = Trainer(pretrain.parse([*words, "--precision=fp32"]), FrameStore(cache))
    losses = [trainer.step(step)[0]["loss"].item() for step in range(60)]
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model__head__prototypes": 8}, "model.head.prototypes is not read by the method mae"),
        ({"model__loss__koleo": 0.3}, "model.loss.koleo is not read by"),
        ({"model__encoder__attention": "visible"}, "model.encoder.attention is not read by"),
        ({"optim__teacher_momentum": [0.9, 1]}, "optim.teacher_momentum is not read by"),
        ({"optim__freeze_prototypes": 0.3}, "optim.freeze_prototypes is not read by"),
        ({"views__mask__local": "false"}, "views.mask.local is not read by"),
        ({"views__mask__global_share": 0.5}, "set views.local=[], views.mask.global_share=1"),
        ({"views__local": [{"window": 8, "count": 1}]}, "set views.local=[]"),
        ({"views__mask__ratio": [0, 0.5]}, "a views.mask.ratio above 0"),
        ({"preset": "ablation-cl"}, "no variant for the method mae; choose one of mae-demo, mae-"),
        ({"preset": "mae-small", "method": "slim"}, "no variant for the method slim"),
        ({"method": "mea"}, "method"),
    ],
)
def test_what_it_does_not_read_is_refused(
    changes: dict[str, Any], says: str, refused: Callable[..., str]
) -> None:
    assert says in refused(**MAE | changes)


def test_slim_reads_nothing_of_it(refused: Callable[..., str]) -> None:
    assert "mae.decoder_depth is not read by the method slim" in refused(mae__decoder_depth=3)


def test_a_run_of_another_method_is_not_resumed(
    run: Callable[..., int], refused: Callable[..., str], finished: Path
) -> None:
    before = (finished / "config.json").read_bytes()
    said = refused(**MAE)
    assert said == (
        f"{finished} holds a run of the method slim, not mae; give --method slim to resume it, or "
        "choose another --out."
    )
    assert (finished / "config.json").read_bytes() == before


def test_presets_of_a_method_are_found_by_the_other_ones_name(tmp_path: Path) -> None:
    for name in pretrain.find_presets():
        assert pretrain.parse(["--preset", name, "--data=c"]).method == pretrain.method_of(name)
    demo = pretrain.parse(["--method", "mae"])
    assert demo == pretrain.parse(["--preset=mae-demo"])
    assert demo.out == str(Path("runs") / "mae-demo")
    small = pretrain.parse(["--preset", "small", "--method=mae", "--data=c"])
    assert small == pretrain.parse(["--preset", "mae-small", "--data=c"])
    (tmp_path / "a.yaml").write_text("preset: small\nmethod: mae\ndata: c\n")
    assert pretrain.parse(["--config", str(tmp_path / "a.yaml")]) == small
    (tmp_path / "b.json").write_text(json.dumps(small.to_json()))
    assert pretrain.parse(["--config", str(tmp_path / "b.json")]) == small
    with pytest.raises(UserError, match="no variant for the method mae"):
        pretrain.parse(["--method=mae", "--preset=ablation-cl"])


def test_small_and_its_variant_differ_by_what_is_learned_from() -> None:
    ours, other = (pretrain.parse(["--preset", p, "--data=c"]) for p in ("small", "mae-small"))
    # the masked autoencoder's encoder meets no mask tokens, so it has none to attend to
    assert replace(ours.model.encoder, attention="all") == other.model.encoder
    assert (ours.steps, ours.batch, ours.views.window) == (
        other.steps,
        other.batch,
        other.views.window,
    )
