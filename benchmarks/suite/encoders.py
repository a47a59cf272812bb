"""The encoders that are timed against each other: ours, SLiM's in eager PyTorch, and the masked
autoencoder's, which is S-JEPA's and GFP's too. Each function is called in a process of its own and
returns what one inference runs.

A clip has `slots` for people. The baselines, as their code does, take all; ours leaves out empty
ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from slim_kernels.runtime.matmul import matmul
from torch import Tensor, nn

from benchmarks.baselines import eager_encoder
from benchmarks.baselines.mae import MAEConfig
from benchmarks.baselines.transformer import SkeletonEncoder
from slim_fast import SLiMEncoder
from slim_fast.model.frozen import freeze

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
MAE_FRAMES = MAEConfig().frames
MATMUL_SIZE = 4096
# Random weights well away from where training begins, so that attention has something to weigh.
SPREAD = 0.03
Run = Callable[[], list[float]]


@dataclass(frozen=True)
class Clips:
    """Random clips: `people` of the `slots` of each in the mean, the others zero."""

    clips: int
    people: float = 2
    slots: int = 2
    frames: int = 64
    joints: int = 25

    def draw(self, frames: int, precision: str, device: str) -> Tensor:
        """(clips, slots, frames, joints, 3)."""
        shape = (self.clips, self.slots, frames, self.joints, 3)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        more = torch.arange(self.clips) < round((self.people % 1) * self.clips)
        present = torch.arange(self.slots) < int(self.people) + more.int()[:, None]
        return (x * present[:, :, None, None, None]).to(device, PRECISIONS[precision])

    @property
    def case(self) -> dict[str, float]:
        """How records name such clips."""
        return {"clips": self.clips, "people": self.people, "places": self.slots}


def spread(model: nn.Module) -> None:
    """Move all weights away from where training begins."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=SPREAD)


def slim(joints: int) -> SLiMEncoder:
    """Ours, of the released sizes."""
    torch.manual_seed(0)
    encoder = SLiMEncoder(joints)
    spread(encoder)
    return encoder.eval()


def first_numbers(features: Tensor) -> list[float]:
    """Four numbers of the first token, by which encoders that should be the same are compared."""
    return features.flatten()[:4].tolist()


def ours(clips: Clips, precision: str, device: str) -> Run:
    """Our encoder, frozen; all of it in the precision, as the baselines are."""
    encoder = freeze(slim(clips.joints).to(device, PRECISIONS[precision]))
    x = clips.draw(clips.frames, precision, device)

    @torch.no_grad()
    def run() -> list[float]:
        people = x.flatten(0, 1)
        _, cls = encoder.encode_last_blocks(people[people.flatten(1).any(1)], None, 1)[0]
        return first_numbers(cls)

    return run


def slim_eager(clips: Clips, precision: str, device: str, compiled: bool = False) -> Run:
    """SLiM's encoder in eager PyTorch with SDPA; compiled: through torch.compile."""
    model = eager_encoder.Encoder(clips.joints)
    model.load_state_dict(slim(clips.joints).state_dict())
    model.eval().to(device, PRECISIONS[precision])
    x = clips.draw(clips.frames, precision, device).flatten(0, 1)
    if compiled:
        _compile(model)

    @torch.no_grad()
    def run() -> list[float]:
        return first_numbers(model(x))

    return run


def mae(
    clips: Clips,
    precision: str,
    device: str,
    explicit: bool = False,
    compiled: bool = False,
    piece: int | None = None,
) -> Run:
    """The masked autoencoder's encoder on all tokens of 120 frames.

    explicit: attention as its authors wrote it. piece: people at a time, whose scores may stay in
    the caches.
    """
    torch.manual_seed(0)
    model = SkeletonEncoder(
        MAEConfig(joints=clips.joints, attention="explicit" if explicit else "sdpa")
    )
    spread(model)
    model.eval().to(device, PRECISIONS[precision])
    x = clips.draw(MAE_FRAMES, precision, device).flatten(0, 1)
    if compiled:
        _compile(model)

    @torch.no_grad()
    def run() -> list[float]:
        return first_numbers(torch.cat([model(part) for part in x.split(piece or len(x))]))

    return run


def _compile(model: nn.Module) -> None:
    """As a whole, with its weights laid out once, as ours are."""
    model.compile(dynamic=False, options={"freezing": True})


def torch_matmul(clips: Clips, precision: str, device: str, size: int = MATMUL_SIZE) -> Run:
    """One large matmul of square matrices by torch.mm."""
    a, b, out = (torch.randn(size, size).to(device, PRECISIONS[precision]) for _ in range(3))

    def run() -> list[float]:
        torch.mm(a, b, out=out)
        return []

    return run


def onednn_matmul(clips: Clips, precision: str, device: str, size: int = MATMUL_SIZE) -> Run:
    """A quarter of that matmul by oneDNN, as slim_kernels calls it."""
    a = torch.randn(size // 4, size).to(device, PRECISIONS[precision])
    b = torch.randn(size, size).to(device, PRECISIONS[precision])

    def run() -> list[float]:
        matmul(a, b)
        return []

    return run
