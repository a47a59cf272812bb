"""Results of every benchmark become tables, whatever was and was not measured."""

import json

from benchmarks.records import pages
from benchmarks.records.charts import CHARTS
from benchmarks.records.recorder import Recorder, newest, read
from benchmarks.records.render import LONG, render_tables
from benchmarks.records.tables import TABLES
from tests.benchmarks.records.samples import everything, result, sides


def row(markdown, start):
    (found,) = [line for line in markdown.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in found.strip("| ").split("|")]


def test_every_benchmark_has_its_table():
    results = everything()
    assert {r["benchmark"] for r in results} == set(TABLES)
    markdown = render_tables(results)
    for table in TABLES.values():
        assert f"**{table.title}.** " in markdown
    assert "<details>" not in markdown
    assert row(markdown, "MAE SDPA | 8 | 2 | bf16")[4:] == [
        "80",
        "8.89",
        "**9.00×** (8.10–9.90)",
        "5",
        "20",
    ]
    assert row(markdown, "3 | 8 | fp32")[-1] == "**20**, below 25"
    assert row(markdown, "norm_linear | forward | fp32")[3:] == [
        "10",
        "20",
        "**2.00×** (1.80–2.20)",
        "10",
        "10",
    ]
    assert row(markdown, "demo | bf16") == ["demo", "bf16", "64", "250", "256"]
    assert row(markdown, "fp32 | 100") == ["fp32", "100", "20"]


def test_what_misses_its_target_says_so():
    markdown = render_tables(everything())
    assert row(markdown, "MAE, treated alike")[6] == "**5.00×** (4.50–5.50, below 7.89×)"
    assert row(markdown, "8 | 1.22 | fp32")[-3] == "**60 %** (54–66)"
    assert row(markdown, "8 | 1.22 | bf16")[-3] == "**60 %** (54–66, below 70 %)"


def test_scaling_shows_the_ends_of_each_curve():
    markdown = render_tables(everything())
    assert row(markdown, "batch | bf16")[2:7] == [
        "1 → 64",
        "clips/s",
        "100 → 100",
        "50 → 50",
        "2 → 2",
    ]
    ends = row(markdown, "prototypes | fp32")
    assert ends[2:7] == ["1 → 4,096", "ms", "10 → 40,000", "20 → 1,280 (at 64)", "2 → 2 (at 64)"]
    assert ends[-1] == "20 → 20 (at 64)"


def test_long_tables_are_folded_but_for_the_rows_with_a_target():
    results = [r for r in everything() if r["benchmark"] == "inference"]
    assert len(results) > LONG
    shown, folded = render_tables(results, fold=True).split(
        f"<details><summary>Inference: the other {len(results) - 1} cases"
    )
    assert "| MAE, treated alike | 8 |" in shown
    assert "| MAE SDPA | 8 |" not in shown
    assert folded.count("| MAE SDPA | 8 |") == 2
    assert "| MAE, treated alike | 8 |" not in folded
    assert "<details>" not in render_tables(results[:LONG], fold=True)


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
    new = {
        **old,
        "date": "2026-01-02T00:00:00+00:00",
        "commit": "bbb",
        "cpu_capability": "AVX512",
        "native_bf16": True,
        "memory_bytes": 8 * 2**30,
        "triton": "3.6",
    }
    gpu = [
        {**r, "device": "cuda", "gpu": "ACME 1"}
        for r in everything()
        if r["benchmark"] in ("views", "kernels")
    ]
    runs = [{**old, "results": [views]}, {**new, "results": [*everything(), *gpu]}]
    (tmp_path / "chip.json").write_text(json.dumps(runs), encoding="utf-8")
    readme, figures = tmp_path / "README.md", tmp_path / "figures"
    readme.touch()
    assert (
        pages.main(["--results", str(tmp_path), "--figures", str(figures), "--pages", str(readme)])
        == 0
    )
    cpu, cuda = capsys.readouterr().out.split("ACME 1, triton 3.6; ")
    assert cpu.startswith(
        "Chip, AVX512, bf16 native, 2 cores, 8 GiB, torch 2, triton 3.6; commit aaa, bbb, "
        "2026-01-01 and 2026-01-02.\n"
    )
    assert "commit bbb, 2026-01-02." in cuda
    assert " On the GPU." in cuda
    assert " On the GPU." not in cpu
    assert row(cpu, "1 | 1 | 0.5")
    assert row(cpu, "64 | 64 | 10.7")
    drawn = {path.stem for path in figures.iterdir()}
    assert drawn == {f"chip-{name}" for name in CHARTS} | {
        "chip-cuda-speedups",
        "chip-cuda-kernel-speedups",
    }
    for stem in drawn:
        name = stem.removeprefix("chip-").removeprefix("cuda-")
        alt = f"Chart of {name.replace('-', ' ')}, {stem[: -len(name) - 1]}"
        assert f"![{alt}](figures/{stem}.png)" in (cuda if "cuda" in stem else cpu)
    assert (
        cpu.index("chip-memory.png")
        < cpu.index("**Prototype loss: memory.**")
        < cpu.index("chip-scaling.png")
    )


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
