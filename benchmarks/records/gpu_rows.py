"""What a GPU run measures: its sections, and one row a measurement, printed and kept on file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# In the order in which they run: what matters most comes before what takes long to compile.
SECTIONS = {
    "environment": "What this GPU reaches at most, on random data: a large bf16 matmul, and "
    "a copy (bytes read and written); its clocks and draw meanwhile.",
    "warm_up": "What was compiled beforehand, in processes beside each other.",
    "correctness": "Relative error (norm of the difference over the norm) against float64, of ours "
    "and of eager PyTorch in the same dtypes.",
    "determinism": "How many tensors (output and gradients) differ in any bit between two runs.",
    "drop_in": "Relative error of the CLS of SLiMEncoder.optimize(), plain and from CUDA graphs, "
    "against float64, and of eager PyTorch in the same dtype; empty people whose features are not "
    "zeros.",
    "memory": "Bytes by which forward and backward raise the peak of allocated memory.",
    "inference": "The encoder on two-person clips of 64 frames, random weights, all in bf16.",
    "step": "A whole training step of the recipe, against the same step in eager PyTorch at the "
    "largest batch it fits.",
    "prototypes": "prototype_loss forward and backward, against the N×K logits in memory (fp16, "
    "Sinkhorn in fp32).",
    "dense": "A block's dense parts forward and backward, against eager PyTorch and torch.compile "
    "of it.",
    "graph": "Whether a CUDA graph captures the step; replays against launches.",
    "attention": "packed_attention forward and backward on the recipe's mix of lengths; all "
    "include the rotary embedding.",
    "embed": "embed_tokens forward and backward, against eager PyTorch.",
    "update": "Teacher average and AdamW: one multi-tensor call (ours), against one flat buffer.",
    "sanitizer": "Exit status of NVIDIA's compute-sanitizer over every op at toy sizes.",
}
INTERPRETED = ("correctness", "determinism", "drop_in")
"""Sections that Triton's interpreter can run on a CPU."""
TITLES = {**SECTIONS, "sections": "What ran, in seconds."}
Number = float | Sequence[float] | None


@dataclass(frozen=True)
class Row:
    """One measurement. Numbers are quartiles [first, median, third] or plain."""

    section: str
    op: str
    what: str
    ours: Number = None
    baseline: Number = None
    unit: str = ""
    """Of ours and baseline."""
    ratio: Number = None
    """How they compare; what the target is about, or ours where it is None."""
    target: float | None = None
    at_most: bool = False
    """Whether the target is an upper bound."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None without one. NaN reaches none."""
        if self.target is None:
            return None
        value = median(self.ours if self.ratio is None else self.ratio)
        return value is not None and (
            value <= self.target if self.at_most else value >= self.target
        )

    def metrics(self) -> dict[str, Any]:
        """The row as it is kept on file, less its section, op and what."""
        dropped = ("section", "op", "what", *([] if self.at_most else ["at_most"]))
        found = {k: v for k, v in asdict(self).items() if k not in dropped and v not in (None, "")}
        return found if self.target is None else {**found, "met": self.met}


def median(value: Number) -> float | None:
    return value[1] if isinstance(value, Sequence) else value


def format_number(value: Number, unit: str = "") -> str:
    """A number (of quartiles the median) with three digits and its unit."""
    number = median(value)
    if number is None:
        return "–"
    text = f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"
    return f"{text} {unit}".rstrip()


def cells(result: dict[str, Any]) -> dict[str, str]:
    """The columns of a result on file, or of a row's metrics."""
    ratio, sign = result.get("ratio"), "≤" if result.get("at_most") else "≥"
    spread = f" ({ratio[0]:.3g}–{ratio[2]:.3g})" if isinstance(ratio, Sequence) else ""
    return {
        "ours": format_number(result.get("ours"), result.get("unit", "")),
        "baseline": format_number(result.get("baseline"), result.get("unit", "")),
        "ratio": format_number(ratio) + spread,
        "target": f"{sign} {format_number(result['target'])}" if "target" in result else "–",
        "met": {True: "yes", False: "NO", None: "–"}[result.get("met")],
        "note": result.get("note", ""),
    }


WIDTHS = dict(op=34, what=47, ours=16, baseline=16, ratio=24, target=8, met=4, note=0)


def heading() -> str:
    """The line above the rows' lines."""
    return format_columns({name: name for name in WIDTHS})


def line(row: Row) -> str:
    """The row as it is printed."""
    return format_columns({"op": row.op, "what": row.what, **cells(row.metrics())})


def format_columns(texts: dict[str, str]) -> str:
    return "".join(f"{texts[name]:<{width}} " for name, width in WIDTHS.items()).rstrip()
