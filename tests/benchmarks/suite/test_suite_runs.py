"""The benchmarks run from end to end at toy sizes, and their results arrive in the pages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.baselines.numpy_views import WINDOWS
from benchmarks.markdown import write_section
from benchmarks.records import accuracies, pages
from benchmarks.records.charts import CHARTS
from benchmarks.records.recorder import Recorder, newest, read
from benchmarks.records.tables import TABLES
from benchmarks.suite.bench_training_step import SIZES, make_config, windows
from slim_fast.errors import UserError

ROOT = Path(__file__).parents[3]
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
RUNS = "".join(
    f"<!-- {name}:begin -->\n<!-- {name}:end -->\n"
    for name in ("runs", "attention", "flops", "transfer")
)
KINDS = [
    "prototype_loss_time",
    "prototype_loss_memory",
    "prototype_loss_error",
    "training_step",
    "views",
    "watch",
    "visible_attention",
    "inference",
    "inference_share",
    "like_for_like",
    "runtimes",
    "drop_in",
    "baseline_training",
    "kernels",
    "scaling",
    "pretrain",
    "linear_grid",
]


SLOW = {
    "bench_drop_in.py": {"drop_in"},
    "bench_linear_grid.py": {"linear_grid"},
    "bench_runtimes.py": {"runtimes", "like_for_like"},
}
"""What takes most of the suite's time, and its figures: left to --thorough."""


@pytest.fixture(scope="module")
def kinds(thorough):
    """The figures of the run."""
    return set(KINDS).difference(*(() if thorough else SLOW.values()))


@pytest.fixture(scope="module")
def results(tmp_path_factory, thorough):
    """The folder into which one quick run of the suite was recorded."""
    pytest.importorskip("pytest_benchmark")
    folder = tmp_path_factory.mktemp("results")
    options = [
        "--benchmark-only",
        "--quick",
        "--record",
        "-q",
        "-p",
        "no:cacheprovider",
        "--results",
        str(folder),
    ]
    left = () if thorough else (f"--ignore=benchmarks/suite/{name}" for name in SLOW)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", *left, *options],
        cwd=ROOT,
        # pytest-benchmark measures nothing in a process that looks like one of several workers
        env={name: value for name, value in os.environ.items() if "XDIST" not in name},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return folder


def test_every_benchmark_leaves_its_figures(results, kinds):
    (path,) = results.glob("*.json")
    (run,) = read(path)
    assert sorted({result["benchmark"] for result in run["results"]}) == sorted(kinds)
    assert run["quick"]
    assert all(run[name] for name in ("date", "cpu", "cores", "torch", "numpy", "python"))
    for result in run["results"]:
        low, median, high = result.get("speedup", (1, 1, 1))
        assert 0 < low <= median <= high
    peaks = [
        r
        for r in run["results"]
        if r["benchmark"] == "prototype_loss_memory" and "baseline" in r["peak_bytes"]
    ]
    assert all(r["peak_bytes"]["baseline"] > 3 * r["logits_bytes"] for r in peaks), (
        "the baseline holds its logits"
    )


def test_the_report_lands_between_the_markers(results, kinds, tmp_path, capsys):
    readme, figures = tmp_path / "README.md", tmp_path / "pictures" / "figures"
    readme.write_text(f"{RUNS}before\n{BEGIN}\nold figures\n{END}\nafter\n", encoding="utf-8")
    arguments = [
        "--results",
        str(results),
        "--figures",
        str(figures),
        "--pages",
        str(readme),
        "--write",
        "--quick",
    ]
    assert pages.main(arguments) == 0
    once = readme.read_text(encoding="utf-8")
    assert pages.main(arguments) == 0
    assert readme.read_text(encoding="utf-8") == once
    assert f"\nbefore\n{BEGIN}\n" in once
    assert once.endswith(f"\n{END}\nafter\n")
    assert "old figures" not in once
    for kind in kinds:
        assert f"**{TABLES[kind].title}.**" in once
    pictures = sorted(figures.iterdir())
    # The roofline needs ceilings, which no quick run measures.
    drawn = [
        name
        for name, chart in CHARTS.items()
        if name != "roofline" and set(chart.benchmarks) & kinds
    ]
    assert len(pictures) == len(drawn)
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"](pictures/figures/{picture.name})" in once
    assert once.split(f"{BEGIN}\n")[1].split(f"\n{END}")[0] in capsys.readouterr().out


def test_runs_at_toy_sizes_stay_out_of_the_report(results, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}{END}", encoding="utf-8")
    assert (
        pages.main(["--results", str(results), "--figures", str(tmp_path), "--pages", str(readme)])
        == 2
    )
    assert "holds no results" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("sizes", SIZES)
def test_both_sides_get_the_same_views(sizes):
    views = make_config(sizes).views
    found = windows(views)
    assert list(found) == [views.window, *(local.window for local in views.local)]
    assert [w.per_global for w in found.values()] == [1, *(local.count for local in views.local)]
    if sizes == "recipe":
        assert found == WINDOWS


def test_records_are_appended_and_the_newest_of_each_case_counts(tmp_path):
    for value in (1.0, 2.0):
        recorder = Recorder(tmp_path)
        recorder.add("views", {"batch": 64}, speedup=[value] * 3)
        if value == 1.0:
            recorder.add("views", {"batch": 256}, speedup=[7.0] * 3)
    (path,) = tmp_path.glob("*.json")
    runs = read(path)
    assert [len(run["results"]) for run in runs] == [2, 1]
    assert {r["case"]["batch"]: r["speedup"][1] for r in newest(runs)} == {64: 2.0, 256: 7.0}
    assert newest(runs, quick=True) == []


def test_a_damaged_record_or_readme_is_named(tmp_path, capsys):
    (tmp_path / "machine.json").write_text("[{", encoding="utf-8")
    assert pages.main(["--results", str(tmp_path)]) == 2
    assert "machine.json cannot be read" in capsys.readouterr().err
    readme = tmp_path / "README.md"
    readme.write_text(f"{END}{BEGIN}", encoding="utf-8")
    with pytest.raises(UserError, match="needs the lines"):
        write_section([readme], "benchmarks", lambda page: "a table")
    assert readme.read_text(encoding="utf-8") == f"{END}{BEGIN}"


def test_accuracies_of_both_kinds_of_attention_are_averaged_over_seeds(tmp_path):
    for seed, (one, other) in enumerate([(0.5, 0.4), (0.7, 0.5)]):
        for kind, share in (("all", one), ("visible", other)):
            summary = {name: share for name in ("knn_top1", "linear_top1")}
            summary |= {f"{name}_random_encoder": 0.25 for name in ("knn_top1", "linear_top1")}
            (tmp_path / f"my-walks-{kind}-{seed}.json").write_text(json.dumps(summary))
    rows = accuracies.attention_table(tmp_path).splitlines()[2:]
    assert rows == [
        "| my-walks | all | 2 | 60.0 (50.0–70.0) | 25.0 (25.0–25.0) | 60.0 (50.0–70.0) | 25.0 "
        "(25.0–25.0) |",
        (
            "| my-walks | visible | 2 | 45.0 (40.0–50.0) | 25.0 (25.0–25.0) | 45.0 (40.0–50.0) | "
            "25.0 (25.0–25.0) |"
        ),
    ]
    assert accuracies.attention_table(tmp_path / "nothing") == ""
