"""The command line: presets, --help, --print-config."""

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from slim_fast import pretrain
from slim_fast.errors import UserError
from slim_fast.training.config import PretrainConfig
from slim_fast.training.schedules import compute_schedules
from slim_fast.views.pipeline import LocalViewConfig

NTU = ["ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset"]
ABLATIONS = ["mfm", "cl", "glcl", "both"]
ABLATIONS += ["mask-random", "mask-motion", "mask-tube-no-local", "mask-tube"]
MAE = ["mae-demo", "mae-small", "mae-ntu60-xsub"]
SMALL = ["small", "small-wide"]
PRESETS = ["demo", *SMALL, *NTU, "pku-mmd-2", *MAE, *(f"ablation-{name}" for name in ABLATIONS)]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        pretrain.main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def load(preset: str, *arguments: str) -> PretrainConfig:
    return copy.deepcopy(_load(preset, *arguments))


@cache
def _load(preset: str, *arguments: str) -> PretrainConfig:
    return pretrain.parse(["--preset", preset, "--data", "somewhere", *arguments])


def leaves(kind: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of every field, down to the ones that are no dataclasses."""
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from leaves(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def test_shipped_presets() -> None:
    assert sorted(pretrain.find_presets()) == sorted(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_parses_and_says_what_it_is(preset: str) -> None:
    load(preset)
    first = pretrain.find_presets()[preset].read_text().splitlines()[0]
    assert first.startswith("# ")


def test_demo_is_the_default() -> None:
    assert (
        pretrain.parse([])
        == pretrain.parse(["--preset", "demo"])
        == pretrain.parse(["--preset=demo"])
    )
    assert pretrain.parse([]).data == "synthetic"
    assert pretrain.parse([]).out == str(Path("runs") / "demo")
    assert load("small").out == str(Path("runs") / "small")


def test_small_wide_is_small_of_twice_the_width() -> None:
    wide = load("small-wide", "--model.encoder.width", "64", "--model.encoder.heads", "2")
    assert dataclasses.replace(wide, out="") == dataclasses.replace(load("small"), out="")
    encoder = load("small-wide").model.encoder
    assert (encoder.width, encoder.heads) == (128, 4)


@pytest.mark.parametrize("preset", [*NTU, "pku-mmd-2"])
def test_published_recipe(preset: str) -> None:
    """Sections 1 to 6 of the recipe, in numbers."""
    config = load(preset)
    assert (config.steps, config.batch) == (187_500, 768)
    assert config.split == (None if preset == "pku-mmd-2" else preset)
    encoder, head, optim, views = (
        config.model.encoder,
        config.model.head,
        config.optim,
        config.views,
    )
    assert (encoder.width, encoder.depth, encoder.heads, encoder.registers, encoder.hidden) == (
        256,
        8,
        8,
        4,
        688,
    )
    assert (head.hidden, head.bottleneck, head.prototypes) == (2048, 256, 65_536)
    assert asdict(config.model.loss) == {"contrastive": 1.0, "masked": 1.0, "koleo": 0.1}
    assert (optim.learning_rate, optim.final_learning_rate) == (2e-4, 1e-6)
    assert (optim.betas, optim.weight_decay, optim.clip) == ((0.9, 0.999), (0.04, 0.2), 3.0)
    assert (optim.teacher_momentum, optim.teacher_temperature) == ((0.994, 1.0), (0.04, 0.07))
    assert optim.patch_embed_scale == 0.2
    assert optim.warmup * config.steps == pytest.approx(20 * 1250)
    assert optim.teacher_temperature_warmup * config.steps == pytest.approx(30 * 1250)
    assert optim.freeze_prototypes * config.steps == pytest.approx(1250)
    assert (views.window, views.interval) == (64, (0.5, 1.0))
    assert views.local == [
        LocalViewConfig(32, 1, (0.35, 0.7)),
        LocalViewConfig(16, 2, (0.15, 0.4)),
        LocalViewConfig(8, 1, (0.05, 0.2)),
    ]
    assert (views.mask.kind, views.mask.ratio, views.mask.global_share) == ("tube", (0.5, 0.9), 0.5)
    assert views.mask.local
    assert views.mask.shuffle_local
    augment = views.augment
    assert (augment.mirror, augment.scale, augment.rotate) == (0.5, 0.5, 0.5)
    assert (augment.scale_range, augment.tilt, augment.turn) == ((0.85, 1.15), 0.3, 0.3)
    assert (augment.noise, augment.noise_probability) == ((0.01, 0.05, 0.01), (1.0, 0.1, 0.5))
    assert augment.flatten == 0.2


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_the_recipe_at_100_epochs_but_for_one_thing(name: str) -> None:
    config, whole = load(f"ablation-{name}"), load("ntu60-xsub")
    assert config.steps == 100 * 1250
    optim = config.optim
    shares = (optim.warmup, optim.teacher_temperature_warmup, optim.freeze_prototypes)
    assert [share * 100 for share in shares] == pytest.approx([20, 30, 1])
    assert (
        compute_schedules(20 * 1250 - 1, config.steps, 768, optim).learning_rate
        < compute_schedules(20 * 1250, config.steps, 768, optim).learning_rate
        == pytest.approx(2e-4 * 0.75**0.5)
    )
    mask, loss, views = config.views.mask, config.model.loss, config.views
    expected = {
        "mfm": loss.contrastive == 0 and loss.koleo == 0 and loss.masked == 1 and not views.local,
        "cl": loss.masked == 0
        and loss.contrastive == 1
        and not views.local
        and mask.global_share == 0,
        "glcl": loss.masked == 0
        and loss.contrastive == 1
        and len(views.local) == 3
        and mask.global_share == 0,
        "both": True,
        "mask-random": mask.kind == "random" and mask.local,
        "mask-motion": mask.kind == "motion" and mask.local,
        "mask-tube-no-local": mask.kind == "tube" and not mask.local,
        "mask-tube": True,
    }
    assert expected[name]
    # Everything that no ablation is about is the recipe's.
    config.steps, config.split, config.out = whole.steps, whole.split, whole.out
    for field in ("warmup", "teacher_temperature_warmup", "freeze_prototypes"):
        setattr(optim, field, getattr(whole.optim, field))
    if name not in ("both", "mask-tube"):
        assert config != whole
        mask.kind, mask.local, mask.global_share = "tube", True, 0.5
        views.local, config.model.loss = whole.views.local, whole.model.loss
    assert config == whole


def test_command_line_is_laid_over_the_file_and_that_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("steps: 77\noptim: {clip: 1.5}\nmodel: {head: {prototypes: 99}}\n")
    config = load(
        "ntu60-xsub", "--config", str(file), "--model.head.prototypes", "100", "--seed", "4"
    )
    assert (config.steps, config.optim.clip, config.model.head.prototypes, config.seed) == (
        77,
        1.5,
        100,
        4,
    )
    assert (config.model.head.hidden, config.optim.warmup, config.split) == (
        2048,
        20 / 150,
        "ntu60-xsub",
    )


def test_file_may_name_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: ntu120-xset\ndata: somewhere\nsteps: 77\n")
    config = pretrain.parse(["--config", str(file)])
    assert (config.split, config.steps, config.batch) == ("ntu120-xset", 77, 768)
    assert config.out == str(Path("runs") / "ntu120-xset")
    file.write_text("preset: nosuch\n")
    with pytest.raises(UserError, match="nosuch"):
        pretrain.parse(["--config", str(file)])


@pytest.mark.parametrize(
    "preset", ["demo", "small", "ntu120-xset", "ablation-mfm", "ablation-mask-motion"]
)
def test_printed_config_gives_the_same_config(
    preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [
        "--preset",
        preset,
        "--seed",
        "5",
        "--views.mask.ratio",
        "[0.25,0.5]",
        "--optim.clip",
        "2.5",
    ]
    file = tmp_path / "printed.yaml"
    file.write_text(printed(capsys, *chosen, "--print-config"))
    again = pretrain.parse(["--config", str(file), "--data", "somewhere"])
    assert again == pretrain.parse([*chosen, "--data", "somewhere"])
    assert (again.seed, again.views.mask.ratio, again.optim.clip) == (5, (0.25, 0.5), 2.5)


def test_config_of_a_run_is_the_whole_config(
    tiny_config: Callable[..., PretrainConfig], run: Callable[..., int], tmp_path: Path
) -> None:
    """config.json in the run folder can be given to --config as well."""
    assert run(steps=1) == 0
    again = pretrain.parse(["--config", str(tmp_path / "run" / "config.json")])
    assert again == tiny_config(steps=1)


def test_help_explains_every_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(printed(capsys, "--help").partition("options:")[2].split())
    local = " ".join(printed(capsys, "--views.local.help").split())
    names = list(leaves(PretrainConfig))
    assert len(names) > 45
    for name in names:
        entry = re.search(rf"--{re.escape(name)} (?!CONFIG).*?\(type:", text)
        assert entry is not None, name
        words = re.sub(r"\[ITEM,\.\.\.\]|\{[^}]*\}|--\S+|\(type:", "", entry.group()).split()
        assert len([word for word in words if not word.isupper()]) >= 2, entry.group()
    for name in leaves(LocalViewConfig):
        assert re.search(rf"--views.local.{name} \S+ [A-Z][^(]{{10,}}\(type:", local), name


def test_the_seed_is_of_64_bits(capsys: pytest.CaptureFixture[str]) -> None:
    assert "(type: int of 64 bits, default: 0)" in " ".join(printed(capsys, "--help").split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        # never taken for the longer name
        (["--optim.learning_rat", "1"], "did you mean optim.learning_rate?"),
        (["--batchs", "4"], "did you mean batch?"),
        (["--preset", "dmo"], "did you mean demo?"),
    ],
)
def test_misspelt_options_are_refused_and_suggested(words, says):
    with pytest.raises(UserError, match=re.escape(says)):
        pretrain.parse(words)


def test_misspelt_fields_of_a_file_are_suggested(tmp_path):
    (tmp_path / "a.yaml").write_text("optim:\n  learning_rat: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape("did you mean optim.learning_rate?")):
        pretrain.parse(["--config", str(tmp_path / "a.yaml")])


@pytest.mark.parametrize("preset", ["demo", "small", "ntu60-xsub"])
def test_help_shows_a_presets_defaults_and_no_classes(preset, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = pretrain.build_parser(preset).format_help()
    assert "class_path" not in text
    assert "Namespace" not in text
    assert "Annotated" not in text
    assert "(type: int >= 1, default: 3)" in text  # log.keep
    batch = {"demo": 64, "small": 64, "ntu60-xsub": 768}[preset]
    assert f"default: {batch})" in text
    assert f"the preset {preset}" in " ".join(text.split())


def test_config_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match="configuration file is no text: give a YAML file"):
        pretrain.parse(["--config", str(path)])


def test_an_encoder_has_the_frames_of_its_global_views() -> None:
    words = ["--preset", "small", "--data", "c", "--model.encoder.window"]
    assert pretrain.parse([*words, "32"]).views.window == 32
    with pytest.raises(UserError, match=r"model\.encoder\.window=16: .* set views\.window"):
        pretrain.parse([*words, "16"])
