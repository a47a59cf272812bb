"""What counts as a change between two records, and what the comparison says about it."""

import json

import pytest

from benchmarks.records import compare

RUN = {"date": "2026-01-02T03:04:05+00:00", "cpu": "Chip", "cores": 2, "quick": False}


def q(median, spread=0.02):
    return [(1 - spread) * median, median, (1 + spread) * median]


def paired(ours, ratio, spread=0.02):
    """Figures of ours beside a baseline."""
    return {
        "seconds": {"ours": q(ours, spread), "baseline": q(ours * ratio, spread)},
        "speedup": q(ratio, spread),
    }


def one(**figures):
    """A single result."""
    return [
        {
            "benchmark": "kernels",
            "case": {"op": "norm_linear", "rows": 1000, "views": False},
            **figures,
        }
    ]


def alone(ours, spread=0.02, **figures):
    return one(seconds={"ours": q(ours, spread)}, **figures)


@pytest.fixture
def record(tmp_path):
    def write(name, *runs, **about):
        """A file with one run of each (commit, results)."""
        path = tmp_path / f"{name}.json"
        listed = [
            {**RUN, "commit": commit, **about, "results": results} for commit, results in runs
        ]
        path.write_text(json.dumps(listed), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def run(record, capsys):
    """Compare two lists of results; the exit status, and the words of each line of the table."""

    def compare_them(old, new, *options, **about):
        status = compare.main(
            [record("old", ("a", old)), record("new", ("b", new), **about), *options]
        )
        out = capsys.readouterr().out
        return (
            status,
            [
                line.split()
                for line in out.splitlines()
                if line.startswith(("WORSE", "better", "unch"))
            ],
            out,
        )

    return compare_them


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (alone(1.0), alone(1.0), "unchanged"),
        # 4 %, beyond the noise, but too little to matter
        (alone(1.0), alone(1.04, 0.001), "unchanged"),
        (alone(1.0, 0.2), alone(1.3, 0.2), "unchanged"),  # the ranges overlap
        # apart, but so few rounds do that by chance
        (alone(1.0, 0.1), alone(1.25, 0.1), "unchanged"),
        (alone(1.0, 0.1, rounds=400), alone(1.25, 0.1, rounds=400), "WORSE"),
        (alone(1.0), alone(1.2), "WORSE"),
        (alone(1.2), alone(1.0), "better"),
        # the whole machine was slower
        (one(**paired(1.0, 2.0)), one(**paired(1.5, 2.0)), "unchanged"),
        (one(**paired(1.0, 2.0)), one(**paired(1.0, 1.5)), "WORSE"),
        (one(**paired(1.0, 1.5)), one(**paired(1.0, 2.0)), "better"),
        # no baseline in one of them: the times it is
        (one(**paired(1.0, 2.0)), alone(1.5), "WORSE"),
        (one(share=q(0.8)), one(share=q(0.7)), "WORSE"),
        (one(share=q(0.7)), one(share=q(0.8)), "better"),
        (one(ratio=q(0.5), at_most=True), one(ratio=q(0.6), at_most=True), "WORSE"),
        (one(peak_bytes={"ours": 10**9}), one(peak_bytes={"ours": 1.09 * 10**9}), "unchanged"),
        (one(peak_bytes={"ours": 10**9}), one(peak_bytes={"ours": 1.2 * 10**9}), "WORSE"),
        (one(peak_bytes={"ours": 1.2 * 10**9}), one(peak_bytes={"ours": 10**9}), "better"),
        # pages of an allocator
        (one(peak_bytes={"ours": 0}), one(peak_bytes={"ours": 10**6}), "unchanged"),
        (one(peak_bytes={"ours": 0}), one(peak_bytes={"ours": 10**8}), "WORSE"),
        (
            one(samples_per_second=q(100), seconds={"ours": q(1)}),
            one(samples_per_second=q(80), seconds={"ours": q(1.25)}),
            "WORSE",
        ),
    ],
)
def test_a_change_counts_beyond_the_noise(run, old, new, verdict):
    status, lines, out = run(old, new, "--all")
    assert [line[0] for line in lines] == [verdict]
    assert status == (verdict == "WORSE")
    assert f"{int(verdict == 'WORSE')} worse, {int(verdict == 'better')} better" in out


def test_the_table_has_the_worst_first_and_leaves_out_what_is_unchanged(run):
    def cases(*ratios):
        return [
            {"benchmark": "views", "case": {"batch": i}, **paired(1, ratio)}
            for i, ratio in enumerate(ratios)
        ]

    status, lines, out = run(cases(2, 2, 2, 2), [*cases(1.5, 3, 1, 2), *alone(1)])
    assert status == 1
    table = [" ".join(line) for line in lines]
    assert table == [
        "WORSE views: batch 2 speed-up (×) 2 1 -50.0 % +0.0 %",
        "WORSE views: batch 0 speed-up (×) 2 1.5 -25.0 % +0.0 %",
        "better views: batch 1 speed-up (×) 2 3 +50.0 % +0.0 %",
    ]
    assert out.endswith("2 worse, 1 better, 1 unchanged; cases only in old: 0, only in new: 1\n")
    begins = {line.index("speed-up") for line in out.splitlines() if "speed-up" in line}
    assert len(begins) == 1, "the columns are aligned"


def test_another_machine_lets_only_ratios_count(run):
    old = one(**paired(1.0, 2.0), peak_bytes={"ours": 10**9})
    new = one(**paired(9.0, 2.0), peak_bytes={"ours": 9 * 10**9})
    status, lines, out = run(old, new, "--all", cpu="Another chip")
    assert status == 0
    assert [line[0] for line in lines] == ["unchanged"]
    assert "different machines: only ratios" in out
    status, lines, _ = run(old, one(**paired(1.0, 1.5)), cpu="Another chip")
    assert status == 1
    assert lines[0][-2:] == ["-25.0", "%"], "our time there says nothing"
    assert "different machines" not in run(old, new)[2]


def test_threads_and_devices_are_not_mixed(run):
    old, slow = alone(1.0, threads=2), alone(3.0, threads=2)
    other = [{**alone(1.0, device="cuda")[0], "benchmark": "views"}]
    status, lines, out = run(
        [*old, *alone(1.0, device="cuda"), *other], [*alone(3.0, threads=1), *other], "--all"
    )
    assert (status, len(lines)) == (0, 1)
    assert "cases only in old: 2, only in new: 1" in out
    assert run(old, slow)[0] == 1
    assert (
        "kernels on the GPU: norm_linear, rows 1,000, no views"
        in run(alone(1.0, device="cuda"), alone(3.0, device="cuda"))[2]
    )


def test_the_ceilings_are_the_machine_s_own(run):
    old, new = (
        [{"benchmark": "ceilings", "case": {"precision": "bf16"}, "gflops": q(g), "gbytes": q(20)}]
        for g in (100, 50)
    )
    status, lines, out = run(old, new, "--all")
    assert (status, lines) == (0, [])
    assert "The machine itself, bf16: matrix product -50.0 %, copy +0.0 %." in out


def test_one_file_holds_both_sides(record, capsys):
    other = {"benchmark": "views", "case": {"batch": 1}, **paired(1, 2)}
    runs = [("aaa1", alone(1.0)), ("bbb2", alone(2.0)), ("bbb2", [other]), ("ccc3", alone(1.5))]
    path = record("one", *runs)
    assert compare.main([path]) == 0
    old, new, *_, counts = capsys.readouterr().out.splitlines()
    assert "commit bbb2," in old
    assert "commit ccc3," in new
    assert counts == "0 worse, 1 better, 0 unchanged; cases only in old: 1, only in new: 0"


def test_the_newest_result_of_each_case_counts(record, capsys):
    path = record("one", ("a", alone(5.0)), ("a", alone(1.0)), ("b", alone(1.5)))
    assert compare.main([path]) == 1
    assert "+50.0 %" in capsys.readouterr().out


def test_commits_are_named(record, capsys):
    path = record(
        "one",
        ("aaa1", alone(1.0)),
        ("bbb2", alone(2.0)),
        ("bbb2+", alone(9.0)),
        ("ccc3", alone(1.5)),
    )
    assert compare.main([path, "--commit", "aaa", "--commit", "bbb2"]) == 1
    assert "+100.0 %" in capsys.readouterr().out
    assert compare.main([path, "--commit", "ccc3", "--commit", "aaa1"]) == 0
    assert "-33.3 %" in capsys.readouterr().out
    for name in ("ddd", "bbb"):
        assert compare.main([path, "--commit", "aaa1", "--commit", name]) == 2
        assert f"--commit {name} must name one of the commits" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        compare.main([path, "--commit", "aaa1"])
    with pytest.raises(SystemExit, match="2"):
        compare.main([path, path, "--commit", "aaa1", "--commit", "bbb2"])


def test_quick_runs_are_apart(record, capsys):
    path = record("one", ("a", alone(1.0)), ("b", alone(1.0)))
    quick = record("quick", ("a", alone(1.0)), ("b", alone(2.0)), quick=True)
    assert compare.main([path, "--quick"]) == 2
    assert "has no two commits" in capsys.readouterr().err
    assert compare.main([quick, "--quick"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[{",
        "[1]",
        '{"a": 1}',
        '[{"results": []}]',
        json.dumps([{**RUN, "commit": "a", "results": [{"case": 1}]}]),
    ],
)
def test_a_damaged_or_absent_file_is_named(record, tmp_path, capsys, text):
    good, bad = record("good", ("a", alone(1.0))), tmp_path / "bad.json"
    assert compare.main([good, str(bad)]) == 2
    assert "bad.json does not exist" in capsys.readouterr().err
    bad.write_text(text, encoding="utf-8")
    assert compare.main([good, str(bad)]) == 2
    assert "bad.json cannot be read" in capsys.readouterr().err


def test_records_without_a_common_case_cannot_be_compared(record, capsys):
    old, new = record("old", ("a", alone(1.0))), record("new", ("b", alone(1.0, threads=2)))
    assert compare.main([old, new]) == 2
    assert "no case in common" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        compare.main(["--help"])
    out = capsys.readouterr().out
    for word in ("--commit", "--quick", "--all", "interquartile", "Exit status"):
        assert word in out
