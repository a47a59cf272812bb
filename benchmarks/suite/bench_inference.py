"""Inference of the encoder: against SLiM in eager PyTorch and against masked autoencoders given the
same care, and as a share of what one large matrix product reaches.

With two people a clip on both sides it must be 7.89 times as fast as a masked autoencoder that gets
the same treatment (SDPA, torch.compile, bf16); beside that stands the fastest of all treatments,
attention in pieces among them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.flops.closed_form import slim_encoder
from benchmarks.records.recorder import quartiles
from benchmarks.suite import encoders
from benchmarks.suite.bench import Bench
from benchmarks.suite.encoders import MATMUL_SIZE, Clips
from benchmarks.suite.workers import Rounds
from slim_fast.model.encoder import EncoderConfig

TARGET = 7.89
SHARES = {("bf16", False): 0.70, ("fp32", False): 0.85, ("bf16", True): 0.45, ("fp32", True): 0.75}
"""Fraction of the matmul's rate to be reached, by precision and whether it is one person alone."""
SIDES: dict[str, Callable[..., Any]] = {
    "ours": encoders.ours,
    "SLiM eager": encoders.slim_eager,
    "SLiM eager, compiled": partial(encoders.slim_eager, compiled=True),
    "MAE SDPA": encoders.mae,
    "MAE SDPA, compiled": partial(encoders.mae, compiled=True),
    "MAE explicit": partial(encoders.mae, explicit=True),
    "MAE explicit, in pieces": partial(encoders.mae, explicit=True, piece=1),
    "product": encoders.torch_matmul,
    "oneDNN's product": encoders.onednn_matmul,
}
MATMULS = ("product", "oneDNN's product")
SLIM = ("ours", "SLiM eager", "SLiM eager, compiled")
MAE = ("MAE SDPA", "MAE SDPA, compiled", "MAE explicit, in pieces")
ALIKE = ("MAE SDPA", "MAE SDPA, compiled")
"""The treatment that SLiM gets in PyTorch: SDPA, torch.compile, whichever precision."""
# Outputs of the same weights in the same precision differ by less.
SAME = {"fp32": 1e-3, "bf16": 0.1}


@dataclass(frozen=True)
class Case:
    """What is timed: clips, sides, precisions, and rounds of at least so many seconds a side."""

    clips: Clips
    sides: tuple[str, ...]
    precisions: tuple[str, ...] = ("bf16", "fp32")
    rounds: int = 5
    least_seconds: float = 0.3


CASES = {
    "one-person": Case(Clips(1, people=1, slots=1), ("ours", "SLiM eager", *MATMULS)),
    "latency": Case(Clips(1), (*SLIM, *MAE, "MAE explicit"), ("bf16",)),
    "latency-both": Case(Clips(1), (*SLIM, *MAE, "MAE explicit")),
    "small-batch": Case(Clips(8), (*SLIM, *MAE), rounds=3),
    "batch": Case(Clips(32), ("ours", "SLiM eager", *MAE, *MATMULS), ("bf16",), 2),
    "batch-fp32": Case(Clips(32), ("ours", "SLiM eager", *MATMULS), ("fp32",), 2),
    "mostly-one-person": Case(
        Clips(32, people=1.22), ("ours", "SLiM eager", "MAE SDPA"), ("bf16",), 2
    ),
    "one-person-of-two": Case(Clips(32, people=1), ("ours", "SLiM eager"), ("bf16",), 3),
}
THOROUGH = ("latency-both", "small-batch")
TOY = Clips(1, frames=8, joints=3)
QUICK = Case(
    TOY, ("ours", "SLiM eager", "MAE SDPA", *MATMULS), ("fp32",), rounds=2, least_seconds=0
)


@pytest.mark.parametrize("name", CASES)
def test_inference(bench: Bench, device: str, name: str) -> None:
    bench.skip_if_quick(name != "latency")
    bench.skip_unless_thorough(name in THOROUGH)
    case = QUICK if bench.quick else CASES[name]
    precisions = bench.native_precisions(case.precisions, device)
    names = bench.runnable_sides(case.sides, device)
    size = 256 if bench.quick else MATMUL_SIZE
    sides = {
        f"{precision} {side}": partial(
            SIDES[side], precision=precision, **({"size": size} if side in MATMULS else {})
        )
        for precision in precisions
        for side in names
    }
    shown, built = f"{precisions[0]} ours", {"clips": case.clips, "device": device}
    rounds = bench.compare(sides, case.rounds, case.least_seconds, shown=shown, **built)
    bench.leave_out(
        "masked autoencoders on more than 32 clips: runs of minutes, at a rate that no longer "
        "changes"
    )
    for precision in precisions:
        ours = f"{precision} ours"
        if "SLiM eager" in names and case.clips.people == case.clips.slots:
            eager = rounds.first[f"{precision} SLiM eager"]
            assert rounds.first[ours] == pytest.approx(eager, abs=SAME[precision])
        for side in (n for n in names if n not in ("ours", *MATMULS)):
            recorded = {"baseline": side, **case.clips.case, "precision": precision}
            record_pair(bench, recorded, rounds, f"{precision} {side}", ours, device)
        if "product" in names:
            bench.record(
                "inference_share",
                {**case.clips.case, "precision": precision},
                **share(rounds, precision, case.clips, size),
                target=SHARES[precision, case.clips.slots == 1],
                device=device,
            )
    if case.clips.people == 2 and set(MAE) <= set(names):
        for name, among in (("MAE, treated alike", ALIKE), ("MAE, the fastest", tuple(SIDES))):
            ours, best = fastest_sides(rounds, among)
            recorded = {"baseline": name, **case.clips.case, "precision": "best"}
            more = {"fastest": {"ours": ours, "baseline": best}, "target": TARGET}
            record_pair(bench, recorded, rounds, best, ours, device, **more)


def record_pair(
    bench: Bench,
    case: dict[str, Any],
    rounds: Rounds,
    baseline: str,
    ours: str,
    device: str,
    **more: Any,
) -> None:
    metrics = {**rounds.metrics(baseline, ours), "peak_bytes": rounds.peaks(baseline, ours), **more}
    bench.record("inference", case, **metrics, device=device)


def fastest_sides(rounds: Rounds, among: tuple[str, ...]) -> tuple[str, str]:
    """Our fastest side and the fastest masked autoencoder `among` the names, in any precision."""
    medians = {side: quartiles(seconds)[1] for side, seconds in rounds.seconds.items()}
    ours = min((side for side in medians if side.endswith(" ours")), key=medians.__getitem__)
    rivals = [side for side in medians if " MAE " in side and side.split(" ", 1)[1] in among]
    return ours, min(rivals, key=medians.__getitem__)


def share(rounds: Rounds, precision: str, clips: Clips, size: int) -> dict[str, Any]:
    """GFLOP/s of the encoders' matrix products, and ours over one large product's."""
    one = slim_encoder(EncoderConfig(), clips.frames, clips.joints).matmuls
    work = {"ours": one * clips.clips * clips.people, "product": 2 * size**3}
    work["oneDNN's product"] = work["product"] / 4
    work["SLiM eager"] = one * clips.clips * clips.slots
    seconds = {side: np.array(rounds.seconds[f"{precision} {side}"]) for side in work}
    rate = {side: n / seconds[side] / 1e9 for side, n in work.items()}
    fastest = np.maximum(*(rate[side] for side in MATMULS))
    gflops = {"ours": rate["ours"], "eager": rate["SLiM eager"], "product": rate["product"]}
    gflops["fastest"] = fastest
    return {
        "gflops": {side: quartiles(values) for side, values in gflops.items()},
        "share": quartiles(rate["ours"] / rate["product"]),
        "share_of_fastest": quartiles(rate["ours"] / fastest),
        "eager_share": quartiles(rate["SLiM eager"] / rate["product"]),
        "rounds": len(fastest),
    }
