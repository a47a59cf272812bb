"""python -m benchmarks.records.compare OLD [NEW]: what became slower or needs more memory.

Compares the newest result of each case in two files of results; given one file, of two commits in
it, which --commit names, or else of its last two.

A change counts when it is beyond the noise that was measured: the two interquartile ranges do not
overlap, and the medians differ by more than 5 % and by more than three standard errors. These
follow from the ranges and the number of rounds, and are taken larger where rounds are few. Peak
memory is one number; it must differ by more than 10 % and by 4 MB. Where both records have a
baseline measured beside ours, the speed-ups are compared and not the times, for what slows the
machine slows both sides; the last column then says what became of our own time. Across machines
only such ratios are compared.

Exit status: 0 when nothing is worse, 1 when something is, 2 when the records cannot be compared.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.markdown import plain_table
from benchmarks.records.machine import describe_machine
from benchmarks.records.recorder import Result, identity, newest, read
from slim_fast.errors import UserError

LEAST_CHANGE, LEAST_MEMORY, LEAST_BYTES = 0.05, 0.10, 4e6
RATIOS = {"speedup": "speed-up (×)", "share": "share", "ratio": "ratio (×)"}
ERRORS = 3
FEW_ROUNDS = 5
"""Of a result that does not say how many it had."""
MACHINE = ("cpu", "cores", "gpu")
HEAD = ("", "case", "metric", "old", "new", "change", "our time")
VERDICTS = {-1: "WORSE", 0: "unchanged", 1: "better"}


@dataclass(frozen=True)
class Change:
    """One metric of one case in both records."""

    case: str
    metric: str
    old: float
    new: float
    verdict: int
    """-1: worse by more than the noise; 1: better; 0: within the noise."""
    time: str = ""
    """By how much our own time changed, where the metric is another."""

    @property
    def cells(self) -> tuple[str, ...]:
        numbers = (f"{self.old:.4g}", f"{self.new:.4g}", percent(self.old, self.new))
        return (VERDICTS[self.verdict], self.case, self.metric, *numbers, self.time)


def percent(old: float, new: float) -> str:
    return f"{100 * (new / old - 1):+.1f} %" if old else "–"


def standard_error(spread: float, result: Result) -> float:
    """Of the median of a result's rounds with that interquartile range, were they normal; the last
    factor is for the range of a few rounds, which is often too small by chance.
    """
    rounds = result.get("rounds", FEW_ROUNDS)
    return 0.93 * spread / math.sqrt(rounds) * (1 + 2 / rounds)


def direction(old: Result, new: Result, name: str, side: str | None = None) -> int:
    """1 where a metric (of one side) went up by more than the noise, -1 down, else 0."""
    (low, was, high), (lowest, is_, highest) = (
        r[name][side] if side else r[name] for r in (old, new)
    )
    error = math.hypot(standard_error(high - low, old), standard_error(highest - lowest, new))
    overlap = low <= highest and lowest <= high
    if overlap or abs(is_ - was) <= max(LEAST_CHANGE * was, ERRORS * error):
        return 0
    return 1 if is_ > was else -1


def find_changes(old: Result, new: Result) -> Iterator[Change]:
    """Every metric that both have; across machines only ratios."""
    name, time = describe_case(new), ""
    seconds = [result.get("seconds", {}).get("ours") for result in (old, new)]
    if all(seconds) and not are_across_machines(old, new):
        time = percent(*(s[1] for s in seconds))
    for key, text in RATIOS.items():
        if isinstance(old.get(key), list) and isinstance(new.get(key), list):
            better = direction(old, new, key) * (-1 if new.get("at_most") else 1)
            yield Change(name, text, old[key][1], new[key][1], better, time)
    if are_across_machines(old, new):
        return
    if "samples_per_second" in old and "samples_per_second" in new:
        was, is_ = (result["samples_per_second"][1] for result in (old, new))
        yield Change(name, "samples/s", was, is_, direction(old, new, "samples_per_second"))
    elif all(seconds) and not ("speedup" in old and "speedup" in new):
        slower = direction(old, new, "seconds", "ours")
        yield Change(name, "time (s)", seconds[0][1], seconds[1][1], -slower)
    peaks = [result.get("peak_bytes", {}).get("ours") for result in (old, new)]
    if None not in peaks:
        was, is_ = peaks
        enough = abs(is_ - was) > max(LEAST_MEMORY * was, LEAST_BYTES)
        yield Change(name, "peak (MB)", was / 1e6, is_ / 1e6, enough * (-1 if is_ > was else 1))


def are_across_machines(old: Result, new: Result) -> bool:
    """Whether they were measured on different machines."""
    return any(old.get(name) != new.get(name) for name in MACHINE)


def describe_case(result: Result) -> str:
    """The case in a few words."""
    formats = {bool: lambda name, is_so: name if is_so else f"no {name}", str: lambda _, word: word}
    words = [
        formats.get(type(value), "{} {:,g}".format)(name, value)
        for name, value in result["case"].items()
    ]
    on = " on the GPU" if result.get("device") == "cuda" else ""
    return f"{result['benchmark']}{on}: {', '.join(words)}"


def describe_ceilings(old: Result, new: Result) -> str:
    """How the machine's own speed changed, which no code of ours can help."""
    product, copy = (percent(old[name][1], new[name][1]) for name in ("gflops", "gbytes"))
    return f"The machine itself, {new['case']['precision']}: matrix product {product}, copy {copy}."


def compare(
    old: Sequence[Result], new: Sequence[Result], everything: bool = False
) -> tuple[str, int]:
    """Text about two lists of results, and how many metrics became worse. Raises: UserError."""
    # The same case with other threads is another case.
    before, after = (
        {(identity(r), r.get("threads")): r for r in results} for results in (old, new)
    )
    both = [(before[key], after[key]) for key in after if key in before]
    if not both:
        raise UserError(
            "The two records have no case in common; record the same benchmarks on both sides."
        )
    found = sorted(
        (change for pair in both for change in find_changes(*pair)),
        key=lambda c: ((-1, 1, 0).index(c.verdict), -abs(c.new / c.old - 1) if c.old else 0),
    )
    lines = [f"old: {describe_machine(old)}", f"new: {describe_machine(new)}"]
    lines += [
        describe_ceilings(*pair)
        for pair in both
        if pair[1]["benchmark"] == "ceilings" and not are_across_machines(*pair)
    ]
    if any(are_across_machines(*pair) for pair in both):
        lines.append(
            "Measured on different machines: only ratios taken within one machine are compared."
        )
    rows = [HEAD, *(change.cells for change in found if change.verdict or everything)]
    if len(rows) > 1:
        lines += ["", plain_table(rows, left=3), ""]
    counted = Counter(change.verdict for change in found)
    counts = f"{counted[-1]} worse, {counted[1]} better, {counted[0]} unchanged"
    only = [len(one.keys() - other) for one, other in ((before, after), (after, before))]
    lines.append(f"{counts}; cases only in old: {only[0]}, only in new: {only[1]}")
    return "\n".join(lines), counted[-1]


def select_commits(path: Path, names: Sequence[str] | None, quick: bool) -> Iterator[list[Result]]:
    """Results of the named or last two commits of a file. Raises: UserError without just two."""
    runs = read(path)
    newest_first = list(
        dict.fromkeys(str(run["commit"]) for run in reversed(runs) if run["quick"] == quick)
    )
    if names is None and len(newest_first) < 2:
        raise UserError(
            f"{path} has no two commits to compare; name a second file, or record another commit."
        )
    for name in names or newest_first[1::-1]:
        fit = [c for c in newest_first if c == name] or [
            c for c in newest_first if c.startswith(name)
        ]
        if len(fit) != 1:
            raise UserError(
                f"--commit {name} must name one of the commits of {path}: "
                f"{', '.join(newest_first)}."
            )
        yield newest([run for run in runs if str(run["commit"]) == fit[0]], quick)


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.records.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "old", type=Path, help="file of results, such as benchmarks/records/results/<machine>.json"
    )
    parser.add_argument(
        "new", type=Path, nargs="?", help="a second one; without it, two commits of the first"
    )
    parser.add_argument(
        "--commit", action="append", help="of the one file; give it twice, the older first"
    )
    parser.add_argument(
        "--quick", action="store_true", help="compare the results of --quick runs instead"
    )
    parser.add_argument("--all", action="store_true", help="list what is unchanged too")
    options = parser.parse_args(arguments)
    if options.commit and (options.new or len(options.commit) != 2):
        parser.error("--commit goes with one file and is given twice, the older commit first")
    try:
        if options.new:
            old, new = (newest(read(path), options.quick) for path in (options.old, options.new))
        else:
            old, new = select_commits(options.old, options.commit, options.quick)
        text, worse = compare(old, new, options.all)
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    print(text)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
