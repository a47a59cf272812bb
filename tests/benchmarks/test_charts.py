"""Results of every benchmark become tables and pictures, whatever was and was not measured."""

import json
import struct

import pytest

from benchmarks import report
from benchmarks.charts import CHARTS
from benchmarks.records import Recorder, newest, read
from benchmarks.tables import LONG, TABLES, tables


def q(median):
    return [0.9 * median, median, 1.1 * median]


def sides(ours, baseline=None):
    """Figures of a comparison; of ours alone without a baseline."""
    if baseline is None:
        return {"seconds": {"ours": q(ours)}, "peak_bytes": {"ours": 5_000_000}}
    return {
        "seconds": {"ours": q(ours), "baseline": q(baseline)}, "speedup": q(baseline / ours),
        "peak_bytes": {"ours": 5_000_000, "baseline": 20_000_000},
    }  # fmt: skip


def result(benchmark, case, **figures):
    return {"benchmark": benchmark, "case": case, "threads": 2, "device": "cpu", **figures}


def everything():
    """A result or more of each benchmark."""
    both, target = ("fp32", "bf16"), {"target": 7.89}
    clips = {"clips": 8, "people": 1.22}
    treated = ["MAE SDPA", "MAE SDPA, compiled", "MAE explicit", "MAE explicit, compiled", "SLiM eager"]
    errors = dict.fromkeys(("value", "student", "prototypes"), 1e-7)
    step = {"batch": 64, "precision": "fp32"}
    return [
        *(result("ceilings", {"precision": p}, gflops=q(100), gbytes=q(20)) for p in both),
        *(
            result("inference", {"baseline": name, "clips": n, "people": 2, "precision": p}, **sides(0.1, 0.9))
            for name in treated for p in both for n in (1, 8)
        ),
        result(
            "inference", {"baseline": "MAE, treated alike", **clips, "precision": "best"}, **sides(0.1, 0.5), **target
        ),
        *(
            result("inference_share", {**clips, "precision": p}, target=t, share=q(0.6), share_of_fastest=q(0.3),
                   gflops={"ours": q(60), "product": q(100), "eager": q(40), "fastest": q(200)})
            for p, t in zip(both, (0.5, 0.7), strict=True)
        ),
        *(
            result("drop_in", {"path": way, **clips, "places": 2, "precision": p}, **sides(0.1, 0.2))
            for way in ("SLiMEncoder", "optimize()", "ONNX") for p in both
        ),
        *(result("baseline_training", {"baseline": n, **step}, **sides(1, 2)) for n in ("MAE", "S-JEPA", "GFP")),
        *(
            result("kernels", {"op": op, "pass": way, "precision": p}, **sides(0.01, 0.02), flops=flops, bytes=10**7)
            for op, flops in (("norm_linear", 10**8), ("embed_tokens", 10**7), ("looks_up", 0)) for p in both
            for way in ("forward", "forward and backward")
        ),
        *(
            result("scaling", {"axis": axis, "value": value, "precision": p}, **sides(value / 100, value / 50))
            for axis in ("batch", "frames", "joints", "people", "prototypes") for value in (1, 64) for p in both
        ),
        result("scaling", {"axis": "prototypes", "value": 4096, "precision": "fp32"}, **sides(40)),
        result("pretrain", {"sizes": "demo", "precision": "bf16"}, seconds={"ours": q(0.25)}, batch=64,
               samples_per_second=q(256)),
        *(
            result("training_step", {"sizes": "demo", **step, "views": v}, target=1.5, **sides(1, s))
            for v, s in ((True, 2), (False, 0.8))
        ),
        result("visible_attention", {"sizes": "demo", **step}, **sides(1, 1)),
        result("views", {"batch": 64}, target=5.0, **sides(1, 6)),
        result("prototype_loss_time", {"rows": 1000, "prototypes": 1024}, **sides(1, 1.2)),
        result("prototype_loss_memory", {"rows": 1000, "prototypes": 1024}, logits_bytes=4_096_000,
               peak_bytes={"ours": 0, "baseline": 9_000_000}),
        result("prototype_loss_memory", {"rows": 4000, "prototypes": 1024}, logits_bytes=16_384_000,
               peak_bytes={"ours": 3_000_000}),
        result("prototype_loss_error", {"rows": 1000, "prototypes": 1024},
               errors=dict.fromkeys(("ours_float64", "ours_float32", "baseline_float32"), errors)),
    ]  # fmt: skip


def row(markdown, start):
    (found,) = [line for line in markdown.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in found.strip("| ").split("|")]


def test_every_benchmark_has_its_table():
    results = everything()
    assert {r["benchmark"] for r in results} == set(TABLES)
    markdown = tables(results)
    for table in TABLES.values():
        assert f"**{table.title}.** " in markdown
    assert "<details>" not in markdown
    assert row(markdown, "MAE SDPA | 8 | 2 | bf16")[4:] == ["80", "8.89", "**9.00×** (8.10–9.90)", "5", "20"]
    assert row(markdown, "norm_linear | forward | fp32")[3:] == ["10", "20", "**2.00×** (1.80–2.20)", "10", "10"]
    assert row(markdown, "demo | bf16") == ["demo", "bf16", "64", "250", "256"]
    assert row(markdown, "fp32 | 100") == ["fp32", "100", "20"]


def test_what_misses_its_target_says_so():
    markdown = tables(everything())
    assert row(markdown, "MAE, treated alike")[6] == "**5.00×** (4.50–5.50, below 7.89×)"
    assert row(markdown, "8 | 1.22 | fp32")[-3] == "**60 %** (54–66)"
    assert row(markdown, "8 | 1.22 | bf16")[-3] == "**60 %** (54–66, below 70 %)"


def test_scaling_shows_the_ends_of_each_curve():
    markdown = tables(everything())
    assert row(markdown, "batch | bf16")[2:7] == ["1 → 64", "clips/s", "100 → 100", "50 → 50", "2 → 2"]
    ends = row(markdown, "prototypes | fp32")
    assert ends[2:7] == ["1 → 4,096", "ms", "10 → 40,000", "20 → 1,280 (at 64)", "2 → 2 (at 64)"]
    assert ends[-1] == "20 → 20 (at 64)"


def test_long_tables_are_folded_but_for_the_rows_with_a_target():
    results = [r for r in everything() if r["benchmark"] == "inference"]
    assert len(results) > LONG
    shown, folded = tables(results, fold=True).split(f"<details><summary>Inference: the other {len(results) - 1} cases")
    assert "| MAE, treated alike | 8 |" in shown
    assert "| MAE SDPA | 8 |" not in shown
    assert folded.count("| MAE SDPA | 8 |") == 2
    assert "| MAE, treated alike | 8 |" not in folded
    assert "<details>" not in tables(results[:LONG], fold=True)


def size(path):
    """Pixels (width, height) of a whole PNG."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_from_what_it_shows_and_only_then(name, tmp_path):
    chart, path = CHARTS[name], tmp_path / "figures" / "chart.png"
    others = [r for r in everything() if r["benchmark"] not in chart.benchmarks]
    assert chart.draw(others, path) is None
    assert not path.exists()
    assert chart.draw(everything(), path) == path
    width, height = size(path)
    assert 700 < width < 1600
    assert 300 < height < 1600


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_of_single_results(name, tmp_path):
    """As after a --quick run: one result of each benchmark."""
    single = list({r["benchmark"]: r for r in everything()}.values())
    single += [r for r in everything() if r["benchmark"] == "kernels" and r["flops"]][-1:]
    assert size(CHARTS[name].draw(single, tmp_path / "chart.png"))


def test_a_roofline_needs_the_ceilings_of_its_precision(tmp_path):
    results = [r for r in everything() if r["benchmark"] == "kernels" or r["case"] == {"precision": "fp32"}]
    wide, narrow = tmp_path / "wide.png", tmp_path / "narrow.png"
    assert CHARTS["roofline"].draw(everything(), wide)
    assert CHARTS["roofline"].draw(results, narrow)
    assert size(narrow)[0] < size(wide)[0]
    kernels = [r for r in results if r["benchmark"] == "kernels"]
    assert CHARTS["roofline"].draw(kernels, tmp_path / "none.png") is None


def test_the_report_tells_devices_and_runs_apart(tmp_path, capsys):
    """A run from before the machine was noted so closely, and one on a CPU and a GPU."""
    old = {
        "date": "2026-01-01T00:00:00+00:00",
        "commit": "aaa",
        "cpu": "Chip",
        "cores": 2,
        "torch": "2",
        "quick": False,
    }
    views = result("views", {"batch": 1}, **sides(1, 2))
    del views["device"]
    new = {**old, "date": "2026-01-02T00:00:00+00:00", "commit": "bbb", "cpu_capability": "AVX512", "native_bf16": True,
           "memory_bytes": 8 * 2**30, "triton": "3.6"}  # fmt: skip
    gpu = [{**r, "device": "cuda", "gpu": "ACME 1"} for r in everything() if r["benchmark"] in ("views", "kernels")]
    runs = [{**old, "results": [views]}, {**new, "results": [*everything(), *gpu]}]
    (tmp_path / "chip.json").write_text(json.dumps(runs), encoding="utf-8")
    readme, figures = tmp_path / "README.md", tmp_path / "figures"
    assert report.main(["--results", str(tmp_path), "--figures", str(figures), "--readme", str(readme)]) == 0
    cpu, cuda = capsys.readouterr().out.split("ACME 1, triton 3.6; ")
    assert cpu.startswith(
        "Chip, AVX512, bf16 native, 2 cores, 8 GiB, torch 2, triton 3.6; commit aaa, bbb, 2026-01-01 and 2026-01-02.\n"
    )
    assert "commit bbb, 2026-01-02." in cuda
    assert " On the GPU." in cuda
    assert " On the GPU." not in cpu
    assert row(cpu, "1 | 1 | 0.5")
    assert row(cpu, "64 | 64 | 10.7")
    drawn = {path.stem for path in figures.iterdir()}
    assert drawn == {f"chip-{name}" for name in CHARTS} | {"chip-cuda-speedups", "chip-cuda-kernel-speedups"}
    for stem in drawn:
        assert f"![{stem}](figures/{stem}.png)" in (cuda if "cuda" in stem else cpu)
    assert cpu.index("chip-memory.png") < cpu.index("**Prototype loss: memory.**") < cpu.index("chip-scaling.png")


def test_a_run_notes_what_its_figures_depend_on(tmp_path):
    for device in ("cpu", "cuda"):
        Recorder(tmp_path).add("views", {"batch": 1}, **sides(1, 2), device=device)
    (path,) = tmp_path.iterdir()
    first, _ = runs = read(path)
    assert first["threads_available"] <= first["cores"]
    assert first["memory_bytes"] > 2**28
    assert isinstance(first["native_bf16"], bool)
    assert first["cpu_capability"]
    assert "triton" in first
    assert len(newest(runs)) == 2, "a device's result is not taken for the other's"
