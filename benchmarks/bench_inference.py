"""Inference of the encoder: against SLiM in eager PyTorch and against masked autoencoders given the same care, and as a
share of what one large matrix product reaches.

With two people a clip on both sides it must be 7.89 times as fast as a masked autoencoder that gets the same treatment
(SDPA, torch.compile, bf16); beside that stands the fastest of all treatments, attention in pieces among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks import encoders
from benchmarks.closed_form import slim_encoder
from benchmarks.conftest import LeftOut
from benchmarks.encoders import PRODUCT_SIZE, Clips
from benchmarks.measure import Rounds, interleave, quartiles, workers
from benchmarks.records import Recorder
from slim_fast.model.encoder import EncoderConfig

TARGET = 7.89
SHARES = {("bf16", False): 0.70, ("fp32", False): 0.85, ("bf16", True): 0.45, ("fp32", True): 0.75}
"""Of the product's rate that must be reached, by precision and whether it is one person's clip alone."""
SIDES: dict[str, Callable[..., Any]] = {
    "ours": encoders.ours,
    "SLiM eager": encoders.slim_eager,
    "SLiM eager, compiled": partial(encoders.slim_eager, compiled=True),
    "MAE SDPA": encoders.mae,
    "MAE SDPA, compiled": partial(encoders.mae, compiled=True),
    "MAE explicit": partial(encoders.mae, explicit=True),
    "MAE explicit, in pieces": partial(encoders.mae, explicit=True, piece=1),
    "product": encoders.product,
    "oneDNN's product": encoders.onednn_product,
}
PRODUCTS = ("product", "oneDNN's product")
SLIM = ("ours", "SLiM eager", "SLiM eager, compiled")
MAE = ("MAE SDPA", "MAE SDPA, compiled", "MAE explicit, in pieces")
ALIKE = ("MAE SDPA", "MAE SDPA, compiled")
"""The treatment that SLiM gets in PyTorch: SDPA, torch.compile, whichever precision."""
# The same weights in the same precision: what they answer differs by less.
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
    "one-person": Case(Clips(1, people=1, places=1), ("ours", "SLiM eager", *PRODUCTS)),
    "latency": Case(Clips(1), (*SLIM, *MAE, "MAE explicit"), ("bf16",)),
    "latency-both": Case(Clips(1), (*SLIM, *MAE, "MAE explicit")),
    "small-batch": Case(Clips(8), (*SLIM, *MAE), rounds=3),
    "batch": Case(Clips(32), ("ours", "SLiM eager", *MAE, *PRODUCTS), ("bf16",), 2),
    "batch-fp32": Case(Clips(32), ("ours", "SLiM eager", *PRODUCTS), ("fp32",), 2),
    "mostly-one-person": Case(Clips(32, people=1.22), ("ours", "SLiM eager", "MAE SDPA"), ("bf16",), 2),
    "one-person-of-two": Case(Clips(32, people=1), ("ours", "SLiM eager"), ("bf16",), 3),
}
THOROUGH = ("latency-both", "small-batch")
TOY = Clips(1, frames=8, joints=3)
QUICK = Case(TOY, ("ours", "SLiM eager", "MAE SDPA", *PRODUCTS), ("fp32",), rounds=2, least_seconds=0)


@pytest.mark.parametrize("name", CASES)
def test_inference(
    benchmark: Any,
    quick: bool,
    threads: int,
    device: str,
    recorder: Recorder,
    left_out: LeftOut,
    name: str,
    beyond: Callable[[bool], None],
) -> None:
    if quick and name != "latency":
        pytest.skip("one case is enough to see that it runs")
    beyond(name in THOROUGH)
    case = QUICK if quick else CASES[name]
    precisions = left_out.without_slow_precisions(case.precisions, device)
    names = left_out.without_compiler(case.sides, device)
    size = 256 if quick else PRODUCT_SIZE
    sides = {
        f"{precision} {side}": partial(SIDES[side], precision=precision, **({"size": size} if side in PRODUCTS else {}))
        for precision in precisions
        for side in names
    }
    with workers(sides, threads, clips=case.clips, device=device) as built:
        rounds = interleave(benchmark, built, case.rounds, case.least_seconds, shown=f"{precisions[0]} ours")
    about = {"clips": case.clips.clips, "people": case.clips.people, "places": case.clips.places}
    left_out.add("masked autoencoders on more than 32 clips: runs of minutes, at a rate that no longer changes")
    where: dict[str, Any] = {"threads": threads, "device": device}
    for precision in precisions:
        if "SLiM eager" in names and case.clips.people == case.clips.places:
            first = rounds.first[f"{precision} ours"], rounds.first[f"{precision} SLiM eager"]
            assert first[0] == pytest.approx(first[1], abs=SAME[precision])
        for side in names:
            if side in ("ours", *PRODUCTS):
                continue
            pair = {"baseline": f"{precision} {side}", "ours": f"{precision} ours"}
            found = {**rounds.figures(**pair), "peak_bytes": rounds.peaks(**pair)}
            recorder.add("inference", {"baseline": side, **about, "precision": precision}, **found, **where)
        if "product" in names:
            recorder.add(
                "inference_share",
                {**about, "precision": precision},
                **share(rounds, precision, case.clips, size),
                target=SHARES[precision, case.clips.places == 1],
                **where,
            )
    if case.clips.people == 2 and set(MAE) <= set(names):
        record_best("MAE, treated alike", ALIKE, rounds, recorder, about, where)
        record_best("MAE, the fastest", tuple(SIDES), rounds, recorder, about, where)


def share(rounds: Rounds, precision: str, clips: Clips, size: int) -> dict[str, Any]:
    """GFLOP/s of matrix products in the encoder, ours and eager, beside those of one large product: by torch.mm, which
    the target is about, and by the faster library, which in float32 may be another.
    """
    one = slim_encoder(EncoderConfig(), clips.frames, clips.joints).products
    work = {"ours": one * clips.clips * clips.people, "product": 2 * size**3}
    work["oneDNN's product"] = work["product"] / 4
    work["SLiM eager"] = one * clips.clips * clips.places
    rate = {side: n / np.array(rounds.seconds[f"{precision} {side}"]) / 1e9 for side, n in work.items()}
    fastest = np.maximum(*(rate[side] for side in PRODUCTS))
    gflops = {"ours": rate["ours"], "eager": rate["SLiM eager"], "product": rate["product"], "fastest": fastest}
    return {
        "gflops": {side: quartiles(values) for side, values in gflops.items()},
        "share": quartiles(rate["ours"] / rate["product"]),
        "share_of_fastest": quartiles(rate["ours"] / fastest),
        "eager_share": quartiles(rate["SLiM eager"] / rate["product"]),
        "rounds": len(fastest),
    }


def record_best(
    name: str, among: tuple[str, ...], rounds: Rounds, recorder: Recorder, about: dict[str, Any], where: dict[str, Any]
) -> None:
    """Our fastest against the fastest masked autoencoder `among` the sides, in whatever precision each is fastest."""
    medians = {side: quartiles(seconds)[1] for side, seconds in rounds.seconds.items()}
    mine = min((side for side in medians if side.endswith(" ours")), key=medians.__getitem__)
    rivals = [side for side in medians if " MAE " in side and side.split(" ", 1)[1] in among]
    best = min(rivals, key=medians.__getitem__)
    found = {**rounds.figures(best, mine), "peak_bytes": rounds.peaks(best, mine)}
    case = {"baseline": name, **about, "precision": "best"}
    recorder.add("inference", case, **found, fastest={"ours": mine, "baseline": best}, target=TARGET, **where)
