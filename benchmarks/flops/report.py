"""What the methods cost as tables and sentences, beside the paper's numbers."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.flops.closed_form import CONVENTIONS, MATMULS, PROFILER, Convention, slim_tokens
from benchmarks.flops.counting import VISIBLE, costs
from benchmarks.flops.paper import (
    NTU,
    PAPER,
    PAPER_RATIO,
    PAPER_SURGE,
    PARTS,
    PEOPLE,
    Clips,
    bases,
    people_reached,
    surge,
)
from benchmarks.markdown import markdown_table, plain_table
from slim_fast.model.encoder import EncoderConfig
from slim_fast.views.pipeline import ViewsConfig

Table = Sequence[Sequence[str]]
CONVENTIONS_NOTE = (
    "matmuls: matrix products only, 2 for each multiply and add. softmax at 5: with 5 "
    "operations a softmax entry, 5 a LayerNorm number, 1 an activation. profiler: softmax at 1, "
    "LayerNorm at 5, activations at 1, and 1 for each number of a bias, residual, scaled score, "
    "gate or position (not the rotary embedding)."
)


def efficiency_rows(convention: Convention, clips: Clips) -> Table:
    """Ours / the paper's, GFLOPs a clip."""
    header = "method, people, tokens, inference, training: encoder, decoder, target network"
    rows = [header.split(", ")]
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
    header = ["MAE / SLiM in inference", "like for like", *(c.name for c in CONVENTIONS)]
    rows = [
        [b.name, "yes" if b.is_like_for_like else "no", *(f"{b.ratio(c):.2f}" for c in CONVENTIONS)]
        for b in bases(clips)
    ]
    return [header, *rows]


def surge_rows() -> Table:
    header = ["MAE on all tokens / on the visible ones", *(c.name for c in CONVENTIONS)]
    rows = ([f"{n} of 750 visible", *(f"{surge(n, c):.2f}" for c in CONVENTIONS)] for n in VISIBLE)
    return [header, *rows]


def to_markdown(table: Table) -> str:
    return markdown_table(table[0], table[1:], left=1)


def efficiency_table(convention: Convention = MATMULS, clips: Clips = NTU) -> str:
    """Markdown: ours / the paper's GFLOPs a clip, method by method. Raises: CountError."""
    return to_markdown(efficiency_rows(convention, clips))


def ratio_tables(clips: Clips = NTU) -> str:
    """Markdown: MAE over SLiM on every basis, and the MAE's inference over its training encoder."""
    return f"{to_markdown(ratio_rows(clips))}\n\n{to_markdown(surge_rows())}"


def summary(clips: Clips = NTU) -> str:
    """Markdown for a page: costs, ratios, and what the paper's ratio is. Raises: CountError."""
    title = "GFLOPs a clip, ours / the paper's, matrix products only:"
    tables = [efficiency_table(MATMULS, clips), ratio_tables(clips)]
    return "\n\n".join([title, *tables, verdict(clips), CONVENTIONS_NOTE])


def relative_distance(value: float, published: float) -> float:
    return abs(value / published - 1)


def verdict(clips: Clips) -> str:
    """Which basis the paper's ratio is on, as far as numbers can tell."""
    mae, slim = PAPER["MAMP"].inference, PAPER["SLiM"].inference
    found = [(basis, c, basis.ratio(c)) for basis in bases(clips) for c in CONVENTIONS]
    basis, convention, ratio = min(found, key=lambda f: relative_distance(f[2], PAPER_RATIO))
    near = {
        b.name: b
        for b, _, r in found
        if b is not basis and relative_distance(r, PAPER_RATIO) < 0.01
    }
    alike = [f"{b.name} ({b.ratio(MATMULS):.2f})" for b in bases(clips) if b.is_like_for_like]
    reached = {f"{people_reached(c):.3f}" for c in CONVENTIONS}
    costs_then = " and ".join(f"{b.slim(PROFILER):.2f}" for b in (basis, *near.values()))
    sentences = [
        f"The published {PAPER_RATIO:.2f} (= {mae} / {slim}) is nearest to: {basis.name}, "
        f"convention “{convention.name}”: {ratio:.2f}.",
        f"Also within 1 %: {'; '.join(near)}." if near else "Nothing else comes within 1 %.",
        f"In “{PROFILER.name}” SLiM then costs {costs_then}.",
        f"Like for like are only: {', '.join(alike)}.",
        f"SLiM costs {slim} at {min(reached)} to {max(reached)} people a clip, solved, "
        "depending on the convention.",
    ]
    if clips == NTU and f"{clips.people:.3f}" in reached:
        sentences.append(
            f"{clips.people} is an estimate that agrees with this, not a count: --data counts a "
            "cache."
        )
    return " ".join(sentences)


def softmax_note() -> str:
    """What the paper's numbers of the MAE say about its convention."""
    mae, paper = costs()["MAMP"], PAPER["MAMP"]
    met = {n: PEOPLE * replace(MATMULS, softmax=n).gflops(mae.inference) for n in (1, 3, 5)}
    nearest = min(met, key=lambda n: relative_distance(met[n], paper.inference))
    entries = PEOPLE * mae.inference.softmax / 1e9
    solved = (paper.inference - PEOPLE * MATMULS.gflops(mae.inference)) / entries
    every = [
        f"{PEOPLE * PROFILER.gflops(getattr(mae, part)):.2f} ({getattr(paper, part):.2f})"
        for part in PARTS[:3]
    ]
    return (
        f"With softmax alone added, {', '.join(f'{n}' for n in met)} operations an entry make the "
        f"MAE {', '.join(f'{x:.2f}' for x in met.values())}: {nearest} is nearest to the "
        f"published {paper.inference}, and {solved:.2f} would meet it. The convention “profiler” "
        f"comes to {', '.join(every)} for inference, encoder in training and decoder, the "
        "published ones in brackets."
    )


def training_note() -> str:
    """What the table's training columns leave out of SLiM's step."""
    views = ViewsConfig()
    shown = {views.window: 2} | {local.window: 2 * local.count for local in views.local}
    tokens = {
        frames: count * slim_tokens(EncoderConfig(), frames) for frames, count in shown.items()
    }
    return (
        f"SLiM's training columns are the paper's: one forward of one {views.window}-frame clip "
        f"by student and by teacher. A real step takes {sum(shown.values())} views of one person, "
        f"{sum(tokens.values())} tokens of the student and {tokens[views.window]} of the teacher "
        "a sample."
    )


def report(clips: Clips) -> str:
    """Plain text, at most 100 columns wide."""
    parts: list[str] = []
    for convention in (MATMULS, PROFILER):
        title = f"GFLOPs a clip, ours / the paper's; convention “{convention.name}”"
        parts.append(f"{title}\n{plain_table(efficiency_rows(convention, clips))}")
    parts += [
        training_note(),
        f"{plain_table(ratio_rows(clips))}\npublished: {PAPER_RATIO:.2f}",
        verdict(clips),
    ]
    parts += [
        f"{plain_table(surge_rows())}\npublished: {PAPER_SURGE:.2f}",
        softmax_note(),
        CONVENTIONS_NOTE,
    ]
    return "\n\n".join(part if "\n" in part else textwrap.fill(part, 100) for part in parts)


def to_json(clips: Clips) -> dict[str, Any]:
    """What --json prints: GFLOPs of matmuls, and all ratios."""
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
        **{name: PEOPLE * MATMULS.gflops(work) for name, work in two.items() if work is not None},
        "slim_one_person": MATMULS.gflops(slim.inference),
        "people_a_clip": clips.people,
        "people_a_clip_source": clips.source,
        "people_that_meet_the_paper": {name: people_reached(c) for name, c in named.items()},
        "ratios": {
            f"{b.name}; {name}": b.ratio(c) for b in bases(clips) for name, c in named.items()
        },
        "surges": {
            f"{n} visible; {name}": surge(n, c) for n in VISIBLE for name, c in named.items()
        },
        "published": {"ratio": PAPER_RATIO, "surge": PAPER_SURGE},
        "verdict": verdict(clips),
    }
