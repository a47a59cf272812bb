"""Inference in the runtimes that deploy encoders: optimize(backend="auto") against each of them,
and the masked autoencoder in its fastest against ours in its fastest.

The peers run our program on every place for a person, as an exported file would; ours leaves out
those who are absent. OpenVINO runs it in two ways: as we load it, and as its documentation does.
The masked autoencoder computes all tokens of all places, whatever is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest

from benchmarks.records.recorder import quartiles
from benchmarks.suite.bench import Bench
from benchmarks.suite.bench_inference import SAME
from benchmarks.suite.encoders import Clips
from benchmarks.suite.peers import Ask, Request, mae_in, slim_as_documented, slim_in
from benchmarks.suite.workers import Rounds, Sample, Worker, interleave, workers

DOCUMENTED = "openvino-documented"
PEERS = {"openvino": ("bf16", "fp32"), DOCUMENTED: ("bf16", "fp32"), "onnxruntime": ("fp32",)}
"""Their precisions; PyTorch is ours without another runtime."""
ROUNDS = {1: 15, 8: 3, 32: 2}
"""By clips. Calls of one clip are so short that all of a round fall into the seconds for which two
cores of a virtual machine may be a third slower together.
"""
STREAM = 9
"""Clips one at a time, of which two of nine show two people: 1.22 in the mean."""
TARGETS = {"peer": {2: 1.0, 1.22: 1.4}, "mae": {2: 4.78, 1.22: 7.0}}
TOKENS = ("all", "CLS")
TOY = Clips(1, frames=8, joints=5)
"""With 3 joints these would be as many tokens as heads, which OpenVINO 2026.4.1 confuses."""


@dataclass(frozen=True)
class Question:
    """A side of `interleave`: a request to an encoder's process."""

    worker: Worker
    request: Request

    def run(self, times: int = 1) -> Sample:
        """See `Worker.run`; seconds are of one call."""
        sample = self.worker.run(times, self.request)
        return Sample(sample.seconds / self.request.calls, sample.value, sample.peak)


def requests_of(batch: int, people: float) -> Request:
    """All tokens of so many clips at a time."""
    count = STREAM if batch == 1 and people != 2 else batch
    return Request(Clips(count, people=people), batch)


def runnable_peers(bench: Bench) -> dict[str, tuple[str, ...]]:
    """The runtimes that are installed, and their precisions that this machine has."""
    found = {name: bench.native_precisions(known) for name, known in PEERS.items()}
    for name in [name for name in found if find_spec(name.split("-")[0]) is None]:
        bench.leave_out(f"{name}: it is not installed")
        del found[name]
    return found


def make_encoders(
    peers: dict[str, tuple[str, ...]], precisions: tuple[str, ...], batch: int, request: Request
) -> dict[str, Callable[..., Ask]]:
    """Every encoder by a name: whose, in which runtime, in which precision."""
    made: dict[str, Callable[..., Ask]] = {}
    for precision in precisions:
        # "auto" takes bf16 where it is native
        own = "auto" if precision == "bf16" else precision
        made[f"ours {precision}"] = partial(slim_in, "auto", own, request)
        made[f"SLiM torch {precision}"] = partial(slim_in, "torch", precision, request)
    for name, known in peers.items():
        for precision in known:
            if name == DOCUMENTED:
                made[f"SLiM {name} {precision}"] = partial(slim_as_documented, precision, request)
                continue
            made[f"SLiM {name} {precision}"] = partial(
                slim_in, name, precision, request, skip=False
            )
            if batch < 32 or precision == precisions[0]:  # else runs of minutes, never the fastest
                made[f"MAE {name} {precision}"] = partial(mae_in, name, precision, request)
    made[f"MAE torch {precisions[0]}"] = partial(mae_in, "torch", precisions[0], request)
    return made


@pytest.mark.parametrize("batch", ROUNDS)
@pytest.mark.parametrize("threads", [2, 1])
def test_runtimes(bench: Bench, threads: int, batch: int) -> None:
    bench.skip_if_quick(threads > 1 or batch > 1)
    bench.skip_unless_thorough(not bench.quick and (threads, batch) != (2, 1))
    if threads > bench.threads:
        pytest.skip("two threads: the machine has one core")
    peers = runnable_peers(bench)
    precisions = ("fp32",) if bench.quick else bench.native_precisions()
    wanted = {people: requests_of(batch, people) for people in (2, 1.22)}
    if bench.quick:
        wanted = {2: Request(TOY, 1)}
        peers = {name: ("fp32",) for name in peers}
    makers = make_encoders(peers, precisions, batch, wanted[2])
    with workers(makers, threads) as built:
        asked: dict[str, Question] = {}
        for name, worker in built.items():
            for people, request in wanted.items():
                for tokens in TOKENS:
                    if name.startswith("MAE") and (people, tokens) != (2, "all"):
                        continue
                    question = Request(request.clips, request.batch, tokens)
                    asked[f"{name} {tokens} {people}"] = Question(worker, question)
        least = 0 if bench.quick or batch == 32 else 0.3
        rounds = 2 if bench.quick else ROUNDS[batch]
        shown = f"ours {precisions[0]} all 2"
        measured = interleave(bench.benchmark, asked, rounds, least, shown)
    values = measured.first
    for name, (numbers, _) in values.items():
        if not name.startswith("MAE") and name.endswith(" 2"):
            precision = "bf16" if "bf16" in name else "fp32"
            assert numbers == pytest.approx(values["ours fp32 all 2"][0], abs=SAME[precision])
    for people in wanted:
        for tokens in TOKENS:
            case = {"clips": batch, "people": people, "places": 2, "tokens": tokens}
            record_cell(bench, measured, {**case, "threads": threads}, peers, precisions)


def record_cell(
    bench: Bench,
    rounds: Rounds,
    case: dict[str, Any],
    peers: dict[str, tuple[str, ...]],
    precisions: tuple[str, ...],
) -> None:
    """Ours against every peer in each precision, and the masked autoencoder against ours."""
    here = f"{case['tokens']} {case['people']}"

    def record(
        benchmark: str, precision: str, baseline: str, side: str, ours: str, **more: Any
    ) -> None:
        by = {"ours": rounds.first[ours][1], "baseline": rounds.first[side][1]}
        metrics = {**rounds.metrics(side, ours), "by": by, "threads": case["threads"], **more}
        bench.record(benchmark, {"baseline": baseline, **case, "precision": precision}, **metrics)

    for precision in precisions:
        ours = f"ours {precision} {here}"
        rivals = {
            name: f"SLiM {name} {precision} {here}" for name in peers if precision in peers[name]
        }
        record("runtimes", precision, "PyTorch", f"SLiM torch {precision} {here}", ours)
        for name, side in rivals.items():
            record("runtimes", precision, name, side, ours)
        # what bf16 may take, float32 may too
        slower = {f"SLiM {name} fp32 {here}" for name in peers if "fp32" in peers[name]}
        if any_side := sorted({*rivals.values(), *slower} & rounds.seconds.keys()):
            best, target = fastest(rounds, any_side), TARGETS["peer"][case["people"]]
            record("runtimes", precision, "the fastest peer", best, ours, target=target)
    ours = fastest(rounds, [f"ours {precision} {here}" for precision in precisions])
    theirs = [side for side in rounds.seconds if side.startswith("MAE ")]
    best, target = fastest(rounds, theirs), TARGETS["mae"][case["people"]]
    record("like_for_like", "best", "MAE, its fastest runtime", best, ours, target=target)
    for side in theirs if (case["people"], case["tokens"]) == (2, "all") else ():
        _, runtime, precision, *_ = side.split(" ")
        record("like_for_like", precision, f"MAE, {runtime}", side, ours)


def fastest(rounds: Rounds, sides: list[str]) -> str:
    """The side with the lowest median."""
    return min(sides, key=lambda side: quartiles(rounds.seconds[side])[1])
