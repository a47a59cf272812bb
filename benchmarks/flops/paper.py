"""The paper's efficiency table, and on which basis its ratio MAE / SLiM comes out."""

from dataclasses import dataclass

from benchmarks.flops.closed_form import Convention, slim_first_linears
from benchmarks.flops.counting import costs
from slim_fast.model.encoder import EncoderConfig
from slim_fast.views.pipeline import ViewsConfig

PEOPLE = 2  # the masked methods' clips always hold two
NTU_PEOPLE = 1.221  # people a clip of NTU RGB+D by our estimate, an assumption; --data counts them


@dataclass(frozen=True)
class Paper:
    """A row of the efficiency table (Do et al., arXiv 2603.10648), GFLOPs a clip; None: a dash."""

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
    """How many people a clip holds in the mean where the data decide, and the number's source."""

    people: float = NTU_PEOPLE
    source: str = "NTU, by our estimate"


NTU = Clips()


@dataclass(frozen=True)
class Basis:
    """People on both sides of the ratio MAE / SLiM."""

    name: str
    mae_people: float
    slim_people: float
    is_like_for_like: bool = False
    left_out: float = 0
    """Operations of SLiM's matmuls for one person that are not counted."""

    def slim(self, convention: Convention) -> float:
        """GFLOPs of SLiM's people."""
        one = convention.gflops(costs()["SLiM"].inference) - self.left_out / 1e9
        return self.slim_people * one

    def ratio(self, convention: Convention) -> float:
        """MAE over SLiM."""
        mae = self.mae_people * convention.gflops(costs()["MAMP"].inference)
        return mae / self.slim(convention)


def bases(clips: Clips) -> list[Basis]:
    """Every basis that can be named."""
    unseen = slim_first_linears(EncoderConfig(), ViewsConfig().window)
    estimated = f"MAE two people, SLiM {clips.people:.3f} ({clips.source})"
    not_counted = "two people each, SLiM's first FFN map not counted"
    return [
        Basis("two people each", PEOPLE, PEOPLE, is_like_for_like=True),
        Basis("one person each", 1, 1, is_like_for_like=True),
        Basis("MAE two people, SLiM one", PEOPLE, 1),
        Basis(estimated, PEOPLE, clips.people),
        Basis(not_counted, PEOPLE, PEOPLE, left_out=unseen),
    ]


def surge(visible: int, convention: Convention) -> float:
    """MAE on all tokens over MAE on the visible ones."""
    cost = costs()[f"MAE, {visible} visible"]
    return convention.gflops(cost.inference) / convention.gflops(cost.encoder)


def people_reached(convention: Convention) -> float:
    """At how many people a clip SLiM costs what the paper says."""
    return PAPER["SLiM"].inference / convention.gflops(costs()["SLiM"].inference)
