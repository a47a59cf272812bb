"""Operations of encoders, decoders and target networks, from their sizes: 2 a multiply-add."""

from dataclasses import astuple, dataclass

from benchmarks.baselines.gfp import GFPConfig
from benchmarks.baselines.transformer import MaskedConfig
from slim_fast.model.encoder import EncoderConfig


@dataclass(frozen=True)
class Work:
    """Operations of the matmuls, and how many numbers everything else works on."""

    matmuls: float = 0
    softmax: float = 0
    """Entries of the attention's scores."""
    norms: float = 0
    """Numbers that LayerNorm reads."""
    activations: float = 0
    """Numbers that GELU, SiLU or ReLU reads."""
    rest: float = 0
    """Additions and multiplications: biases, residuals, scaled scores, gates, positions."""

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> "Work":
        return Work(*(times * a for a in astuple(self)))


@dataclass(frozen=True)
class Convention:
    """Operations of one number of each kind, beside the matmuls, which always count."""

    name: str
    softmax: float = 0
    norms: float = 0
    activations: float = 0
    rest: float = 0

    def gflops(self, work: Work) -> float:
        others = (
            self.softmax * work.softmax
            + self.norms * work.norms
            + self.activations * work.activations
        )
        return (work.matmuls + others + self.rest * work.rest) / 1e9


MATMULS = Convention("matmuls")
# A softmax entry: maximum, subtraction, exponential, sum, division. A LayerNorm number: 5, which is
# what fvcore and DeepSpeed's profiler take for norms with weight and bias. An activation: 1, as
# DeepSpeed's takes it.
SOFTMAX_5 = Convention("softmax at 5", softmax=5, norms=5, activations=1)
# In the manner of such profilers, of which each is a little different: 1 for each number an
# operation writes, 5 for LayerNorm's.
PROFILER = Convention("profiler", softmax=1, norms=5, activations=1, rest=1)
CONVENTIONS = (MATMULS, SOFTMAX_5, PROFILER)


def linear(tokens: int, wide: int, out: int) -> Work:
    return Work(matmuls=2 * tokens * wide * out, rest=tokens * out)


def norm(tokens: int, width: int) -> Work:
    return Work(norms=tokens * width)


def block(tokens: int, width: int, heads: int, hidden: int, gated: bool = False) -> Work:
    """One pre-norm block on one sequence; gated: SwiGLU, whose first layer makes two."""
    scores = Work(4 * tokens**2 * width, softmax=heads * tokens**2, rest=heads * tokens**2)
    attention = linear(tokens, width, 3 * width) + scores + linear(tokens, width, width)
    feed = linear(tokens, width, hidden * (2 if gated else 1)) + linear(tokens, hidden, width)
    around = Work(activations=tokens * hidden, rest=2 * tokens * width + gated * tokens * hidden)
    return attention + feed + around + norm(tokens, width) * 2


def blocks(config: MaskedConfig, tokens: int, depth: int) -> Work:
    return block(tokens, config.width, config.heads, config.mlp_ratio * config.width) * depth


def masked_encoder(config: MaskedConfig, seen: int) -> Work:
    """All patches are embedded, `seen` of them go through the blocks."""
    embedded = linear(config.tokens, config.patch_numbers, config.width) + Work(
        rest=config.tokens * config.width
    )
    return embedded + blocks(config, seen, config.depth) + norm(seen, config.width)


def masked_decoder(config: MaskedConfig, depth: int, out: int | None) -> Work:
    """out: numbers predicted for a token; None: there is no head."""
    filled = Work(rest=config.tokens * config.width) + blocks(config, config.tokens, depth)
    head = Work() if out is None else linear(config.tokens, config.width, out)
    return filled + norm(config.tokens, config.width) + head


def gfp_decoder(config: GFPConfig) -> Work:
    work = Work(rest=config.tokens * config.width)
    # the global level's mean follows its blocks
    seen_by_blocks = (*config.level_tokens[:-1], config.joints)
    sizes = zip(
        seen_by_blocks, config.level_tokens, config.level_blocks, config.level_widths, strict=True
    )
    for tokens, targets, depth, out in sizes:
        work += (
            blocks(config, tokens, depth)
            + norm(targets, config.width)
            + linear(targets, config.width, out)
        )
    return work


def gfp_targets(config: GFPConfig) -> Work:
    work = Work()
    inputs = [config.patch_numbers] * len(config.windows) + [config.tokens * config.patch_numbers]
    for targets, wide, hidden in zip(config.level_tokens, inputs, config.level_widths, strict=True):
        work += linear(targets, wide, hidden) + linear(targets, hidden, hidden) * 2
        work += Work(activations=2 * targets * hidden)
    return work


def slim_tokens(config: EncoderConfig, frames: int, joints: int = 25) -> int:
    """CLS, registers and patches of one person's clip."""
    return 1 + config.registers + frames // config.patch_frames * joints


def slim_encoder(config: EncoderConfig, frames: int, joints: int = 25, channels: int = 3) -> Work:
    """One person's clip of `frames` frames; the rotary embedding is left out."""
    tokens, patches = slim_tokens(config, frames, joints), frames // config.patch_frames * joints
    embedded = linear(patches, config.patch_frames * channels, config.width) + Work(
        rest=patches * config.width
    )
    one = block(tokens, config.width, config.heads, config.hidden, gated=True)
    return embedded + one * config.depth + norm(tokens, config.width)


def slim_first_linears(config: EncoderConfig, frames: int, joints: int = 25) -> float:
    """Operations of the first linear layers of all feed-forwards in `slim_encoder`, gates too."""
    tokens = slim_tokens(config, frames, joints)
    return config.depth * linear(tokens, config.width, 2 * config.hidden).matmuls
