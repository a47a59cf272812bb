"""python -m benchmarks.flops: what the methods cost, counted, beside the figures of the paper.

Counts through the modules themselves, checks every count against its closed form, and compares masked autoencoders
(MAE) with SLiM for several numbers of people, since a clip's second person is empty more often than not.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.closed_form import CONVENTIONS, PRODUCTS, PROFILER, Convention, slim_first_maps, slim_tokens
from benchmarks.counting import VISIBLE, CountError, costs
from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.model.encoder import EncoderConfig
from slim_fast.views.pipeline import ViewsConfig

PEOPLE = 2  # the masked methods' clips always hold two
NTU_PEOPLE = 1.221  # people a clip of NTU RGB+D by our estimate, an assumption; --data counts them
Table = Sequence[Sequence[str]]
CONVENTIONS_SAID = (
    "products: matrix products only, 2 for each multiply and add. softmax at 5: with 5 operations a softmax entry, "
    "5 a LayerNorm number, 1 an activation. profiler: softmax at 1, LayerNorm at 5, activations at 1, and 1 for "
    "each number of a bias, residual, scaled score, gate or position (not the rotary embedding)."
)


@dataclass(frozen=True)
class Paper:
    """A row of the paper's efficiency table (Do et al., arXiv 2603.10648), GFLOPs a clip; None: a dash there."""

    inference: float
    encoder: float
    decoder: float | None
    target: float | None


PAPER = {
    "SkeletonMAE": Paper(28.32, 1.97, 17.70, None),
    "MAMP": Paper(28.32, 1.97, 17.70, None),
    "S-JEPA": Paper(28.32, 1.97, 17.70, 28.32),
    "GFP": Paper(28.32, 1.97, 1.57, 0.64),
    "SLiM": Paper(3.59, 3.59, None, 3.59),
}
PARTS = ("inference", "encoder", "decoder", "target")
PAPER_RATIO = PAPER["MAMP"].inference / PAPER["SLiM"].inference
PAPER_SURGE = PAPER["MAMP"].inference / PAPER["MAMP"].encoder


@dataclass(frozen=True)
class Clips:
    """How many people a clip holds where the data decide, and how we know."""

    people: float = NTU_PEOPLE
    source: str = "NTU, by our estimate"


@dataclass(frozen=True)
class Basis:
    """People on both sides of the ratio MAE / SLiM, and whether they are the same."""

    name: str
    mae_people: float
    slim_people: float
    alike: str
    left_out: float = 0
    """Matrix products of SLiM for one person that are not counted, in operations."""

    def slim(self, convention: Convention) -> float:
        """GFLOPs of SLiM's people."""
        return self.slim_people * (convention.gflops(costs()["SLiM"].inference) - self.left_out / 1e9)

    def ratio(self, convention: Convention) -> float:
        return self.mae_people * convention.gflops(costs()["MAMP"].inference) / self.slim(convention)


def bases(clips: Clips) -> list[Basis]:
    unseen = slim_first_maps(EncoderConfig(), ViewsConfig().window)
    return [
        Basis("two people each", PEOPLE, PEOPLE, "yes"),
        Basis("one person each", 1, 1, "yes"),
        Basis("MAE two people, SLiM one", PEOPLE, 1, "no"),
        Basis(f"MAE two people, SLiM {clips.people:.3f} ({clips.source})", PEOPLE, clips.people, "no"),
        Basis("two people each, SLiM's first FFN map not counted", PEOPLE, PEOPLE, "no", unseen),
    ]


def surge(visible: int, convention: Convention) -> float:
    """MAE on all tokens over MAE on the visible ones."""
    cost = costs()[f"MAE, {visible} visible"]
    return convention.gflops(cost.inference) / convention.gflops(cost.encoder)


def people_reached(convention: Convention) -> float:
    """At how many people a clip SLiM costs what the paper says."""
    return PAPER["SLiM"].inference / convention.gflops(costs()["SLiM"].inference)


def efficiency_rows(convention: Convention, clips: Clips) -> Table:
    """Ours / the paper's, GFLOPs a clip."""
    rows = [["method", "people", "tokens", "inference", "training: encoder", "decoder", "target network"]]
    people = {name: [PEOPLE] for name in PAPER} | {"SLiM": [PEOPLE, 1, clips.people]}
    for name, paper in PAPER.items():
        for count in people[name]:
            cells = []
            for part in PARTS:
                work, published = getattr(costs()[name], part), getattr(paper, part)
                ours = "–" if work is None else f"{count * convention.gflops(work):.2f}"
                cells.append(ours if published is None else f"{ours} / {published:.2f}")
            rows.append([name, f"{count:.4g}", costs()[name].tokens, *cells])
    return rows


def ratio_rows(clips: Clips) -> Table:
    header = ["MAE / SLiM in inference", "like for like", *(convention.name for convention in CONVENTIONS)]
    rows = [[b.name, b.alike, *(f"{b.ratio(c):.2f}" for c in CONVENTIONS)] for b in bases(clips)]
    return [header, *rows]


def surge_rows() -> Table:
    header = ["MAE on all tokens / on the visible ones", *(convention.name for convention in CONVENTIONS)]
    return [header, *([f"{n} of 750 visible", *(f"{surge(n, c):.2f}" for c in CONVENTIONS)] for n in VISIBLE)]


def markdown(table: Table) -> str:
    header, *rows = table
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def aligned(table: Table) -> str:
    wide = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = [[cell.rjust(w) for cell, w in zip(row, wide, strict=True)] for row in table]
    return "\n".join("  ".join([row[0].ljust(wide[0]), *cells[1:]]) for row, cells in zip(table, rows, strict=True))


def efficiency_table(convention: Convention = PRODUCTS, clips: Clips = Clips()) -> str:
    """Markdown: ours / the paper's GFLOPs a clip, method by method. Raises: CountError."""
    return markdown(efficiency_rows(convention, clips))


def ratio_tables(clips: Clips = Clips()) -> str:
    """Markdown: MAE over SLiM on every basis, and what the MAE's inference costs over its training's encoder, in every
    convention. Raises: CountError.
    """
    return f"{markdown(ratio_rows(clips))}\n\n{markdown(surge_rows())}"


def summary(clips: Clips = Clips()) -> str:
    """Markdown for a README: what the methods cost, the ratios, and what the paper's are. Raises: CountError."""
    title = "GFLOPs a clip, ours / the paper's, matrix products only:"
    return "\n\n".join(
        [title, efficiency_table(PRODUCTS, clips), ratio_tables(clips), verdict(clips), CONVENTIONS_SAID]
    )


def off(figure: float, published: float) -> float:
    return abs(figure / published - 1)


def verdict(clips: Clips) -> str:
    """Which basis the paper's ratio is, as far as figures can tell."""
    mae, slim = PAPER["MAMP"].inference, PAPER["SLiM"].inference
    found = [(basis, c, basis.ratio(c)) for basis in bases(clips) for c in CONVENTIONS]
    basis, convention, figure = min(found, key=lambda item: off(item[2], PAPER_RATIO))
    near = {b.name: b for b, _, r in found if b is not basis and off(r, PAPER_RATIO) < 0.01}
    alike = [f"{b.name} ({b.ratio(PRODUCTS):.2f})" for b in bases(clips) if b.alike == "yes"]
    reached = {f"{people_reached(c):.3f}" for c in CONVENTIONS}
    costs_then = " and ".join(f"{b.slim(PROFILER):.2f}" for b in (basis, *near.values()))
    said = [
        f"The published {PAPER_RATIO:.2f} (= {mae} / {slim}) is nearest to: {basis.name}, convention "
        f"“{convention.name}”: {figure:.2f}.",
        f"Also within 1 %: {'; '.join(near)}." if near else "Nothing else comes within 1 %.",
        f"In “{PROFILER.name}” SLiM then costs {costs_then}.",
        f"Like for like are only: {', '.join(alike)}.",
        f"SLiM costs {slim} at {min(reached)} to {max(reached)} people a clip, solved, depending on the convention.",
    ]
    if clips == Clips() and f"{clips.people:.3f}" in reached:
        said.append(f"{clips.people} is an estimate that agrees with this, not a count: --data counts a cache.")
    return " ".join(said)


def about_softmax() -> str:
    """What the paper's MAE figures say about its convention."""
    mae, paper = costs()["MAMP"], PAPER["MAMP"]
    met = {n: PEOPLE * replace(PRODUCTS, softmax=n).gflops(mae.inference) for n in (1, 3, 5)}
    nearest = min(met, key=lambda n: off(met[n], paper.inference))
    entries = PEOPLE * mae.inference.softmax / 1e9
    solved = (paper.inference - PEOPLE * PRODUCTS.gflops(mae.inference)) / entries
    every = [f"{PEOPLE * PROFILER.gflops(getattr(mae, part)):.2f} ({getattr(paper, part):.2f})" for part in PARTS[:3]]
    return (
        f"With softmax alone added, {', '.join(f'{n}' for n in met)} operations an entry make the MAE "
        f"{', '.join(f'{x:.2f}' for x in met.values())}: {nearest} is nearest to the published {paper.inference}, and "
        f"{solved:.2f} would meet it. The convention “profiler” comes to {', '.join(every)} for inference, encoder in "
        f"training and decoder, the published ones in brackets."
    )


def about_training() -> str:
    """What the table's training columns leave out of SLiM's step."""
    views = ViewsConfig()
    shown = {views.window: 2} | {local.window: 2 * local.count for local in views.local}
    tokens = {frames: count * slim_tokens(EncoderConfig(), frames) for frames, count in shown.items()}
    return (
        f"SLiM's training columns are the paper's: one forward of one {views.window}-frame clip by student and by "
        f"teacher. A real step takes {sum(shown.values())} views of one person, {sum(tokens.values())} tokens of the "
        f"student and {tokens[views.window]} of the teacher a sample."
    )


def report(clips: Clips) -> str:
    """Plain text, at most 100 columns wide."""
    parts: list[str] = []
    for convention in (PRODUCTS, PROFILER):
        title = f"GFLOPs a clip, ours / the paper's; convention “{convention.name}”"
        parts.append(f"{title}\n{aligned(efficiency_rows(convention, clips))}")
    parts += [about_training(), f"{aligned(ratio_rows(clips))}\npublished: {PAPER_RATIO:.2f}", verdict(clips)]
    parts += [f"{aligned(surge_rows())}\npublished: {PAPER_SURGE:.2f}", about_softmax(), CONVENTIONS_SAID]
    return "\n\n".join(part if "\n" in part else textwrap.fill(part, 100) for part in parts)


def figures(clips: Clips) -> dict[str, Any]:
    """What --json prints: GFLOPs of matrix products, and all ratios."""
    mae, gfp, slim = (costs()[name] for name in ("MAMP", "GFP", "SLiM"))
    two = {
        "mae_two_people": mae.inference,
        "mae_visible_two_people": mae.encoder,
        "mae_decoder_two_people": mae.decoder,
        "gfp_decoder_two_people": gfp.decoder,
        "gfp_target_network_two_people": gfp.target,
        "slim_two_people": slim.inference,
    }
    named = {c.name: c for c in CONVENTIONS}
    return {
        **{name: PEOPLE * PRODUCTS.gflops(work) for name, work in two.items() if work is not None},
        "slim_one_person": PRODUCTS.gflops(slim.inference),
        "people_a_clip": clips.people,
        "people_a_clip_source": clips.source,
        "people_that_meet_the_paper": {name: people_reached(c) for name, c in named.items()},
        "ratios": {f"{b.name}; {name}": b.ratio(c) for b in bases(clips) for name, c in named.items()},
        "surges": {f"{n} visible; {name}": surge(n, c) for n in VISIBLE for name, c in named.items()},
        "published": {"ratio": PAPER_RATIO, "surge": PAPER_SURGE},
        "verdict": verdict(clips),
    }


def clips_of(people: str | None, data: Path | None) -> Clips:
    """What the options say about people. Raises: UserError."""
    if people is not None and data is not None:
        raise UserError("--people and --data both say how many people a clip holds: give one of them.")
    if data is not None:
        return Clips(float(ClipCache.open(data).people.mean()), f"mean of {data.name}")
    if people is None:
        return Clips()
    try:
        count = float(people)
    except ValueError:
        count = math.nan
    if not 0 < count < math.inf:
        raise UserError(f"--people must be a number above 0, the mean number of people a clip; got {people!r}.")
    return Clips(count, "as given")


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flops", description=__doc__)
    parser.add_argument(
        "--people", metavar="MEAN", help=f"people a clip in the mean (default {NTU_PEOPLE}, an estimate)"
    )
    parser.add_argument("--data", type=Path, metavar="CACHE", help="clip cache whose people are counted instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    try:
        clips = clips_of(options.people, options.data)
        print(json.dumps(figures(clips), ensure_ascii=False) if options.json else report(clips))
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    except CountError as failure:
        print(f"error: a count disagrees with its closed form. {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
